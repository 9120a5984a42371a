"""Every command, through every failure, with secrets everywhere they can be: none is said, logged or saved.

The commands are those of the program, with whatever they ask for: a new one is covered by itself.
"""

from __future__ import annotations

import base64
import json
import logging
import socket
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from typer.main import get_command

import internlm_zoo as zoo
import internlm_zoo.cli as cli
from internlm_zoo.cli.shell import app, run
from internlm_zoo.errors import ZooError
from internlm_zoo.settings import Settings
from internlm_zoo.sources.hub_client import HubClient
from tests.world import ENDPOINTS, World, open_world

for _module in cli._MODULES:
    __import__(f"internlm_zoo.cli.{_module}")

pytestmark = pytest.mark.filterwarnings("ignore:sends")

CANARIES = {
    "HF_TOKEN": "canary-hf~1",
    "HUGGING_FACE_HUB_TOKEN": "canary-hub/2",
    "MODELSCOPE_API_TOKEN": "canary-ms+3==",
    "INTERNLM_ZOO_MODELERS_TOKEN": "canary-ml%4",
    "OPENXLAB_AK": "canary-ak-5",
    "OPENXLAB_SK": "canary-sk'6",
    "INTERNLM_ZOO_SERVE_TOKEN": "canary-serve\\7",
}
FILE, PROXY, ENDPOINT = "canary-file-8", "canary@proxy:9", "canary/endpoint?10"
SECRETS = (*CANARIES.values(), FILE, PROXY, ENDPOINT)
TYPED = "canary typed 11"
USER = "ann"

# What the commands' own arguments and options are given, by their names.
VALUES: dict[str, str] = {
    "model": "tiny",
    "models": "tiny",
    "target": "huggingface:acme/tiny",
    "src": "huggingface:acme/tiny",
    "dst": "{folder}/converted",
    "to": "llama",
    "prompt": "hello",
    "file": "{folder}/mirror.yaml",
    "directory": "{folder}/nothing",
    "folders": "{folder}/nothing",
    "one": "{folder}/nothing",
    "other": "{folder}/nothing",
    "source": "{source}",
    "summary": "{folder}/summary.md",
    "token_files": "huggingface={folder}/token",
    "from_hub": "",
    "yes": "",
}
MIRROR = "destination: there\nmodels: [tiny]\nformats: [hf]\nhubs: [huggingface, modelscope]\n"


def commands() -> dict[str, list[str]]:
    """Every command's words, from the program's own parser."""

    def leaves(command: Any, name: list[str]) -> Iterator[tuple[list[str], Any]]:
        for child, below in getattr(command, "commands", {}).items():
            yield from leaves(below, [*name, child])
        if not hasattr(command, "commands"):
            yield name, command

    found = {}
    for name, command in leaves(get_command(app), []):
        words = list(name)
        for parameter in command.params:
            value = VALUES.get(parameter.name)
            if parameter.required:
                assert value is not None, f"say in VALUES what {parameter.name} of {name} may be"
            if value is None or (parameter.name == "file" and not parameter.required):
                continue
            if parameter.param_type_name == "argument":
                words.append(value)
            else:
                words += [parameter.opts[0], *([value] if value else [])]
        found[" ".join(name)] = words
    return found


# It waits for requests, or runs hubs of its own and models: these fail before they begin.
BEGINS = {"serve": ["--port", "80000"], "demo": ["--keep", "/dev/null/there"]}


def reject(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hubs that repeat what they were sent."""
    world.fault("rejects", "/*")
    world.fault(401, "/*")


def in_trouble(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fault("rejects", "/*", status=500)
    world.fault(500, "/*", body=" ".join(SECRETS))


def wrong_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fault("flip", "*")


def nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is well."""


def no_header(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CANARIES:
        world.environ[name] = f"{CANARIES[name]}\n{CANARIES[name]}"
    (world.folder / "token").write_bytes(f"{FILE}\n{FILE}".encode("utf-16"))


def dead(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        world.environ |= dict.fromkeys(ENDPOINTS.values(), f"http://127.0.0.1:{taken.getsockname()[1]}")


def no_tls(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENDPOINTS.values():
        world.environ[name] = world.environ[name].replace("http:", "https:")


def dead_proxy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.environ |= {"no_proxy": "", "http_proxy": f"http://{USER}:{quote(PROXY, safe='')}@127.0.0.1:9"}


def bad_proxy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.environ |= {"no_proxy": "", "http_proxy": f"{USER}:{PROXY}@127.0.0.1:99999"}


def password_of_a_hub(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = quote(ENDPOINT, safe="")
    for name in ENDPOINTS.values():
        world.environ[name] = world.environ[name].replace("://", f"://{USER}:{secret}@")
    world.fault("rejects", "/*")


def bad_endpoint(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.environ |= dict.fromkeys(ENDPOINTS.values(), f"http://{USER}:{ENDPOINT}@127.0.0.1:x")


def fault_of_ours(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """That shows everything, and that libraries talk of."""

    def fail(client: HubClient, *_: object, **__: object) -> None:
        logging.getLogger("urllib3.connectionpool").warning("sends %s", dict(client.headers))
        warnings.warn(f"sends {dict(client.headers)}", stacklevel=1)
        print(f"sends {dict(client.headers)}")
        raise KeyError(f"Illegal header value {' '.join(SECRETS)!r}", SECRETS)

    monkeypatch.setattr(HubClient, "get", fail)
    monkeypatch.setattr(HubClient, "post", fail)


def fault_before_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(settings: Settings, *_: object, **__: object) -> None:
        known = (secret for secret in SECRETS if secret != FILE)  # which nobody has read yet
        raise RuntimeError(f"{' '.join(known)} {settings.environ}")

    monkeypatch.setattr(Settings, "with_options", fail)


def url_of_the_user(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which works, with a password in it."""
    url = world.hubs["huggingface"].url
    world.environ["SPOKEN"] = url.replace("://", f"://{USER}:{quote(TYPED, safe='')}@")


def wrong_url_of_the_user(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.environ["SPOKEN"] = f"http://{USER}:{quote(TYPED, safe='')}@127.0.0.1:9"


def password_in_the_registry(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = f"endpoint: http://{USER}:{TYPED.replace(' ', '/')}@127.0.0.1:9, endpoint_env: []"
    path = world.folder / "overlay.yaml"
    path.write_text(f"hubs:\n  huggingface: {{{hub}}}\n" + path.read_text())


def word_of_the_user(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a secret was typed as a name."""
    world.environ["SPOKEN"] = CANARIES["HF_TOKEN"]


QUICK = (fault_of_ours, fault_before_all)
SLOW = (
    *(in_trouble, wrong_bytes, nothing, no_header, dead, no_tls, dead_proxy, bad_proxy, bad_endpoint),
    reject,
    password_of_a_hub,
    url_of_the_user,
    password_in_the_registry,
    wrong_url_of_the_user,
    word_of_the_user,
)
Failure = Callable[[World, pytest.MonkeyPatch], None]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        world = open_world(tmp_path, stack)
        (tmp_path / "mirror.yaml").write_text(MIRROR)
        (tmp_path / "token").write_text(FILE)
        urls = {"ftp_proxy": PROXY, "ANOTHER_ENDPOINT": ENDPOINT}
        world.environ |= {
            name: f"https://{USER}:{quote(word, safe='')}@host.example" for name, word in urls.items()
        }
        world.environ |= {**CANARIES, "INTERNLM_ZOO_TRIES": "1"}
        yield world


@pytest.mark.parametrize(
    "failure",
    [*QUICK, *(pytest.param(failure, marks=pytest.mark.slow) for failure in SLOW)],
    ids=lambda failure: failure.__name__,
)
def test_no_command_says_or_saves_a_secret(
    world: World,
    failure: Failure,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    failure(world, monkeypatch)
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(world.folder)
    where = {"folder": world.folder, "source": world.environ.get("SPOKEN", "huggingface")}
    codes, modes = (
        set(),
        [["--debug"], ["--json"]] if failure in (*QUICK, reject) else [["--json", "--debug"]],
    )
    for name, words in commands().items():
        if failure is fault_of_ours and "--token-file" not in words:
            continue  # they ask no hub
        args = [*(word.format(**where) for word in words), *BEGINS.get(name, [])]
        for mode in modes:
            codes.add(code := run([*args, *mode]))
            out = capsys.readouterr()
            assert_none(out.out + out.err + caplog.text, f"{name} {mode} ({code})")
            # A library prints while it is imported, of an endpoint that is none.
            if "--json" in mode and out.out and failure not in (fault_of_ours, bad_endpoint):
                json.loads(out.out)
            caplog.clear()
    assert codes != {2}, "they come further than to their options"
    for path in world.folder.rglob("*"):
        if path.is_file() and path.name not in ("token", "overlay.yaml") and world.root not in path.parents:
            assert_none(path.read_bytes().decode("latin-1"), str(path))


@pytest.mark.parametrize(
    "failure",
    [fault_of_ours, *(pytest.param(failure, marks=pytest.mark.slow) for failure in SLOW)],
    ids=lambda failure: failure.__name__,
)
def test_no_error_of_the_python_functions_holds_a_secret(
    world: World, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure(world, monkeypatch)
    settings = Settings.from_environment(world.environ)
    token_file = None if "SPOKEN" in world.environ else f"huggingface={world.folder / 'token'}"
    for source in filter(None, (*ENDPOINTS, world.environ.get("SPOKEN"))):
        for function in (zoo.download, zoo.plan_download):
            try:
                function("tiny", source=source, token_file=token_file, settings=settings)
            except (ZooError, KeyError) as error:
                assert_none("".join(traceback.format_exception(error)), f"{source} {error!r}")
                assert_none(repr((error.args, vars(error))), source)


def assert_none(text: str, where: str) -> None:
    found = [line for line in text.splitlines() if any(form in line for form in FORMS)]
    assert not found, f"{where}: {found[0][:300]}"


def _forms() -> Iterator[str]:
    for secret in (*SECRETS, TYPED):
        yield secret
        yield quote(secret, safe="")
        yield quote(secret)
        for text in (secret, f"{USER}:{secret}"):
            yield base64.b64encode(text.encode()).decode().rstrip("=")


FORMS = (*_forms(), "canary")

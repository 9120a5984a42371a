"""Credentials go to their own hub and nowhere else: no other host, no file, no line of output."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

import internlm_zoo.cli.download  # noqa: F401 - importing registers the commands
from internlm_zoo.cli.shell import run
from internlm_zoo.errors import ZooError
from tests.downloads.fault_table import LISTINGS
from tests.hubs import FaultyHub
from tests.hubs.authority import Authority
from tests.world import ENDPOINTS, FILES, WEIGHTS, World, content_below, open_world

HUBS = tuple(ENDPOINTS)
SECRET = "sesame-open-3f9a"
ACCESS_KEY = "ali-baba"
VARIABLES = {
    "HF_TOKEN": SECRET,
    "MODELSCOPE_API_TOKEN": SECRET,
    "INTERNLM_ZOO_MODELERS_TOKEN": SECRET,
    "OPENXLAB_AK": ACCESS_KEY,
    "OPENXLAB_SK": SECRET,
}
OWN = {
    "huggingface": "HF_",
    "modelscope": "MODELSCOPE_",
    "modelers": "INTERNLM_ZOO_MODELERS_",
    "openxlab": "OPENXLAB_",
}
SIGN_IN = "/api/v1/sso-be/*"
OPENXLAB_VENV = Path(__file__).parents[2] / ".cache" / "venvs" / "openxlab" / "bin" / "python"


@dataclass
class Guarded:
    """A world of which one hub wants the token; all variables with it are set."""

    world: World
    hub: FaultyHub

    @property
    def secrets(self) -> set[str]:
        """The token, and whatever stood in its place on the wire."""
        words = {word for seen in self.hub.requests for word in seen.headers.get("Authorization", "").split()}
        return {SECRET, *words} - {"Bearer"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def guarded(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Guarded]]:
    """Makes one: of which hub, and whether it speaks https."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.pem))  # huggingface_hub reads no other environment
    huggingface_hub.close_session()
    with ExitStack() as stack:

        def make(name: str, *, https: bool = False) -> Guarded:
            world = open_world(tmp_path, stack)
            tls = authority.server if https else None
            hub = stack.enter_context(FaultyHub(world.root, tokens={SECRET}, tls=tls))
            world.environ |= {
                ENDPOINTS[name]: hub.url,
                "SSL_CERT_FILE": str(authority.pem),
                **VARIABLES,
            }
            return Guarded(world, hub)

        yield make
    huggingface_hub.close_session()


def carried(guarded: Guarded) -> dict[tuple[str, str], bool]:
    """Scheme and host of whoever was asked -> whether anything secret came along."""
    found: dict[tuple[str, str], bool] = {}
    for seen in guarded.hub.requests:
        about = str(dict(seen.headers)) + seen.path + str(seen.query)
        leaks = any(secret in about for secret in guarded.secrets)
        bears = "Authorization" in seen.headers or "Cookie" in seen.headers
        door = seen.scheme, seen.host
        found[door] = found.get(door, False) or leaks or bears
    return found


PLACES = [*product(HUBS, ("files", "listing")), ("openxlab", "sign-in")]
SHAPES = [
    ("http", "same"), ("http", "other-port"), ("http", "other-host"),
    ("https", "same"), ("https", "other-port"), ("https", "other-host"), ("https", "plain"),
]  # fmt: skip


@pytest.mark.parametrize(("scheme", "to"), SHAPES)
@pytest.mark.parametrize(("name", "where"), PLACES)
def test_no_redirect_takes_a_credential_along(
    guarded: Callable[..., Guarded], name: str, where: str, scheme: str, to: str
) -> None:
    made = guarded(name, https=scheme == "https")
    path = {"files": "*", "listing": LISTINGS[name], "sign-in": SIGN_IN}[where]
    made.hub.fault("redirect", path, to=to)
    try:
        done = made.world.download(source=name, format="hf")
    except ZooError as error:
        assert SECRET not in str(error)
        # Who asks by POST follows nothing; nothing comes in plain text from a hub with TLS.
        posted = name == "openxlab" and where != "files"
        assert posted or (to == "plain" and "redirects from https to plain http" in str(error))
    else:
        assert content_below(done.path) == FILES
    doors = carried(made)
    own = scheme, made.hub.url.partition("://")[2]
    assert doors.pop(own) or where == "sign-in"
    assert not any(doors.values())
    followed = to not in ("same", "plain")
    assert bool(doors) == (followed and not (name == "openxlab" and where != "files"))


@pytest.mark.parametrize("name", HUBS)
def test_the_other_hubs_get_no_token_that_is_not_theirs(guarded: Callable[..., Guarded], name: str) -> None:
    """Each hub its own variables: with those of the others set, it is asked as by a stranger."""
    made = guarded(name)
    own = OWN[name]
    for variable in VARIABLES:
        if variable.startswith(own):
            del made.world.environ[variable]
    with pytest.raises(ZooError) as caught:
        made.world.download(source=name, format="hf")
    assert caught.value.exit_code == 4
    assert not any(carried(made).values())


@pytest.mark.parametrize(
    "fault", [None, ("flip", WEIGHTS), ("reset", "*"), (403, "/api/*"), (401, "*")], ids=str
)
@pytest.mark.parametrize("name", HUBS)
def test_nothing_secret_is_said_or_kept(
    guarded: Callable[..., Guarded],
    name: str,
    fault: tuple[Any, str] | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = guarded(name)
    made.world.environ["INTERNLM_ZOO_TRIES"] = "1"
    if fault:
        made.hub.fault(*fault)
    for variable, value in made.world.environ.items():
        monkeypatch.setenv(variable, value)
    caplog.set_level(logging.DEBUG)
    said = ""
    for options in (["--json"], ["--dry-run", "--json"], []):
        code = run(["download", "tiny", "--source", name, "--format", "hf", *options])
        out = capsys.readouterr()
        said += out.out + out.err
        assert (code == 0) == (fault is None or (bool(options[:-1]) and fault[1] in (WEIGHTS, "*")))
    secrets = made.secrets
    assert len(secrets) > (name == "openxlab") or fault == (403, "/api/*")
    for secret in secrets:
        assert secret not in said
        assert secret not in caplog.text
    assert "Signature" not in said
    assert_kept_nothing(made)


@pytest.mark.parametrize("name", HUBS)
def test_a_killed_download_leaves_nothing_secret(guarded: Callable[..., Guarded], name: str) -> None:
    made = guarded(name)
    made.hub.fault("stall", WEIGHTS, after=200_000)
    command = "import internlm_zoo.cli.download; from internlm_zoo.cli.shell import run; import sys; "
    command += "sys.exit(run(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "download", "tiny", "--source", name, "--format", "hf"],
        env={**os.environ, **made.world.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    made.hub.wait(lambda: sum(seen.sent for seen in made.hub.downloads(WEIGHTS)) > 100_000)
    process.kill()
    said = "".join(process.communicate())
    assert list(made.world.home.glob("partial/*.part"))
    assert not any(secret in said for secret in made.secrets)
    assert_kept_nothing(made)


def assert_kept_nothing(made: Guarded) -> None:
    """No file below the user's home or ours holds a secret, nor a link that is as good as one."""
    words = [word.encode() for word in (*made.secrets, "Signature=")]
    for path in made.world.folder.rglob("*"):
        if path.is_file() and made.world.root not in path.parents:
            content = path.read_bytes()
            assert not [word for word in words if word in content], path


# What the official clients have saved


def save_huggingface(home: Path, url: str) -> list[Path]:
    code = (
        "import sys; from huggingface_hub._login import _save_token, _set_active_token;"
        "_save_token(sys.argv[1], 'mine'); _set_active_token('mine', False)"
    )
    subprocess.run([sys.executable, "-c", code, SECRET], env=of_user(home), check=True)
    return [home / ".cache" / "huggingface" / name for name in ("token", "stored_tokens")]


def save_modelscope(home: Path, url: str) -> list[Path]:
    code = (
        "import sys; from modelscope_hub import HubConfig; config = HubConfig(endpoint=sys.argv[1]);"
        "config.save_token(sys.argv[2]); config.save_user_info('ali', 'ali@example.org');"
        "config.save_git_token('git'); config.get_session_id()"
    )
    subprocess.run([sys.executable, "-c", code, url, SECRET], env=of_user(home), check=True)
    return [
        home / ".modelscope" / "credentials" / name for name in ("cookies", "user", "git_token", "session")
    ]


def save_openxlab(home: Path, url: str) -> list[Path]:
    if not OPENXLAB_VENV.exists():
        pytest.skip("the openxlab package is not there: make clients")
    code = (
        "import sys; from openxlab.xlab.handler import user_login, user_token;"
        "user_token.AUTH_CLIENT.endpoint = sys.argv[1] + '/api/v1/sso-be/api/v1/open/';"
        "user_login.login(sys.argv[2], sys.argv[3])"
    )
    subprocess.run([OPENXLAB_VENV, "-c", code, url, ACCESS_KEY, SECRET], env=of_user(home), check=True)
    return [home / ".openxlab" / name for name in ("config.json", "token.json")]


def of_user(home: Path) -> dict[str, str]:
    """The environment of a user whose home this is, and nothing else of the kind."""
    foreign = ("HF_", "MODELSCOPE_", "OPENXLAB_", "XDG_")
    return {**{k: v for k, v in os.environ.items() if not k.startswith(foreign)}, "HOME": str(home)}


# The client of Modelers saves nothing.
SAVE = {"huggingface": save_huggingface, "modelscope": save_modelscope, "openxlab": save_openxlab}


@pytest.mark.parametrize("name", SAVE)
def test_what_the_official_client_saved_is_used_and_left_as_it_is(
    guarded: Callable[..., Guarded], name: str
) -> None:
    made = guarded(name)
    for variable in VARIABLES:
        del made.world.environ[variable]
    saved = SAVE[name](made.world.folder, made.hub.url)
    assert all(path.is_file() for path in saved)
    before = {path: state(path) for path in below(made.world.folder)}
    done = made.world.download(source=name, format="hf")
    assert content_below(done.path) == FILES
    assert {path: state(path) for path in before} == before
    own = {path for path in below(made.world.folder) if made.world.home not in path.parents}
    assert own == set(before)


@pytest.mark.parametrize("name", HUBS)
def test_a_token_in_the_json_of_an_error_is_none(
    guarded: Callable[..., Guarded],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A wrong token is refused by the hub, which may repeat it; we do not."""
    made = guarded(name)
    wrong = "wrong-token-77"
    for variable, value in {**made.world.environ, **dict.fromkeys(VARIABLES, wrong)}.items():
        monkeypatch.setenv(variable, value)
    code = run(["download", "tiny", "--source", name, "--format", "hf", "--json"])
    out = capsys.readouterr()
    assert code == json.loads(out.out)["error"]["exit_code"] == 4
    assert wrong not in out.out + out.err


def below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def state(path: Path) -> tuple[bytes, int, int]:
    stat = path.stat()
    return path.read_bytes(), stat.st_mtime_ns, stat.st_mode

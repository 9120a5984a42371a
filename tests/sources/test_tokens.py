"""Tokens as people leave them: with line ends around, expired, in files; said by their place, never shown."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import huggingface_hub
import pytest

import internlm_zoo as zoo
import internlm_zoo.cli as cli
from internlm_zoo.cli.shell import run
from internlm_zoo.errors import CredentialError, ZooError
from internlm_zoo.settings import Settings
from tests.environment import ENVIRONMENTS, NOBODY, run_in
from tests.hubs import FaultyHub
from tests.sources.test_credentials import SIGN_IN
from tests.world import ENDPOINTS, FILES, World, content_below, open_world

for _module in cli._MODULES:
    __import__(f"internlm_zoo.cli.{_module}")

SECRET = "sesame-open-77c1"
VARIABLES = {
    "huggingface": "HF_TOKEN",
    "modelscope": "MODELSCOPE_API_TOKEN",
    "modelers": "INTERNLM_ZOO_MODELERS_TOKEN",
    "openxlab": "OPENXLAB_SK",
}
ORIGINS = {**VARIABLES, "openxlab": "OPENXLAB_AK and OPENXLAB_SK"}
WITH_HEADERS = ("huggingface", "modelscope", "modelers")

Zoo = Callable[..., tuple[int, str, str]]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        world = open_world(tmp_path, stack)
        huggingface_hub.close_session()
        yield world
        huggingface_hub.close_session()


@pytest.fixture
def call(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Zoo]:
    """The command line in the world's environment; nothing it says, and no file, may hold the secret."""
    said = ""

    def call(*args: object) -> tuple[int, str, str]:
        nonlocal said
        for name, value in world.environ.items():
            monkeypatch.setenv(name, value)
        code = run([str(arg) for arg in args])
        out = capsys.readouterr()
        said += out.out + out.err
        return code, out.out, out.err

    yield call
    assert SECRET not in said
    for path in world.home.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


@pytest.fixture
def private(world: World) -> Iterator[Callable[[str], FaultyHub]]:
    """Makes one of the hubs give its files to who has the token only."""
    with ExitStack() as stack:

        def make(name: str) -> FaultyHub:
            hub = stack.enter_context(FaultyHub(world.root, tokens={SECRET}))
            world.environ[ENDPOINTS[name]] = hub.url
            return hub

        yield make


def log_in(world: World, name: str, token: str = SECRET) -> None:
    world.environ[VARIABLES[name]] = token
    if name == "openxlab":
        world.environ["OPENXLAB_AK"] = "ali-baba"


# Rejected


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("name", VARIABLES)
def test_what_is_public_is_had_without_a_token_that_is_rejected(world, call, name, status):
    log_in(world, name)
    world.fault("rejects", "/*", hubs=name, status=status)
    code, out, err = call("download", "tiny", "--source", name, "--format", "hf")
    assert code == 0 and content_below(Path(out.strip())) == FILES
    assert f"{name} rejects the {'keys' if name == 'openxlab' else 'token'} from {ORIGINS[name]}" in err
    assert err.count("rejects") == 1


def test_keys_that_the_hub_does_not_know_are_rejected_at_the_sign_in(world, call):
    log_in(world, "openxlab")
    world.fault(403, SIGN_IN, hubs="openxlab")
    code, _, err = call("download", "tiny", "--source", "openxlab", "--format", "hf")
    assert code == 0 and "openxlab rejects the keys from OPENXLAB_AK and OPENXLAB_SK" in err


@pytest.mark.parametrize("name", WITH_HEADERS)
def test_a_token_that_runs_out_after_the_listing_is_rejected_with_the_bytes(world, call, name):
    log_in(world, name)
    world.fault("rejects", "*", hubs=name)
    code, out, err = call("download", "tiny", "--source", name, "--format", "hf", "--max-workers", "1")
    assert code == 0 and content_below(Path(out.strip())) == FILES
    assert err.count(f"{name} rejects the token from {VARIABLES[name]}") == 1
    refused = [seen for seen in world.hubs[name].downloads() if seen.status == 401]
    assert len(refused) <= 1


def test_a_token_that_is_rejected_with_the_bytes_stops_no_reading_by_ranges(world, call):
    log_in(world, "huggingface")
    world.fault("rejects", "*", hubs="huggingface")
    _, out, err = call("inspect", "huggingface:acme/tiny", "--json")
    assert err.count("huggingface rejects the token from HF_TOKEN") == 1
    assert "config.json" in out or "error" not in out
    assert [seen.status for seen in world.hubs["huggingface"].downloads("config.json")] == [401, 206]


@pytest.mark.parametrize("name", VARIABLES)
def test_a_rejected_token_is_blamed_where_nothing_is_had_without_it(world, call, private, name):
    private(name)
    log_in(world, name, "wrong-token-12")
    code, _, err = call("download", "tiny", "--source", name, "--format", "hf")
    assert code == 4
    assert f"from {ORIGINS[name]} was sent, and rejected" in err and "wrong-token-12" not in err


@pytest.mark.parametrize("name", WITH_HEADERS)
def test_a_rejected_token_is_blamed_for_the_bytes_too(world, call, private, name):
    private(name).fault(403, "*")
    log_in(world, name)
    code, _, err = call("download", "tiny", "--source", name, "--format", "hf")
    assert code == 4 and f"the token from {VARIABLES[name]} was sent, and rejected" in err


def test_every_verb_that_asks_hubs_says_that_a_token_is_rejected(world, call, tmp_path):
    log_in(world, "huggingface")
    world.fault("rejects", "/*", hubs="huggingface")
    mirror = tmp_path / "mirror.yaml"
    mirror.write_text("destination: there\nmodels: [tiny]\nformats: [hf]\nhubs: [huggingface]\n")
    _, out, _ = call("download", "tiny", "--dry-run", "--json")
    assert "huggingface rejects the token from HF_TOKEN" in out
    for command in (
        ["download", "tiny", "--dry-run"],
        ["lock", "tiny"],
        ["status", "tiny"],
        ["mirror", "plan", mirror],
        ["mirror", "apply", mirror, "--summary", tmp_path / "summary.md"],
        ["inspect", "huggingface:acme/tiny"],
    ):
        _, _, err = call(*command)
        assert err.count("huggingface rejects the token from HF_TOKEN") == 1, command
    assert "rejects the token" in (tmp_path / "summary.md").read_text()


# As they are left in variables and files

AROUND = {
    "a line end of Windows": f"{SECRET}\r\n",
    "blanks": f"  {SECRET}\t \n",
    "a byte order mark": f"\ufeff{SECRET}",
    "quotation marks": f'"{SECRET}"',
}
CODED = {
    "utf-8-sig": f"{SECRET}\r\n".encode("utf-8-sig"),
    "utf-16": f"{SECRET}\r\n".encode("utf-16"),
    "utf-16-be": b"\xfe\xff" + f"{SECRET}\r\n".encode("utf-16-be"),
    "nul": f"{SECRET}\0\n".encode(),
}


@pytest.mark.parametrize(
    ("name", "around"),
    [*(("huggingface", around) for around in AROUND), *((name, "blanks") for name in VARIABLES)],
)
def test_what_surrounds_a_token_in_a_variable_is_not_part_of_it(world, call, private, name, around):
    private(name)
    log_in(world, name, AROUND[around])
    assert call("download", "tiny", "config.json", "--source", name, "--format", "hf")[0] == 0


@pytest.mark.parametrize(
    ("place", "coding"),
    [*(("saved", coding) for coding in CODED), ("HF_TOKEN_PATH", "utf-16"), ("--token-file", "utf-16")],
)
def test_token_files_are_read_in_the_codings_of_their_writers(world, call, private, tmp_path, place, coding):
    private("huggingface")
    path = tmp_path / ".cache" / "huggingface" / "token" if place == "saved" else tmp_path / "a token"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CODED[coding])
    if place == "HF_TOKEN_PATH":
        world.environ["HF_TOKEN_PATH"] = str(path)
    options = ["--token-file", path] if place == "--token-file" else []
    assert call("download", "tiny", "config.json", "--source", "huggingface", *options)[0] == 0


@pytest.mark.parametrize("variable", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_both_variables_of_hugging_face_are_read_the_first_first(world, call, private, variable):
    private("huggingface")
    world.environ |= {"HUGGING_FACE_HUB_TOKEN": "another-token", variable: SECRET}
    assert call("download", "tiny", "config.json", "--source", "huggingface")[0] == 0


FLAWS = {
    "more than one line": f"{SECRET}\n{SECRET}x",
    "blanks": f"{SECRET} {SECRET}x",
    "control characters": f"{SECRET}\x07x",
    "not ASCII": f"{SECRET}ä",
}


@pytest.mark.parametrize(
    ("name", "flaw"),
    [*(("huggingface", flaw) for flaw in FLAWS), *((name, "more than one line") for name in VARIABLES)],
)
def test_what_cannot_be_a_header_is_refused_by_the_name_of_its_variable(world, call, name, flaw):
    log_in(world, name, FLAWS[flaw])
    code, _, err = call("download", "tiny", "--source", name, "--format", "hf", "--debug")
    assert code == 2 and f"what {VARIABLES[name]} holds is no credential" in err and flaw in err
    assert not world.hubs[name].requests


@pytest.mark.parametrize(
    ("place", "content"),
    [
        ("saved", f"{SECRET}\n{SECRET}".encode()),
        ("HF_TOKEN_PATH", SECRET.encode("utf-16-le")),
        ("--token-file", b"\xff\xfa" + SECRET.encode()),
    ],
    ids=["lines", "no byte order mark", "no text"],
)
def test_what_cannot_be_a_header_is_refused_by_the_name_of_its_file(world, call, tmp_path, place, content):
    path = tmp_path / ".cache" / "huggingface" / "token" if place == "saved" else tmp_path / "mine"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if place == "HF_TOKEN_PATH":
        world.environ["HF_TOKEN_PATH"] = str(path)
    options = ["--token-file", path] if place == "--token-file" else []
    code, _, err = call("download", "tiny", "--source", "huggingface", *options)
    assert code == 2 and str(path) in err and "no credential" in err


def test_another_hub_does_where_the_credential_of_one_cannot_be(world, call):
    log_in(world, "huggingface", FLAWS["blanks"])
    code, out, err = call("download", "tiny", "--format", "hf")
    assert code == 0 and "modelscope" in out and "what HF_TOKEN holds is no credential" in err
    code, out, _ = call("status", "tiny", "--json")
    assert '"unreachable"' in out and '"gone"' not in out


def test_half_a_pair_of_keys_is_a_mistake_of_usage(world, call):
    world.environ["OPENXLAB_AK"] = "ali-baba"
    code, _, err = call("download", "tiny", "--source", "openxlab")
    assert code == 2 and "OPENXLAB_SK is not set" in err


# --token-file


@pytest.mark.parametrize("name", VARIABLES)
def test_a_token_file_is_for_the_source_or_for_the_hub_it_names(world, call, private, tmp_path, name):
    hub = private(name)
    path = tmp_path / "mine"
    path.write_text(f'{{"ak": "ali-baba", "sk": "{SECRET}"}}' if name == "openxlab" else f"{SECRET}\n")
    world.environ["HF_TOKEN"] = world.environ["MODELSCOPE_API_TOKEN"] = "less-than-the-file"
    options = ["tiny", "config.json", "--format", "hf"]
    assert call("download", *options, "--source", name, "--token-file", path)[0] == 0
    assert call("download", *options, "--token-file", f"{name}={path}", "--dry-run")[0] == 0
    assert call("lock", "tiny", "--token-file", f"{name}={path}")[0] == 0
    assert hub.requests
    for other in (other for other in world.hubs.values() if other is not hub):
        assert not any(SECRET in str(dict(seen.headers)) for seen in other.requests)


@pytest.mark.parametrize("command", [["download", "tiny"], ["lock", "tiny"], ["status"]], ids=" ".join)
def test_a_token_file_that_is_nobodys_goes_nowhere(world, call, tmp_path, command):
    (tmp_path / "mine").write_text(SECRET)
    code, _, err = call(*command, "--token-file", tmp_path / "mine")
    assert code == 2 and "does not say for which hub it is" in err and "HUB=" in err
    assert not world.requests


@pytest.mark.parametrize("name", WITH_HEADERS)
def test_a_url_as_the_source_gets_the_token_that_is_named_for_it(world, call, private, tmp_path, name):
    hub = private(name)
    (tmp_path / "mine").write_text(SECRET)
    options = ["tiny", "config.json", "--source", hub.url, "--format", "hf"]
    log_in(world, name)
    assert call("download", *options)[0] != 0, "the hub's own token goes to no other place"
    assert call("download", *options, "--token-file", tmp_path / "mine")[0] == 0


def test_a_pipe_is_a_token_file_too_and_read_once(world, call, private, tmp_path):
    private("huggingface")
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=(f"{SECRET}\n",), daemon=True)
    writer.start()
    assert call("lock", "tiny", "--token-file", f"huggingface={tmp_path / 'pipe'}")[0] == 0


@pytest.mark.parametrize("content", [None, b"", b"\n", "a folder"])
def test_a_token_file_without_a_token_is_refused(world, call, tmp_path, content):
    path = tmp_path / "mine"
    if content == "a folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    code, _, err = call("download", "tiny", "--source", "huggingface", "--token-file", path)
    assert code == 2 and str(path) in err and not world.requests


@pytest.mark.parametrize("command", ["download tiny --source modelscope", "serve .", "lock", "status tiny"])
def test_a_token_in_place_of_its_file_is_not_shown(call, command):
    token = f"hf_{command.split()[0]}{'aQ7' * 10}"  # that nobody has told us of
    for mode in ("--debug", "--json"):
        code, out, err = call(*command.split(), "--token-file", token, mode)
        assert code in (2, 4) and "token" in out + err and token not in out + err


def test_a_mistyped_token_file_is_named(call):
    assert "(my-tokn)" in call("download", "tiny", "--source", "modelscope", "--token-file", "my-tokn")[2]


def test_the_python_functions_take_a_token_file(world, private, tmp_path):
    private("huggingface")
    (tmp_path / "mine").write_text(f"{SECRET}\n")
    settings = Settings.from_environment(world.environ)
    how = {"source": "huggingface", "settings": settings}
    with pytest.raises(ZooError):
        zoo.download("tiny", **how)
    path = zoo.download("tiny", token_file=tmp_path / "mine", **how)
    assert content_below(path) == FILES
    assert zoo.plan_download("tiny", token_file=tmp_path / "mine", **how).files
    with pytest.raises(CredentialError, match="cannot be read"):
        zoo.download("tiny", token_file=tmp_path / "none", **how)


SAVED = {
    "huggingface": ".cache/huggingface/token",
    "modelscope": ".modelscope/credentials/cookies",
    "openxlab": ".openxlab/config.json",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAVED)
def test_a_saved_login_that_may_not_be_read_is_said_and_done_without(world, name):
    closed = world.folder / SAVED[name]
    closed.parent.mkdir(parents=True)
    closed.write_text("x")
    closed.chmod(0o600)
    os.chown(closed, NOBODY, NOBODY)
    options = ["download", "tiny", "--source", name, "--format", "hf"]
    done = run_in(ENVIRONMENTS["squashed root"], options, world.environ, odd=world.home)
    assert done.code == 0, done.err
    said = f"may be in {closed}, but: Permission denied" in done.err
    assert said or name == "modelscope"  # its package takes that for no login

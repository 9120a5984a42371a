"""An overlay, which may be of others, sends no login anywhere: to no other address of a hub of ours, under no
other name, by the name of no variable that holds somebody's secret, and not where others can read it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import internlm_zoo.cli.catalogue
import internlm_zoo.cli.download  # noqa: F401 - importing registers the commands
from internlm_zoo.cli.shell import run
from internlm_zoo.registry import RegistryError, read_registry
from internlm_zoo.settings import Settings
from internlm_zoo.sources.credentials import credentials_of, with_token_files
from internlm_zoo.sources.endpoints import is_plaintext
from tests.hubs import FaultyHub
from tests.world import FILES, OVERLAY, World, content_below, open_world

SECRET = "sesame-open-3f9a"
SET = {
    **dict.fromkeys(("HF_TOKEN", "MODELSCOPE_API_TOKEN", "INTERNLM_ZOO_MODELERS_TOKEN"), SECRET),
    **dict.fromkeys(("OPENXLAB_AK", "OPENXLAB_SK", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN"), SECRET),
    "INTERNLM_ZOO_SERVE_TOKEN": SECRET,
}
SHIPPED = {
    "huggingface": "HF_ENDPOINT",
    "modelscope": "MODELSCOPE_ENDPOINT",
    "modelers": "INTERNLM_ZOO_MODELERS_ENDPOINT",
    "openxlab": "INTERNLM_ZOO_OPENXLAB_ENDPOINT",
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The user has every login there is; no variable says where a hub is."""
    with ExitStack() as stack:
        world = open_world(tmp_path, stack)
        for variable in SHIPPED.values():
            del world.environ[variable]
        world.environ |= SET
        yield world


def overlay(world: World, hubs: str, models: str = OVERLAY) -> Settings:
    (world.folder / "overlay.yaml").write_text(f"hubs:\n  {hubs}\n{models}")
    return world.settings


def headers_seen(world: World) -> str:
    return " ".join(
        str(seen.headers) + str(seen.query) for hub in world.hubs.values() for seen in hub.requests
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_another_address_for_a_hub_of_ours_gets_no_login_and_that_is_said(world, name):
    url = world.hubs[name].url
    settings = overlay(world, f"{name}: {{endpoint: '{url}'}}")
    login = credentials_of(read_registry(settings.registry).hubs[name], settings)
    assert not login.values and f"your login for {name} is not sent to {url}" in login.notes[0]
    assert "overlay.yaml:2" in login.notes[0] and SHIPPED[name] in login.notes[0]
    if name in ("huggingface", "openxlab"):
        assert content_below(world.download(source=name).path) == FILES
        assert world.hubs[name].requests and SECRET not in headers_seen(world)


@pytest.mark.parametrize("name", SHIPPED)
def test_an_address_of_the_users_own_gets_the_login_whatever_an_overlay_says(world, name):
    world.environ[SHIPPED[name]] = url = world.hubs[name].url
    settings = overlay(world, f"{name}: {{endpoint: 'https://evil.test'}}")
    hub = read_registry(settings.registry).hubs[name]
    assert credentials_of(hub, settings).values[0] == SECRET
    if name == "openxlab":
        return  # which is signed in to, and shows what it was sent in no header
    world.download("config.json", source=name)
    assert SECRET in headers_seen(world)
    assert {seen.host for seen in world.hubs[name].requests} == {url.partition("://")[2]}


def test_what_an_overlay_says_as_this_package_does_changes_nothing(world):
    settings = overlay(world, "huggingface: {endpoint: https://huggingface.co/, token_env: [HF_TOKEN]}")
    assert credentials_of(read_registry(settings.registry).hubs["huggingface"], settings).values == (SECRET,)


@pytest.mark.parametrize(
    "fields",
    [
        "protocol: huggingface",
        "protocol: huggingface, token_env: [INTERNLM_ZOO_LAB_TOKEN]",
        "protocol: openxlab, token_env: [INTERNLM_ZOO_LAB_AK, INTERNLM_ZOO_LAB_SK]",
        "protocol: modelscope, token_env: [INTERNLM_ZOO_LAB_TOKEN], endpoint_env: [LAB_ENDPOINT]",
    ],
)
def test_a_hub_of_another_name_gets_nothing_that_was_saved_for_ours(world, tmp_path, fields):
    for place in (".cache/huggingface/token", ".openxlab/config.json"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(
            f'{{"ak": "{SECRET}", "sk": "{SECRET}"}}' if "json" in place else SECRET
        )
    world.environ["LAB_ENDPOINT"] = "https://lab.test"
    settings = overlay(world, f"lab: {{title: Lab, endpoint: 'https://lab.test', {fields}}}")
    assert credentials_of(read_registry(settings.registry).hubs["lab"], settings).values == ()
    mine = {f"INTERNLM_ZOO_LAB_{kind}": "of-the-lab-1234" for kind in ("TOKEN", "AK", "SK")}
    settings = Settings.from_environment({**world.environ, **mine})
    login = credentials_of(read_registry(settings.registry).hubs["lab"], settings)
    assert set(login.values) <= {"of-the-lab-1234"} and bool(login.values) == ("token_env" in fields)


@pytest.mark.parametrize(
    ("hub", "fields"),
    [
        ("lab", "token_env: [AWS_SECRET_ACCESS_KEY]"),
        ("github", "token_env: [GITHUB_TOKEN]"),
        ("hf", "token_env: [HF_TOKEN]"),
        ("huggingface2", "protocol: huggingface, token_env: [HF_TOKEN]"),
        ("serve", "token_env: [INTERNLM_ZOO_SERVE_TOKEN]"),
        ("MODELERS", "token_env: [INTERNLM_ZOO_MODELERS_TOKEN]"),
        ("modelscope", "token_env: [HF_TOKEN]"),
        ("lab", "endpoint_env: [GITHUB_TOKEN]"),
        ("huggingface", "endpoint_env: [CI_SERVER_URL]"),
        ("lab", "name: huggingface"),
        ("lab", "stated_in: null, name: huggingface"),
        ("lab", "stated_in: somewhere"),
    ],
)
def test_a_variable_that_is_not_the_hubs_own_is_refused_with_its_line(world, hub, fields, capsys):
    settings = overlay(world, f"{hub}: {{title: Lab, endpoint: 'https://lab.test', {fields}}}")
    with pytest.raises(RegistryError) as caught:
        read_registry(settings.registry)
    assert str(caught.value).startswith(f"{settings.registry}:2: ") and caught.value.exit_code == 2
    assert SECRET not in str(caught.value)
    assert run(["list", "--registry", str(settings.registry)]) == 2
    assert "error: " in capsys.readouterr().err


def test_a_token_file_for_a_hub_of_ours_goes_to_no_address_of_an_overlay(world, tmp_path):
    (tmp_path / "token").write_text(SECRET)
    settings = overlay(world, f"huggingface: {{endpoint: '{world.hubs['huggingface'].url}'}}")
    for text, source in ((f"huggingface={tmp_path / 'token'}", ""), (str(tmp_path / "token"), "huggingface")):
        with pytest.raises(Exception, match="would go to an address that an overlay names") as caught:
            with_token_files(settings, [text], source)
        assert caught.value.exit_code == 2 and "HF_ENDPOINT" in caught.value.fix
    world.environ["HF_ENDPOINT"] = world.hubs["huggingface"].url
    assert with_token_files(world.settings, [f"huggingface={tmp_path / 'token'}"]).logins


@pytest.mark.parametrize(
    ("url", "readable"),
    [
        ("http://127.0.0.1:9", False),
        ("http://127.9.9.9", False),
        ("http://[::1]:8", False),
        ("http://[::ffff:127.0.0.1]", False),
        ("http://localhost:1/x", False),
        ("https://lab.test", False),
        ("http://lab.test", True),
        ("HTTP://lab.test", True),
        ("http://localhost.evil.test", True),
        ("http://127.0.0.1.evil.test", True),
        ("http://127.0.0.1@evil.test", True),
        ("http://10.0.0.1", True),
        ("http://0.0.0.0", True),
    ],
)
def test_only_this_machine_is_spoken_to_in_the_clear(url, readable):
    assert is_plaintext(url) is readable


def test_a_token_of_an_overlay_never_goes_over_plain_http_to_another_machine(world):
    """The machine's own address stands for another machine's: it is not loopback."""
    own = _address()
    world.environ["INTERNLM_ZOO_LAB_TOKEN"] = SECRET
    lab = "lab: {{title: Lab, protocol: huggingface, endpoint: '{0}', token_env: [INTERNLM_ZOO_LAB_TOKEN]}}"
    with FaultyHub(world.root) as hub:
        for url, sent in ((hub.url, True), (f"http://{own}:9", False)):
            settings = overlay(world, lab.format(url))
            login = credentials_of(read_registry(settings.registry).hubs["lab"], settings)
            assert bool(login.values) is sent
        assert f"INTERNLM_ZOO_LAB_TOKEN is not sent to http://{own}:9" in login.notes[0]
        assert "overlay.yaml:2" in login.notes[0]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_login_that_the_user_sends_in_the_clear_is_said(world, name):
    world.environ[SHIPPED[name]] = f"http://{_address()}:9"
    login = credentials_of(read_registry().hubs[name], world.settings)
    assert login.values and "goes over plain http" in login.notes[0] and SECRET not in login.notes[0]


def _address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # which sends nothing
            return str(probe.getsockname()[0])
        except OSError:
            return "192.0.2.1"

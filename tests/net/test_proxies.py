"""Proxies as people export them: every spelling is understood or refused by name, and a proxy that fails is
blamed itself."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable

import pytest

import internlm_zoo.cli.lock
import internlm_zoo.cli.status  # noqa: F401 - importing registers the commands
from internlm_zoo.errors import AccessError, NetworkError, UnsupportedError, UsageError, ZooError
from tests.net.proxy import HOST, Proxy
from tests.net.socks import Socks
from tests.timing import short_silence
from tests.world import ENDPOINTS, FILES, World, content_below

Zoo = Callable[..., tuple[int, str, str]]
HF = "HF_ENDPOINT"
PASSWORD = "simsim-simsim"
SLOW = pytest.mark.slow


def port_of(world: World, name: str) -> int:
    return int(world.hubs[name].url.rpartition(":")[2])


def refused(world: World, kind: type[ZooError], **options: object) -> str:
    """All that is said of a download that cannot be."""
    with pytest.raises(kind) as caught:
        world.download(source="huggingface", format="hf", **options)
    assert caught.value.exit_code == kind.exit_code
    return f"{caught.value.what} {caught.value.where} {caught.value.fix}"


@pytest.fixture
def without_socks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socks", None)


# How they are written


@pytest.mark.parametrize(
    "spelt",
    [
        "{}",
        " 'http://{}'\n",
        *(pytest.param(s, marks=SLOW) for s in ("http://{}/", '"http://{}"', "HTTP://{}")),
    ],
)
def test_a_proxy_is_understood_however_it_is_written(world: World, spelt: str) -> None:
    with Proxy(port_of(world, "huggingface")) as proxy:
        place = spelt.format(f"127.0.0.1:{proxy.port}")
        world.environ |= {HF: f"http://{HOST}", "http_proxy": place, "no_proxy": "127.0.0.1"}
        assert content_below(world.download(source="huggingface", format="hf").path) == FILES
    assert len(proxy.asked) >= len(FILES)


@pytest.mark.parametrize(
    ("variable", "text", "why"),
    [
        ("http_proxy", f"http://ali:{PASSWORD}@127.0.0.1:99999", "its port is not a number"),
        ("HTTP_PROXY", f"http://ali:{PASSWORD}@127.0.0.1:80\n80", "line break"),
        ("all_proxy", f"ftp://ali:{PASSWORD}@127.0.0.1", "ftp://"),
        ("ALL_PROXY", f"http://ali:{PASSWORD}#1@127.0.0.1:80", "port"),
        ("http_proxy", "http://", "no host"),
    ],
)
def test_a_proxy_that_is_none_is_refused_by_its_variable(
    world: World, variable: str, text: str, why: str
) -> None:
    world.environ[variable] = text
    said = refused(world, UsageError)
    assert variable in said and why in said
    assert PASSWORD not in said


def test_a_variable_that_does_not_apply_is_not_looked_at(world: World) -> None:
    world.environ |= {"https_proxy": "http://127.0.0.1:99999", "all_proxy": "nonsense://"}
    with Proxy(port_of(world, "huggingface")) as proxy:
        world.environ["http_proxy"] = f"127.0.0.1:{proxy.port}"
        assert content_below(world.download(source="huggingface", format="hf").path) == FILES


# SOCKS


def test_socks_beside_proxies_for_the_web_is_not_needed(world: World, without_socks: None) -> None:
    """As desktop proxies export them."""
    with Proxy(port_of(world, "huggingface")) as proxy:
        place = f"http://127.0.0.1:{proxy.port}"
        world.environ |= {"http_proxy": place, "https_proxy": place, "all_proxy": "socks5://127.0.0.1:9"}
        assert content_below(world.download(source="huggingface", format="hf").path) == FILES
    assert proxy.asked


@pytest.mark.parametrize("scheme", ["socks5", "socks"])
def test_socks_alone_is_refused_with_the_name_of_the_extra(
    world: World, without_socks: None, scheme: str
) -> None:
    world.environ["ALL_PROXY"] = f"{scheme}://127.0.0.1:9"
    said = refused(world, UnsupportedError)
    assert "internlm-zoo[socks]" in said and "ALL_PROXY" in said


def test_without_socks_the_hubs_that_need_none_step_in(world: World, without_socks: None) -> None:
    world.environ |= {HF: f"http://{HOST}", "all_proxy": "socks5h://127.0.0.1:9", "no_proxy": "127.0.0.1"}
    done = world.download(format="hf")
    assert (done.hub, content_below(done.path)) == ("modelscope", FILES)
    assert any("internlm-zoo[socks]" in note for note in done.notes)


@pytest.mark.parametrize(
    ("scheme", "user"), [("socks5h", "ali:open sesame@home"), pytest.param("socks", None, marks=SLOW)]
)
def test_listings_and_bytes_go_through_socks(world: World, scheme: str, user: str | None) -> None:
    pytest.importorskip("socks", reason="PySocks is not installed (extra socks)")
    with Socks(port_of(world, "modelscope"), user) as proxy:
        door = "ali:open%20sesame%40home@" if user else ""
        world.environ |= {
            ENDPOINTS["modelscope"]: f"http://{HOST}",
            "all_proxy": f"{scheme}://{door}127.0.0.1:{proxy.port}",
        }
        assert content_below(world.download(source="modelscope", format="hf").path) == FILES
    assert set(proxy.asked) == {HOST}  # by its name: the proxy looks it up


@pytest.mark.parametrize(
    ("user", "refuses", "words"),
    [("ali:other", 0, "authentication"), (None, 5, "does not connect to")],
    ids=["password", "refused"],
)
def test_a_socks_proxy_that_lets_nobody_through_is_blamed(
    world: World, user: str | None, refuses: int, words: str
) -> None:
    pytest.importorskip("socks", reason="PySocks is not installed (extra socks)")
    with Socks(port_of(world, "huggingface"), user, refuses) as proxy:
        world.environ["all_proxy"] = f"socks5h://ali:{PASSWORD}@127.0.0.1:{proxy.port}"
        said = refused(world, NetworkError)
    assert f"the proxy 127.0.0.1:{proxy.port}, named by all_proxy, " in said and words in said
    assert PASSWORD not in said


def test_a_dead_socks_proxy_is_blamed(world: World) -> None:
    pytest.importorskip("socks", reason="PySocks is not installed (extra socks)")
    world.environ["all_proxy"] = "socks5h://127.0.0.1:9"
    said = refused(world, NetworkError)
    assert "the proxy 127.0.0.1:9, named by all_proxy, does not answer: nobody listens there" in said


# Proxies that fail


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("place", "words"),
    [("127.0.0.1:9", "nobody listens there"), ("nowhere.invalid:3128", "no such host name is known")],
)
def test_a_dead_proxy_is_named_and_not_the_hub(world: World, scheme: str, place: str, words: str) -> None:
    world.environ |= {HF: f"{scheme}://{HOST}", f"{scheme}_proxy": f"http://{place}"}
    said = refused(world, NetworkError)
    assert f"the proxy {place}, named by {scheme}_proxy, does not answer: {words}" in said
    assert HOST not in said


def test_a_proxy_that_is_dead_for_the_bytes_is_named(world: World) -> None:
    """The listing needs none; then the files are on another host."""
    world.fault("redirect", "*.safetensors", "huggingface")
    world.environ |= {"http_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}
    said = refused(world, NetworkError, include=["*.safetensors"])
    assert "the proxy 127.0.0.1:9, named by http_proxy, does not answer: nobody listens there" in said


@pytest.mark.parametrize("status", ["407 Who are you", "403 Forbidden", "502 Bad Gateway"])
def test_a_proxy_that_opens_no_tunnel_is_named(world: World, status: str) -> None:
    with Proxy(refuses=status) as proxy:
        place = f"http://ali:{PASSWORD}@127.0.0.1:{proxy.port}"
        world.environ |= {HF: f"https://{HOST}", "HTTPS_PROXY": place}
        said = refused(world, NetworkError)
    assert f"the proxy 127.0.0.1:{proxy.port}, named by HTTPS_PROXY, " in said
    assert f"HTTP {status[:3]}" in said and PASSWORD not in said


@pytest.mark.parametrize("status", ["407 Who are you", "403 Forbidden", "502 Bad Gateway"])
def test_a_proxy_that_answers_itself_is_named(world: World, status: str) -> None:
    """Of what is not encrypted nobody can say whether the hub or the proxy answered."""
    with Proxy(refuses=status) as proxy:
        world.environ |= {HF: f"http://{HOST}", "http_proxy": f"127.0.0.1:{proxy.port}"}
        said = refused(world, AccessError if status.startswith("403") else NetworkError)
    assert f"the proxy 127.0.0.1:{proxy.port}" in said
    assert "http_proxy" in said and f"HTTP {status[:3]}" in said


def test_the_next_hub_steps_in_for_one_behind_a_dead_proxy(world: World) -> None:
    world.environ |= {HF: f"http://{HOST}", "http_proxy": "127.0.0.1:9", "no_proxy": "127.0.0.1"}
    done = world.download(format="hf")
    assert (done.hub, content_below(done.path)) == ("modelscope", FILES)


def test_all_hubs_behind_one_dead_proxy_are_one_sentence(world: World) -> None:
    world.environ["http_proxy"] = "127.0.0.1:9"
    with pytest.raises(NetworkError) as caught:
        world.download(format="hf")
    assert (
        caught.value.what
        == "the proxy 127.0.0.1:9, named by http_proxy, does not answer: nobody listens there"
    )


def test_a_silent_proxy_is_named(world: World) -> None:
    world.environ["INTERNLM_ZOO_TIMEOUT"] = str(short_silence(0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        world.environ |= {HF: f"https://{HOST}", "https_proxy": f"127.0.0.1:{port}"}
        said = refused(world, NetworkError)
    assert f"the proxy 127.0.0.1:{port}, named by https_proxy, does not answer: nothing came in time" in said


# Endpoints


@pytest.mark.parametrize(
    ("name", "spell"),
    [
        ("huggingface", lambda url: f'"{url}"'),
        ("modelscope", lambda url: f"{url}/\n"),
        ("modelers", lambda url: f" {url}// "),
        ("openxlab", lambda url: url.replace("http", "HTTP")),
    ],
)
def test_an_endpoint_is_understood_however_it_is_written(
    world: World, name: str, spell: Callable[[str], str]
) -> None:
    world.environ[ENDPOINTS[name]] = spell(world.hubs[name].url)
    assert content_below(world.download("config.json", source=name, format="hf").path)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("huggingface", "hf-mirror.example", "does not begin with http:// or https://"),
        ("modelscope", "127.0.0.1:8000", "does not begin with"),
        ("modelers", "htp://127.0.0.1", "htp://"),
        ("openxlab", f"http://ali:{PASSWORD}@127.0.0.1:99999", "its port"),
        ("huggingface", "http://127.0.0.1\n:80", "line break"),
        ("modelscope", "http://:80", "no host"),
        ("modelers", f"http://127.0.0.1/?token={PASSWORD}", "holds a ?"),
    ],
)
def test_an_endpoint_that_is_none_is_refused_by_its_variable(
    world: World, name: str, text: str, why: str
) -> None:
    world.environ[ENDPOINTS[name]] = text
    with pytest.raises(UsageError) as caught:
        world.download(source=name, format="hf")
    said = f"{caught.value.what} {caught.value.fix}"
    assert ENDPOINTS[name] in said and why in said and PASSWORD not in said
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "command", ["status", *(pytest.param(c, marks=SLOW) for c in ("download", "lock", "inspect"))]
)
def test_every_command_ends_with_2_and_one_sentence(
    world: World, zoo: Zoo, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_ENDPOINT", "hf-mirror.example")
    code, _, err = zoo(command, "tiny")
    assert code == 2 and "HF_ENDPOINT (hf-mirror.example) is no address" in err


def test_a_source_that_is_no_address_is_refused_by_its_option(world: World) -> None:
    with pytest.raises(UsageError, match="`source` is no address that can be used: its port"):
        world.download(source=f"http://ali:{PASSWORD}@127.0.0.1:99999")

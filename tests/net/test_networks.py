"""What lies between the user and a hub: certificates, proxies, and no network at all."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import internlm_zoo.cli.cache
import internlm_zoo.cli.catalogue
import internlm_zoo.cli.download  # noqa: F401 - importing registers the commands
from internlm_zoo.cli.shell import run
from internlm_zoo.errors import NetworkError
from tests.hubs import FaultyHub
from tests.hubs.authority import Authority
from tests.net.proxy import HOST, Proxy
from tests.world import ENDPOINTS, FILES, World, content_below, open_world

HUBS = tuple(ENDPOINTS)
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
VARIABLES = {
    *NAMES,
    *(name.upper() for name in NAMES),
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:
        world = open_world(tmp_path, stack)
        yield world


@pytest.fixture
def secure(world: World, authority: Authority) -> Iterator[FaultyHub]:
    with FaultyHub(world.root, tls=authority.server) as hub:
        yield hub


@pytest.fixture
def with_variables(world: World) -> Callable[..., None]:
    def given(**variables: str) -> None:
        world.environ |= variables

    return given


# Certificates


@pytest.mark.parametrize("name", HUBS)
def test_a_hub_with_tls_delivers_to_whoever_trusts_its_authority(
    world: World, secure: FaultyHub, authority: Authority, with_variables: Callable[..., None], name: str
) -> None:
    with_variables(**{ENDPOINTS[name]: secure.url, "SSL_CERT_FILE": str(authority.pem)})
    assert content_below(world.download(source=name, format="hf").path) == FILES
    assert {seen.scheme for seen in secure.requests} == {"https"}


@pytest.mark.parametrize("name", HUBS)
def test_a_hub_whose_authority_nobody_trusts_is_refused(
    world: World, secure: FaultyHub, with_variables: Callable[..., None], name: str
) -> None:
    with_variables(**{ENDPOINTS[name]: secure.url})
    with pytest.raises(NetworkError, match=r"certificate that this system .* does not vouch for"):
        world.download(source=name, format="hf")
    assert (secure.requests, world.published()) == ([], [])


@pytest.mark.parametrize("name", HUBS)
def test_bytes_from_a_host_whose_authority_nobody_trusts_are_refused(
    world: World, secure: FaultyHub, with_variables: Callable[..., None], name: str
) -> None:
    """The listing is in plain text, and then the files are somewhere else."""
    with_variables()
    world.fault("redirect", "*", name, to=f"{secure.url}/acme/tiny/resolve/main/config.json")
    with pytest.raises(NetworkError, match="certificate"):
        world.download("config.json", source=name, format="hf")
    assert secure.requests == []


# Proxies. The host that is asked for does not exist, so nothing gets there by another way.


@pytest.mark.parametrize("user", [None, "ali:open sesame@home"])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("name", HUBS)
def test_listings_and_bytes_go_through_the_proxy(
    world: World,
    authority: Authority,
    with_variables: Callable[..., None],
    name: str,
    scheme: str,
    user: str | None,
) -> None:
    tls = authority.server if scheme == "https" else None
    with FaultyHub(world.root, tls=tls) as hub, Proxy(int(hub.url.rpartition(":")[2]), user) as proxy:
        door = "ali:open%20sesame%40home@" if user else ""
        with_variables(
            **{
                ENDPOINTS[name]: f"{scheme}://{HOST}",
                f"{scheme}_proxy": f"http://{door}127.0.0.1:{proxy.port}",
                "no_proxy": "127.0.0.1",  # the other hubs, whose digests OpenXLab's files are held against
                "SSL_CERT_FILE": str(authority.pem),
            }
        )
        assert content_below(world.download(source=name, format="hf").path) == FILES
        assert len(hub.downloads()) >= len(FILES) - 1
    expected = "CONNECT hub.invalid:443" if scheme == "https" else f"http://{HOST}/"
    assert proxy.asked and all(expected in line for line in proxy.asked)


@pytest.mark.parametrize("name", HUBS)
def test_a_proxy_that_wants_a_password_is_named_and_the_password_is_not(
    world: World, with_variables: Callable[..., None], name: str
) -> None:
    port = int(world.hubs[name].url.rpartition(":")[2])
    with Proxy(port, "ali:sesame") as proxy:
        place = f"http://ali:simsim@127.0.0.1:{proxy.port}"
        with_variables(**{ENDPOINTS[name]: f"http://{HOST}", "HTTP_PROXY": place})
        with pytest.raises(NetworkError, match="407") as caught:
            world.download(source=name, format="hf")
    assert "simsim" not in f"{caught.value} {caught.value.fix}"
    assert proxy.asked == []


@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY"])
@pytest.mark.parametrize("name", HUBS)
def test_no_proxy_is_asked_for_hosts_that_are_excepted(
    world: World, with_variables: Callable[..., None], name: str, variable: str
) -> None:
    with Proxy(1) as proxy:
        with_variables(HTTP_PROXY=f"http://127.0.0.1:{proxy.port}", **{variable: "example.org,127.0.0.0/8"})
        assert content_below(world.download(source=name, format="hf").path) == FILES
    assert proxy.asked == []


# No network


@pytest.fixture
def unplugged(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., int]:
    """Runs a command while nothing can open a socket."""
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("opened a socket")

    def call(*args: str) -> int:
        with monkeypatch.context() as patched:
            for name in ("socket", "create_connection", "getaddrinfo"):
                patched.setattr(socket, name, forbidden)
            return run(list(args))

    return call


@pytest.mark.parametrize("options", [[], ["--offline"]], ids=["pinned", "offline"])
@pytest.mark.parametrize("name", HUBS)
def test_a_complete_release_is_found_without_a_socket(
    world: World,
    unplugged: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    name: str,
    options: list[str],
) -> None:
    path = world.download(source=name, format="hf").path
    asked = world.requests
    capsys.readouterr()
    assert unplugged("download", "tiny", "--source", name, "--format", "hf", *options) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert world.requests == asked


@pytest.mark.parametrize(
    "command",
    [
        ["download", "tiny", "config.json"],
        ["download", "tiny", "--dry-run"],
        ["verify", "tiny"],
        ["cache", "list"],
        ["cache", "path", "tiny"],
        ["list"],
        ["list", "--cached"],
        ["show", "tiny"],
    ],
    ids=" ".join,
)
def test_offline_opens_no_socket(world: World, unplugged: Callable[..., int], command: list[str]) -> None:
    world.download()
    assert unplugged(*command, "--offline") == 0


def test_offline_says_that_it_is_what_keeps_a_release_away(
    world: World, unplugged: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    world.download("config.json")
    assert unplugged("download", "tiny", "--offline") == 5
    assert "offline mode is on" in capsys.readouterr().err

"""Certificates: whichever variable names them holds for all hubs, and is named where they do not suffice."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from internlm_zoo.errors import NetworkError, UsageError
from tests.hubs import FaultyHub
from tests.hubs.authority import Authority
from tests.net.proxy import HOST, Proxy
from tests.world import ENDPOINTS, FILES, World, content_below


@pytest.fixture
def secure(world: World, authority: Authority) -> Iterator[FaultyHub]:
    with FaultyHub(world.root, tls=authority.server) as hub:
        world.environ |= dict.fromkeys(ENDPOINTS.values(), hub.url)
        yield hub


def the_file(authority: Authority, folder: Path) -> Path:
    return authority.pem


def a_folder(authority: Authority, folder: Path) -> Path:
    """As people make one: without the names that OpenSSL looks for."""
    shutil.copy(authority.pem, folder / "company.crt")
    return folder


def a_hashed_folder(authority: Authority, folder: Path) -> Path:
    command: list[str | Path] = ["openssl", "x509", "-hash", "-noout", "-in", authority.pem]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    shutil.copy(authority.pem, folder / f"{name}.0")
    return folder


@pytest.mark.parametrize(
    ("name", "variable", "make"),
    [
        ("huggingface", "SSL_CERT_DIR", a_folder),
        ("modelers", "REQUESTS_CA_BUNDLE", the_file),
        pytest.param("modelscope", "SSL_CERT_DIR", a_hashed_folder, marks=pytest.mark.slow),
        pytest.param("openxlab", "REQUESTS_CA_BUNDLE", a_folder, marks=pytest.mark.slow),
        pytest.param("huggingface", "CURL_CA_BUNDLE", the_file, marks=pytest.mark.slow),
        pytest.param("modelscope", "CURL_CA_BUNDLE", the_file, marks=pytest.mark.slow),
    ],
)
def test_every_variable_holds_for_listings_and_bytes(
    world: World,
    secure: FaultyHub,
    authority: Authority,
    tmp_path: Path,
    name: str,
    variable: str,
    make: Callable[[Authority, Path], Path],
) -> None:
    if make is a_hashed_folder and shutil.which("openssl") is None:
        pytest.skip("there is no openssl")
    (folder := tmp_path / "certificates").mkdir()
    world.environ[variable] = str(make(authority, folder))
    assert content_below(world.download(source=name, format="hf").path) == FILES
    assert {seen.scheme for seen in secure.requests} == {"https"}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_may_speak_https_and_needs_a_certificate_too(
    world: World, authority: Authority, scheme: str
) -> None:
    """Also around what is encrypted for the hub."""
    tls = authority.server if scheme == "https" else None
    with FaultyHub(world.root, tls=tls) as hub:
        port = int(hub.url.rpartition(":")[2])
        with Proxy(port, tls=authority.server) as proxy:
            place = f"127.0.0.1:{proxy.port}"
            world.environ |= {"HF_ENDPOINT": f"{scheme}://{HOST}", f"{scheme}_proxy": f"https://{place}"}
            with pytest.raises(NetworkError, match=f"{place} shows a certificate that this system"):
                world.download(source="huggingface", format="hf")
            world.environ["SSL_CERT_FILE"] = str(authority.pem)
            assert content_below(world.download(source="huggingface", format="hf").path) == FILES
    assert proxy.asked


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_certificate_that_nobody_vouches_for_says_whose_word_was_asked(
    world: World, secure: FaultyHub, tmp_path: Path, variable: str
) -> None:
    other = Authority(tmp_path).pem
    world.environ[variable] = str(other)
    with pytest.raises(NetworkError) as caught:
        world.download(source="huggingface", format="hf")
    assert f"a certificate that {variable} ({other}) does not vouch for" in caught.value.what
    assert secure.requests == []


def test_a_certificate_is_not_asked_for_twice(world: World, secure: FaultyHub) -> None:
    """It will be the same: all hubs are left at once, in one sentence."""
    with pytest.raises(NetworkError) as caught:
        world.download(format="hf")
    assert caught.value.what.count("does not vouch for") == 1


@pytest.mark.parametrize(
    "variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]
)
@pytest.mark.parametrize("what", ["not there", "no certificate"])
def test_a_variable_that_names_no_certificates_is_a_usage_error(
    world: World, secure: FaultyHub, tmp_path: Path, variable: str, what: str
) -> None:
    place = tmp_path / "here"
    if what == "no certificate":
        place.mkdir() if variable == "SSL_CERT_DIR" else place.write_text("not PEM\n")
    world.environ[variable] = str(place)
    with pytest.raises(UsageError, match=f"{variable} names .*here") as caught:
        world.download(source="huggingface", format="hf")
    assert what in caught.value.what and caught.value.exit_code == 2


def test_a_certificate_of_another_host_is_refused(
    world: World, secure: FaultyHub, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: truth("127.0.0.1", *rest, **more))
    world.environ |= {
        "HF_ENDPOINT": secure.url.replace("127.0.0.1", "other.invalid"),
        "SSL_CERT_FILE": str(authority.pem),
    }
    with pytest.raises(NetworkError, match=r"does not vouch for.*other\.invalid"):
        world.download(source="huggingface", format="hf")
    assert secure.requests == []


def test_a_folder_that_is_gone_does_not_matter_beside_a_file(
    world: World, secure: FaultyHub, authority: Authority
) -> None:
    world.environ |= {"SSL_CERT_FILE": str(authority.pem), "SSL_CERT_DIR": "/nowhere/at-all"}
    assert content_below(world.download(source="huggingface", format="hf").path) == FILES


def test_certificates_are_not_looked_at_where_nothing_is_encrypted(world: World) -> None:
    world.environ["SSL_CERT_FILE"] = "/nowhere/at-all.pem"
    assert content_below(world.download(source="huggingface", format="hf").path) == FILES

"""NO_PROXY, held against what curl makes of it."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from internlm_zoo.net.proxies import bypasses_proxy

# host and port, NO_PROXY
CASES = [
    ("127.0.0.1:8000", "127.0.0.0/8"),
    ("128.0.0.1:8000", "127.0.0.0/8"),
    ("[fe00::7]:8000", "fd00::/8"),
    ("[::1]:8000", "::1"),
    ("[::1]:8000", "example.org, ::1"),
    ("10.1.2.3:8000", "10.1.2.3"),
    ("10.1.2.3:8000", "10.1.2.30"),
    ("hub.invalid:8000", "*"),
    ("hub.invalid:8000", "invalid"),
    ("hub.invalid:8000", ".invalid"),
    ("hub.invalid:8000", "hub.invalid"),
    ("hub.invalid:8000", "b.invalid"),
    ("hub.invalid:8000", "HUB.Invalid"),
    ("hub.invalid:8000", " other.invalid , hub.invalid "),
    ("hub.invalid:8000", "other.invalid hub.invalid"),
    ("hub.invalid:8000", ""),
]
# What curl 7.88 does not know, but httpx, requests, Go and others do.
MORE = [
    ("[fd00::7]:8000", "fd00::/8", True),
    ("hub.invalid:8000", "hub.invalid:8000", True),
    ("hub.invalid:8000", "hub.invalid:80", False),
    ("[::1]:8000", "[::1]:8000", True),
    ("[::1]:8000", "[::1]:80", False),
    ("[::1]:8000", "[::1]", True),
    ("[::1]:8000", "0:0:0:0:0:0:0:1", True),
    ("127.0.0.1:8000", "127.0.0.0/8:8000", True),
    ("hub.invalid:8000", "*.invalid", True),
    ("hub.invalid:8000", "http://hub.invalid", True),
    ("[::ffff:10.1.2.3]:8000", "10.0.0.0/8", True),
    ("hub.invalid:8000", "0/8", False),
]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize(("place", "no_proxy"), CASES)
def test_who_is_excepted_is_who_curl_would_ask_directly(place: str, no_proxy: str) -> None:
    url = f"http://{place}/"
    assert bypasses_proxy(url, no_proxy) == _curl_asks_directly(url, no_proxy)


@pytest.mark.parametrize(("place", "no_proxy", "excepted"), MORE)
def test_ports_brackets_and_stars_are_understood(place: str, no_proxy: str, excepted: bool) -> None:
    assert bypasses_proxy(f"http://{place}/", no_proxy) == excepted


def _curl_asks_directly(url: str, no_proxy: str) -> bool:
    """By whom it says it tries to connect to, or looks up; nobody is reached."""
    environ = {**os.environ, "no_proxy": no_proxy, "NO_PROXY": no_proxy}
    for seconds in ("0.05", "1", "10"):  # on a busy machine it gives up before it has begun
        command = ["curl", "-sv", "-q", "--connect-timeout", seconds, "--proxy", "http://127.0.0.1:9", url]
        said = subprocess.run(command, env=environ, capture_output=True, text=True).stderr
        if "Trying" in said or "resolve host" in said:
            return "Trying 127.0.0.1:9" not in said
    raise AssertionError(said)

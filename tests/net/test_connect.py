"""A host of which one address leads nowhere, as IPv6 does in many networks."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from internlm_zoo.errors import NetworkError
from internlm_zoo.net.connect import connect
from tests.timing import PATIENCE, short_silence
from tests.world import ENDPOINTS, FILES, World, content_below

NAME = "two-addresses.invalid"
DEAD = "127.0.0.66"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a full backlog is silent on Linux only")


@contextlib.contextmanager
def nobody_answers(port: int) -> Iterator[None]:
    """At that port of DEAD: attempts to connect wait until they are given up."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((DEAD, port))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((DEAD, port))
        yield


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What NAME stands for, in this order."""
    addresses: list[str] = []
    truth = socket.getaddrinfo

    def answer(host: Any, port: Any, *rest: Any, **more: Any) -> list[Any]:
        if host != NAME:
            return truth(host, port, *rest, **more)
        return [info for address in addresses for info in truth(address, port, 0, socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return addresses


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that are tried from now on."""
    tried: list[str] = []
    truth = socket.socket.connect_ex

    def connect_ex(self: socket.socket, address: Any) -> int:
        tried.append(address[0])
        return truth(self, address)

    monkeypatch.setattr(socket.socket, "connect_ex", connect_ex)
    return tried


@pytest.mark.parametrize(
    "name", ["openxlab", *(pytest.param(name, marks=pytest.mark.slow) for name in list(ENDPOINTS)[:3])]
)
def test_a_dead_address_costs_a_moment_and_not_the_patience(
    world: World, resolved: list[str], name: str
) -> None:
    resolved += [DEAD, "127.0.0.1"]
    port = int(world.hubs[name].url.rpartition(":")[2])
    world.environ[ENDPOINTS[name]] = f"http://{NAME}:{port}"
    with nobody_answers(port):  # whoever waits for it has no time left for the next address
        assert content_below(world.download(source=name, format="hf").path) == FILES


def test_addresses_of_both_families_take_turns(resolved: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Many dead ones of IPv6 do not keep those of IPv4 waiting (RFC 8305, section 4)."""
    tried = recorded(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as server:
        resolved += ["100::1", "100::2", "100::3", "127.0.0.1"]
        connect(NAME, server.getsockname()[1], PATIENCE).close()
    assert tried == ["100::1", "127.0.0.1"]


def test_the_address_that_answered_is_the_first_to_be_tried_again(
    resolved: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the moment is lost once, and not with every connection."""
    with socket.create_server(("127.0.0.1", 0)) as server, nobody_answers(server.getsockname()[1]):
        port = server.getsockname()[1]
        resolved += [DEAD, "127.0.0.1"]
        connect(NAME, port, PATIENCE).close()
        tried = recorded(monkeypatch)
        connect(NAME, port, PATIENCE).close()
    assert tried == ["127.0.0.1"]


def test_the_patience_is_that_of_all_addresses_together(resolved: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, nobody_answers(server.getsockname()[1]):
        resolved += [DEAD] * 5
        seconds, began = short_silence(1.0), time.monotonic()
        with pytest.raises(TimeoutError):
            connect(NAME, server.getsockname()[1], seconds)
        assert time.monotonic() - began < 4 * seconds  # and not 5


def test_the_first_address_that_refuses_gives_the_reason(world: World, resolved: list[str]) -> None:
    resolved += ["127.0.0.1", DEAD]
    world.environ["HF_ENDPOINT"] = f"http://{NAME}:9"
    with pytest.raises(NetworkError, match="nobody listens there"):
        world.download(source="huggingface", format="hf")

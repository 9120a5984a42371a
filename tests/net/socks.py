"""A SOCKS5 proxy for tests (RFC 1928, and RFC 1929 for the password): connects, pipes, and remembers."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

from tests.net.listener import Listener, pipe

_NO_PROOF, _PASSWORD, _NONE_OF_THESE = 0, 2, 0xFF
_NAME, _IPV4 = 3, 1


class Socks(Listener):
    """A context manager. to: the port of this machine where everything goes, whatever host is asked for.
    user: NAME:PASSWORD that it wants. refuses: answers every request with this code of RFC 1928. asked: the
    hosts it was asked for, names as they came."""

    def __init__(self, to: int, user: str | None = None, refuses: int = 0) -> None:
        super().__init__()
        self._to, self._user, self._refuses = to, user, refuses

    def _answer(self, client: socket.socket) -> None:
        with client, suppress(OSError, EOFError):
            if not self._admits(client):
                return
            _, _, _, kind = _take(client, 4)
            length = _take(client, 1)[0] if kind == _NAME else 4
            host = _take(client, length)
            _take(client, 2)
            self.asked.append(host.decode() if kind == _NAME else socket.inet_ntoa(host))
            client.sendall(bytes((5, self._refuses, 0, _IPV4)) + bytes(6))
            if not self._refuses:
                with socket.create_connection(("127.0.0.1", self._to)) as hub:
                    pipe(client, hub)

    def _admits(self, client: socket.socket) -> bool:
        _, count = _take(client, 2)
        offered = _take(client, count)
        wanted = _NO_PROOF if self._user is None else _PASSWORD
        client.sendall(bytes((5, wanted if wanted in offered else _NONE_OF_THESE)))
        if wanted not in offered:
            return False
        if self._user is None:
            return True
        _take(client, 1)
        words = [_take(client, _take(client, 1)[0]).decode() for _ in range(2)]
        right = ":".join(words) == self._user
        client.sendall(struct.pack("BB", 1, not right))
        return right


def _take(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = client.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data

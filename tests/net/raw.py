"""A server that answers with bytes of one's own: what no HTTP library would send."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, cycle, repeat

Script = Callable[[], Iterable[bytes]]

# Between two sends; so little that nobody is silent.
_TICK = 0.02
OK = b"HTTP/1.1 200 OK\r\n"
MOVED = b"HTTP/1.1 302 Found\r\n"


def dripping(begin: bytes, rest: bytes) -> Script:
    """The beginning at once, and the rest byte by byte, again and again."""
    return lambda: chain([begin], (bytes([byte]) for byte in cycle(rest)))


def flooding(begin: bytes, rest: bytes) -> Script:
    return lambda: chain([begin], repeat(rest))


def saying(*texts: bytes) -> Script:
    return lambda: texts


CHUNKED = b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"

ENDLESS: dict[str, Script] = {
    "a status line": dripping(b"", b"H"),
    "a header": dripping(OK + b"X: ", b"a"),
    "100 Continue": flooding(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "the body of a redirect": dripping(MOVED + b"Location: /x\r\nContent-Length: 60000\r\n\r\n", b"a"),
    "the chunks of a redirect": flooding(
        MOVED + b"Location: /x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"
    ),
    "redirects": saying(MOVED + b"Location: /x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
    "the size of a chunk": dripping(OK + CHUNKED, b"0"),
    "the extension of a chunk": dripping(OK + CHUNKED + b"5;", b"a"),
    "trailers": dripping(OK + CHUNKED + b"0\r\n", b"A: b\r\n"),
    "trailers, at once": flooding(OK + CHUNKED + b"0\r\n", b"A: b\r\n" * 100),
}


@dataclass
class Raw:
    """script: what is sent on a connection once a request has come, or at once where `asks` is False. lets:
    paths that begin so are another server's to answer, at that port."""

    script: Script
    asks: bool = True
    lets: tuple[str, int] | None = None
    url: str = ""
    hits: int = 0

    def answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            asked = connection.recv(1 << 16) if self.asks else b""
            path = asked.partition(b" ")[2]
            if self.lets is not None and path.startswith(self.lets[0].encode()):
                _pass_on(asked, connection, self.lets[1])
                return
            self.hits += 1
            for piece in self.script():
                connection.sendall(piece)
                time.sleep(_TICK)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1 << 16)


def _pass_on(asked: bytes, connection: socket.socket, port: int) -> None:
    head = asked.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    with socket.create_connection(("127.0.0.1", port)) as other:
        other.sendall(head)
        while piece := other.recv(1 << 16):
            connection.sendall(piece)


@contextmanager
def serving_raw(server: Raw) -> Iterator[Raw]:
    """Connections that are open in the end are left to their threads."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def listen() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=server.answer, args=listener.accept()[:1], daemon=True).start()

        threading.Thread(target=listen, daemon=True).start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)

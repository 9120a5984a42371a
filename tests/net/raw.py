"""A server that answers with bytes of one's own: what no HTTP library would send."""

from __future__ import annotations

import gzip
import socket
import threading
import time
import zlib
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


def answering(status: bytes, *headers: bytes, body: bytes = b"{}\n") -> Script:
    head = b"".join(line + b"\r\n" for line in (b"HTTP/1.1 " + status, *headers))
    return saying(head + b"\r\n" + body)


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
    "the size of the second chunk": dripping(OK + CHUNKED + b"1\r\n{\r\n", b"0"),
    "trailers": dripping(OK + CHUNKED + b"0\r\n", b"A: b\r\n"),
    "trailers, at once": flooding(OK + CHUNKED + b"0\r\n", b"A: b\r\n" * 100),
}


def _many(byte: bytes = b"9", count: int = 5000) -> bytes:
    return byte * count


def _moved(place: bytes) -> Script:
    return answering(b"302 Found", b"Location: " + place, b"Content-Length: 0", body=b"")


def _busy(after: bytes) -> Script:
    return answering(b"503 Busy", b"Retry-After: " + after, b"Content-Length: 0", body=b"")


def _part(*headers: bytes) -> Script:
    return answering(b"206 Partial Content", *headers)


def _packed(coding: bytes, body: bytes) -> Script:
    return answering(b"200 OK", b"Content-Encoding: " + coding, body=body)


_BOMB = gzip.compress(bytes(100 << 20))

# Each once, and the connection ends.
ODD: dict[str, Script] = {
    "length of 5,000 digits": answering(b"200 OK", b"Content-Length: " + _many()),
    "length of 4,000 digits": answering(b"200 OK", b"Content-Length: " + _many(count=4000)),
    "length beyond any file": answering(b"200 OK", b"Content-Length: " + _many(count=19)),
    "length of 10^15": answering(b"200 OK", b"Content-Length: 1" + _many(b"0", 15)),
    "two lengths": answering(b"200 OK", b"Content-Length: 3", b"Content-Length: 4"),
    "range of 5,000 digits": _part(b"Content-Range: bytes 0-" + _many() + b"/" + _many()),
    "range of 4,000 digits": _part(b"Content-Range: bytes 0-" + _many(count=4000) + b"/*"),
    "range below zero": _part(b"Content-Range: bytes -3-2/3"),
    "no range of 5,000 digits": answering(b"416 No", b"Content-Range: bytes */" + _many()),
    "header names that are no ASCII": _part(b"X-\xff\xfe: \x80"),
    "101 headers": _part(*[b"X: y"] * 101),
    "a header of 70,000 bytes": _part(b"X: " + _many(b"y", 70_000)),
    "a status of 5,000 digits": saying(b"HTTP/1.1 " + _many() + b" OK\r\n\r\n"),
    "no HTTP": saying(b"\x16\x03\x01\x00\xff" * 40),
    "nothing": saying(),
    "a chunk below zero": saying(OK + CHUNKED + b"-5\r\n"),
    "a chunk below zero, after a redirect": saying(
        MOVED + b"Location: /x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n"
    ),
    "a chunk beyond memory": saying(OK + CHUNKED + _many(b"f", 18) + b"\r\n"),
    "a chunk of 5,000 digits": saying(OK + CHUNKED + _many(b"f") + b"\r\n"),
    "a chunk of no digits": saying(OK + CHUNKED + b"\xff\r\n"),
    "a gzip bomb": _packed(b"gzip", _BOMB),
    "a deflate bomb": _packed(b"deflate", zlib.compress(bytes(100 << 20))),
    "a bomb in a bomb": _packed(b"gzip, gzip", _BOMB),
    "brotli": _packed(b"br", _BOMB),
    "zstd": _packed(b"zstd", _BOMB),
    "gzip that is none": _packed(b"gzip", b"\xff" * 100),
    "gzip that is cut": _packed(b"gzip", _BOMB[:100]),
    "a coding that is no ASCII": _packed(b"\xff\xfe", b"{}"),
    "wait 5,000 digits": _busy(_many()),
    "wait until 99999": _busy(b"Fri, 31 Dec 99999 23:59:59 GMT"),
    "wait until 9999": _busy(b"Fri, 31 Dec 9999 23:59:59 GMT"),
    "wait until the year 0": _busy(b"Thu, 01 Jan 0000 00:00:00 GMT"),
    "wait until a zone of its own": _busy(b"Thu, 01 Jan 2030 00:00:00 +9999999999999"),
    "wait below zero": _busy(b"-5"),
    "wait NaN": _busy(b"NaN"),
    "wait 1e999": _busy(b"1e999"),
    "moved to nowhere": _moved(b""),
    "moved to javascript": _moved(b"javascript:alert(1)"),
    "moved to a file": _moved(b"file:///etc/passwd"),
    "moved to port 99999999": _moved(b"http://127.0.0.1:99999999/x"),
    "moved to port 0": _moved(b"http://127.0.0.1:0/x"),
    "moved to half an address": _moved(b"http://[::bad/x"),
    "moved to an address of no version": _moved(b"http://[v1.x]/x"),
    "moved far": _moved(b"/" + _many(b"a", 60_000)),
    "moved to a long label": _moved(b"http://" + _many(b"a", 64) + b".example/x"),
    "moved to a long name": _moved(b"http://" + _many(b"a.", 2500) + b"/x"),
    "moved to empty labels": _moved(b"http://a..b/x"),
    "moved to no IDNA": _moved("http://ß\u200d.example/x".encode()),
    "moved to xn--": _moved(b"http://xn--a/x"),
    "moved to NUL": _moved(b"http://a\0b/x"),
    "moved to a line": _moved(b"http://127.0.0.1%0d%0aX/x"),
    "moved to bytes": _moved(b"/a b\x01\x7f\xff"),
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

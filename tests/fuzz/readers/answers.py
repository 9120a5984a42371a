"""Whole answers of servers, headers and all, as they are asked for listings and for the bytes of files."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from internlm_zoo.files import File
from internlm_zoo.net.deadline import with_deadline
from internlm_zoo.net.retry_policy import RetryPolicy
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Location
from internlm_zoo.sources.hub_client import HubClient
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.failures import TransferFailure
from tests.fuzz.contract import Reader

_HUB = "http://hub.example"
_SETTINGS = Settings(home=Path("/nonexistent"), environ={"HOME": "/nonexistent"})
_MOST = 64 << 10  # so that a socket takes it without anybody who reads
_SMALL = 1 << 20
# The answers are of a part from this byte on.
_START = 5


def _answered(ask: Callable[[], object]) -> Callable[[bytes], object]:
    """Whatever is asked is answered with these bytes, and the connection ends."""

    def read(data: bytes) -> object:
        def connect(*args: object) -> socket.socket:
            ours, theirs = socket.socketpair()
            with theirs:
                theirs.sendall(data[:_MOST])
            return with_deadline(ours)

        with (
            patch("internlm_zoo.net.pools.connect", connect),
            patch("internlm_zoo.sources.hub_client.LARGEST", _SMALL),
        ):
            return ask()

    return read


def _listing() -> object:
    return HubClient.of("somewhere", _HUB, _SETTINGS).get(f"{_HUB}/api")


def _file() -> object:
    client, wanted = Client({}, RetryPolicy()), File("a.bin")
    try:
        with client.open(Location(f"{_HUB}/a.bin"), _START, '"etag"') as body:
            return [len(chunk) for chunk in body.chunks(wanted, client.retry_policy)]
    except TransferFailure as status_error:
        raise status_error.error from status_error
    finally:
        client.close()


def _said(status: str, *headers: str, body: bytes = b"{}\n") -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *headers, "", "")).encode() + body


_CHUNKED = "Transfer-Encoding: chunked"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_WHOLE = _said("200 OK", "Content-Length: 3", 'ETag: "etag"')
_BUSY = _said("503 Service Unavailable", "Retry-After: 120", body=b"")
_LISTINGS = [
    _CONTINUE + _WHOLE,
    _said("200 OK", "Content-Encoding: gzip", body=gzip.compress(b"{}\n")),
    _said("200 OK", _CHUNKED, body=b"3;a=b\r\n{}\n\r\n0\r\nX: y\r\n\r\n"),
    _said("302 Found", "Location: mailto:nobody", "Content-Length: 0", body=b""),
    _BUSY,
]
_FILES = [
    _CONTINUE + _WHOLE,
    _said("206 Partial Content", "Content-Range: bytes 5-7/8", "Content-Length: 3"),
    _said("206 Partial Content", "Content-Range: bytes 5-7/8", _CHUNKED, body=b"3\r\n{}\n\r\n0\r\n\r\n"),
    _said("416 Range Not Satisfiable", "Content-Range: bytes */5", body=b""),
]

READERS = {
    "answer-listing": Reader(_answered(_listing), lambda: _LISTINGS),
    "answer-bytes": Reader(_answered(_file), lambda: _FILES),
}

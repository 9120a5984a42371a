"""A web proxy for tests: forwards plain requests, tunnels the others, and remembers what it was asked for."""

from __future__ import annotations

import base64
import socket
import ssl
from contextlib import suppress

from tests.net.listener import Listener, pipe

HOST = "hub.invalid"


class Proxy(Listener):
    """A context manager. to: the port of this machine where everything goes, whatever host is asked for;
    None: to the port that is asked for. user: NAME:PASSWORD that it wants to see. refuses: a status and its
    words, which it answers to everything. tls: it is spoken to by https. asked: first lines of the requests
    it let through."""

    def __init__(
        self,
        to: int | None = None,
        user: str | None = None,
        refuses: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__()
        self._to, self._user, self._refuses, self._tls = to, user, refuses, tls

    def _answer(self, client: socket.socket) -> None:
        with suppress(OSError):
            self._speak(client if self._tls is None else self._tls.wrap_socket(client, server_side=True))

    def _speak(self, client: socket.socket) -> None:
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            head, _, rest = head.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            if not self._admits(lines):
                client.sendall(_refusal("407 Who are you"))
                return
            if self._refuses is not None:
                client.sendall(_refusal(self._refuses))
                return
            self.asked.append(first)
            with socket.create_connection(("127.0.0.1", self._to or _port(first))) as hub:
                if first.startswith("CONNECT"):
                    client.sendall(b"HTTP/1.1 200 Go on\r\n\r\n")
                else:
                    hub.sendall(_for_one_request(first, lines) + rest)
                pipe(client, hub)

    def _admits(self, lines: list[str]) -> bool:
        if self._user is None:
            return True
        proof = "Basic " + base64.b64encode(self._user.encode()).decode()
        return any(line.lower() == f"proxy-authorization: {proof}".lower() for line in lines)


def _refusal(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


def _port(first: str) -> int:
    """Of the first line of a request for a tunnel: CONNECT host:port HTTP/1.1."""
    return int(first.split(" ")[1].rpartition(":")[2])


def _for_one_request(first: str, lines: list[str]) -> bytes:
    method, url, version = first.split(" ")
    path = "/" + url.split("/", 3)[3]
    kept = [line for line in lines if not line.lower().startswith(("connection:", "proxy-"))]
    return "\r\n".join([f"{method} {path} {version}", *kept, "Connection: close", "", ""]).encode()

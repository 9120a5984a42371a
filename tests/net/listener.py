"""A port of this machine where whoever comes is answered, each in a thread of its own."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TypeVar

Self = TypeVar("Self", bound="Listener")


class Listener:
    """A context manager; what it answers is its subclass's. asked: what it was asked for."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.asked: list[str] = []

    def __enter__(self: Self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        raise NotImplementedError


def pipe(one: socket.socket, other: socket.socket) -> None:
    """What each says to the other, until both have ended."""
    threading.Thread(target=_copy, args=(one, other), daemon=True).start()
    _copy(other, one)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        # SSLSocket's own forgets the encryption at once, and who still reads there gets records.
        socket.socket.shutdown(sink, socket.SHUT_WR)

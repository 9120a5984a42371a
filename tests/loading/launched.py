"""Ranks, started as torchrun starts them, without its launcher."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import NamedTuple


class Ended(NamedTuple):
    """Of one rank."""

    code: int
    out: str
    err: str


def run_ranks(count: int, command: list[str]) -> list[Ended]:
    """The same command as every rank of this machine, to its end."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    common |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "PYTHONPATH": os.getcwd()}
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    return [_ended(process) for process in started]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _ended(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate()
    return Ended(process.returncode, out, err)

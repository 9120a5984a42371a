"""Which process holds something, told apart from every other one, and whether it still lives.

A process id says little: a container that is started again has the one of the container before, and its host
name. With the machine's boot, the numbering that the id is of, and the moment at which the process began, it
is of one process alone. Of a process of another machine, nothing can be asked from here.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import time
import uuid
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from converters.formats.jsontext import json_value
from converters.saved import HOLDER

_PROC = Path("/proc")
_WORDS = 3  # of the command line; what comes after may be long
_MOST = 1 << 16
"""Bytes of what a file says of its holder."""
_LATEST = 1e11
"""Seconds since 1970; the year 5138, which every system can write as a date."""


@dataclass(frozen=True)
class Holder:
    """nonce: drawn for each time that something is held. boot: of its machine, since when that has been up.
    numbering: which process ids are meant (a pid namespace). began: of the process, in ticks after boot.
    device: of the file that says so, as the holder sees it. since: seconds since 1970, by its own clock."""

    nonce: str
    boot: str
    numbering: str
    process: int
    began: int | None
    device: int
    host: str
    command: str
    since: float

    def __str__(self) -> str:
        if not self.nonce:
            return "a process that does not say which it is"
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"`{self.command}` (process {self.process} on {self.host}, since {since})"

    @property
    def is_of_this_machine(self) -> bool:
        return self.boot == _boot()


SOMEBODY = Holder("", "", "", 0, None, 0, "", "", 0.0)
"""Who has not said who it is, or not to us."""


def this_process(device: int) -> Holder:
    """The holder of a file on this device from now on."""
    return replace(_self(os.getpid()), nonce=secrets.token_hex(8), device=device, since=time.time())


@cache
def _self(process: int) -> Holder:
    """What does not change of this process. process: its id, which a child has not."""
    number = _number()
    return Holder(
        nonce="",
        boot=_boot(),
        numbering=_numbering(),
        process=number,
        began=_began(number),
        device=0,
        host=socket.gethostname(),
        command=_command(),
        since=0.0,
    )


def lives(holder: Holder) -> bool | None:
    """Whether it still runs; None where that cannot be told from here."""
    if not holder.is_of_this_machine or holder.numbering != _numbering():
        return None
    if holder.began is None:
        return _runs(holder.process)
    if not (_PROC / "1").exists():  # others' processes are hidden (hidepid)
        return None
    return _began(holder.process) == holder.began


def encoded(holder: Holder) -> bytes:
    return json.dumps(HOLDER.marked(asdict(holder))).encode() + b"\n"


def decoded(text: bytes) -> Holder | None:
    """None for what is no holder, or was cut short."""
    try:
        facts = json_value(text, _MOST)
        whole = HOLDER.reads(facts) and text.endswith(b"\n")
        found = Holder(**{name: facts[name] for name in facts if name != "schema"}) if whole else None
    except (ValueError, TypeError):
        return None
    return found if found and _is_one(found) else None


def _is_one(holder: Holder) -> bool:
    """Whether each fact is of its kind: anybody may write into such a file."""
    texts = (holder.nonce, holder.boot, holder.numbering, holder.host, holder.command)
    numbers = (holder.process, holder.began or 0, holder.device)
    fit = all(type(text) is str for text in texts) and all(type(number) is int for number in numbers)
    return fit and type(holder.since) in (int, float) and 0 <= holder.since <= _LATEST


@cache
def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{socket.gethostname()}-{uuid.getnode():012x}"


def _number() -> int:
    """The id of this process as /proc counts, which may be that of an outer pid namespace."""
    try:
        return int((_PROC / "self").readlink().name)
    except (OSError, ValueError):
        return os.getpid()


def _numbering() -> str:
    try:
        if _number() == os.getpid():
            return f"ns {(_PROC / 'self/ns/pid').stat().st_ino}"
        return f"proc {_PROC.stat().st_dev}"
    except OSError:
        return ""


def _began(process: int) -> int | None:
    """proc(5), /proc/[pid]/stat, field 22; the second, a name in parentheses, may hold anything. None for one
    that is no more, or waits for its parent to notice (a zombie), which many a process 1 never does."""
    try:
        fields = (_PROC / str(process) / "stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def _runs(process: int) -> bool | None:
    if sys.platform == "win32":  # os.kill would end it
        return None
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _command() -> str:
    """Its program and verb, no options: they may be secret."""
    program, *words = sys.argv or [""]
    words = [word for word in words[: _WORDS - 1] if "://" not in word]
    end = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
    name = "python" if program in ("", "-c", "-m") else Path(program).name
    return " ".join([name, *words[:end]])

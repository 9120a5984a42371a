"""Runs commands in processes that are forked off one that has the program loaded already.

Such a command is a process like any other, with an environment, a folder and faults of its own, and computes
a fifth of a second less. It is for faults that strike nothing before the command starts.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any

from internlm_zoo import cli
from tests.environment import shim

LEARNT = ("internlm_zoo", "converters", "numpy", "aiohttp", "urllib3", "yaml", "typer", "rich", "pydantic")
_PROGRAM = "from tests.environment import warm; warm.serve(); from internlm_zoo.cli import main; main()"
_idle: LifoQueue[subprocess.Popen[str]] = LifoQueue()


def run(args: Sequence[str], environ: Mapping[str, str], cwd: Path) -> tuple[int, str, str]:
    """Exit code (negative for a signal), stdout and stderr of a command. environ: all that it has."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        files = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (out, err)]
        code = _ask({"args": [*args], "environ": {**environ}, "cwd": str(cwd), "files": files})
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return code, texts[0], texts[1]


def _ask(command: dict[str, Any]) -> int:
    """Of one that has nothing to do, or of a new one."""
    try:
        parent = _idle.get_nowait()
    except Empty:
        parent = _start()
    assert parent.stdin is not None and parent.stdout is not None
    parent.stdin.write(json.dumps(command) + "\n")
    parent.stdin.flush()
    code = int(parent.stdout.readline())
    _idle.put(parent)
    return code


def _start() -> subprocess.Popen[str]:
    environ = {**os.environ, **shim.preloaded(""), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", _PROGRAM]
    parent = subprocess.Popen(
        command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    atexit.register(parent.kill)
    return parent


def serve() -> None:
    """In the parent of commands, which imports what they did for those that follow. Returns in a child, which
    then is the command."""
    cli._ask_for_few_threads()  # before numpy is loaded, as in a command
    while line := sys.stdin.readline():
        seen, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(seen)
            _become(json.loads(line), tell)
            return
        os.close(tell)
        with os.fdopen(seen) as file:
            learnt = file.read().split()
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        for name in learnt:
            importlib.import_module(name)


def _become(command: Mapping[str, Any], tell: int) -> None:
    for number, path in enumerate(("/dev/null", *command["files"])):
        os.dup2(os.open(path, os.O_RDWR), number)
    os.environ.clear()
    os.environ.update(command["environ"])
    ctypes.CDLL(None).read_faults()
    os.chdir(command["cwd"])
    sys.argv[1:] = command["args"]
    before = _learnt()
    os.set_inheritable(tell, False)
    atexit.register(lambda: os.write(tell, " ".join(sorted(_learnt() - before)).encode()))


def _learnt() -> set[str]:
    """But no commands: each is another's parser to build."""
    known = {name for name in sys.modules if name.partition(".")[0] in LEARNT}
    return known - {f"internlm_zoo.cli.{module}" for module in cli._MODULES}

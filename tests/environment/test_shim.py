"""The shim makes each call fail that it is asked to, below its folder and nowhere else."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.environment import shim
from tests.environment.table import ENVIRONMENTS

# One line of Python for each call of the shim's; `f` is an open file in `d`, which also holds "a" and "sub".
TRIES = {
    "chmod": "os.chmod(d / 'a', 0o600), os.fchmod(f, 0o600)",
    "fsync": "os.fsync(f)",
    "flock": "fcntl.flock(f, fcntl.LOCK_EX)",
    "unlock": "fcntl.flock(f, fcntl.LOCK_UN)",
    "lock": "fcntl.lockf(f, fcntl.LOCK_EX)",
    "link": "os.link(d / 'a', d / 'b')",
    "symlink": "os.symlink('a', d / 'c')",
    "rename": "os.rename(d / 'a', d / 'a')",
    "move": "os.rename(d / 'a', d / 'sub' / 'a')",
    "exchange": "exchange(d / 'a', d / 'sub')",
    "tmpfile": "os.open(d, os.O_TMPFILE | os.O_RDWR)",
    "open": "open(d / 'a').close()",
    "create": "open(d / 'n', 'w').close()",
    "mkdir": "os.mkdir(d / 'n')",
    "unlink": "os.unlink(d / 'spare')",
    "utime": "os.utime(d / 'a')",
    "truncate": "os.ftruncate(f, 3)",
    "allocate": "os.posix_fallocate(f, 0, 9)",
    "clone": "fcntl.ioctl(f, 0x40049409, f)",
    "copy": "os.copy_file_range(f, f, 1, 0, 5)",
    "read": "os.read(f, 1)",
    "write": "os.write(f, bytes(200))",
    "statvfs": "os.statvfs(d)",
    "mmap": "mmap.mmap(f, 1)",
    "thread": "threading.Thread(target=int).start()",
    "passwd": "pwd.getpwuid(0)",
}
PROGRAM = """
import ctypes, errno, fcntl, json, mmap, os, pathlib, pwd, sys, threading
d = pathlib.Path(sys.argv[2])
f = os.open(d / "a", os.O_RDWR)
def exchange(a, b):
    if ctypes.CDLL(None, use_errno=True).renameat2(-100, bytes(a), -100, bytes(b), 2):
        raise OSError(ctypes.get_errno(), "")
try:
    exec(sys.argv[1])
    print(0)
except OSError as error:
    print(error.errno)
except (KeyError, RuntimeError):
    print(errno.ENXIO)
"""


def tried(call, faults, root, folder):
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    (folder / "a").write_bytes(bytes(100))
    (folder / "spare").touch()
    env = {**os.environ, **shim.preloaded(faults, root)}
    command = [sys.executable, "-S", "-c", PROGRAM, TRIES[call], folder]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(shim.why_not() is not None, reason=f"{shim.why_not()}")
@pytest.mark.parametrize("call", TRIES)
def test_a_call_fails_below_the_folder_alone(call, tmp_path):
    spared = {"write": "@100", "create": "@1"}.get(call, "")  # one is opened beforehand
    assert tried(call, f"{call}{spared}=ENXIO", tmp_path / "odd", tmp_path / "odd") == 6
    if call not in ("thread", "passwd", "clone", "exchange"):  # the first two are nowhere
        assert tried(call, f"{call}=ENXIO", tmp_path / "odd", tmp_path / "plain") == 0


def test_every_call_is_tried_and_every_environment_has_its_line():
    assert TRIES.keys() == shim.CALLS.keys()
    assert all(name and environment.what for name, environment in ENVIRONMENTS.items())

"""Builds shim.c and folding.c, once, and says how a process is started with them."""

from __future__ import annotations

import atexit
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent

# What may fail: the call's name in shim.c.
CALLS = {
    "chmod": "chmod, fchmod, fchmodat",
    "fsync": "fsync, fdatasync",
    "flock": "flock, to take a lock",
    "unlock": "flock, to give it back",
    "lock": "fcntl locks",
    "link": "hard links",
    "symlink": "symbolic links",
    "rename": "any rename",
    "move": "a rename from one folder to another",
    "exchange": "renameat2 with RENAME_EXCHANGE or RENAME_NOREPLACE",
    "tmpfile": "open with O_TMPFILE",
    "open": "open to read",
    "create": "open to write",
    "mkdir": "mkdir",
    "unlink": "unlink, rmdir by descriptor",
    "utime": "utimensat, futimens, utimes",
    "truncate": "ftruncate",
    "allocate": "posix_fallocate",
    "clone": "ioctl FICLONE (reflinks)",
    "copy": "copy_file_range, sendfile",
    "read": "read, pread",
    "write": "write, pwrite; @n counts bytes",
    "statvfs": "statvfs (how much room there is)",
    "mmap": "mmap of a file",
    "thread": "pthread_create; @n threads may live at a time",
    "passwd": "getpwuid: the account has no entry",
}


@cache
def why_not() -> str | None:
    """Why there is no shim on this machine; None if there is one."""
    if sys.platform != "linux":
        return "the shim is for Linux"
    if shutil.which("cc") is None:
        return "the shim needs a C compiler (cc)"
    try:
        built()
    except subprocess.CalledProcessError as error:
        return f"cc does not build the shim: {error.stderr.strip()[:200]}"
    return None


@cache
def built(source: str = "shim.c") -> Path:
    """The shared library, where every account may read it."""
    folder = Path(tempfile.mkdtemp(prefix="shim-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    library, flags = folder / "shim.so", ("-shared", "-fPIC", "-O1")
    command = ["cc", *flags, "-o", str(library), str(_HERE / source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return library


def folding(root: Path) -> dict[str, str]:
    """Variables for a process for which case does not count below `root`."""
    return {"LD_PRELOAD": str(built("folding.c")), "FOLD_ROOT": os.path.realpath(root)}


def preloaded(faults: str, root: Path | None = None) -> dict[str, str]:
    """Variables for a process that is to meet these faults below `root`, or everywhere.

    faults: as "chmod=EPERM write@100000=EDQUOT flock=0": a call of CALLS, after how many it fails, and with
    which error; 0 is a call that does nothing and does not say so.
    """
    spelt = []
    for fault in faults.split():
        call, _, error = fault.partition("=")
        assert call.partition("@")[0] in CALLS, fault
        spelt.append(f"{call}={getattr(errno, error) if error != '0' else 0}")
    where = {"SHIM_ROOT": os.path.realpath(root)} if root is not None else {}
    return {"LD_PRELOAD": str(built()), "SHIM_FAULTS": ",".join(spelt), **where}

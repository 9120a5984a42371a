"""The environments that are worth trying, as data.

An environment is: which calls fail below the odd folder (shim.c), what a shell does before the command
(mounts, in namespaces that go with it; limits; another account), and what has to be there already. A shell
line knows the odd folder as $ODD.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.environment import shim

ROOT = Path(__file__).parents[2]
NOBODY = 65534
_TRIALS = {
    "unshare": ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
    "setpriv": ["setpriv", f"--reuid={NOBODY}", "true"],
}
READ_ONLY = 'mkdir -p "$ODD" && mount --bind "$ODD" "$ODD" && mount -o remount,bind,ro "$ODD"'


def in_the_open() -> str:
    """A shell line that makes the interpreter and this tree reachable for every account, in a namespace whose
    mounts may be changed: a home that is closed to others is replaced by one that holds these alone."""
    needed = {Path(place).resolve() for place in (sys.base_prefix, sys.prefix, ROOT)}
    parents = sorted({parent for place in needed for parent in place.parents})
    closed = next((parent for parent in parents if not parent.stat().st_mode & 0o001), None)
    if closed is None:
        return "true"
    inside = [place for place in needed if place.is_relative_to(closed)]
    kept = [
        f"kept{number}=$(mktemp -d) && mount --bind {place} $kept{number}"
        for number, place in enumerate(inside)
    ]
    shown = [f"mkdir -p {place} && mount --bind $kept{number} {place}" for number, place in enumerate(inside)]
    return " && ".join([*kept, f"mount -t tmpfs -o mode=755 tmpfs {closed}", *shown])


@dataclass(frozen=True)
class Environment:
    """what: in one line. faults: as `shim.preloaded` takes them. namespaces: options of `unshare`. before: a
    shell line that runs first, as root. through: words before the command. complete: whether it is for a
    store that has the release already. kept: whether what is written there outlives the command."""

    name: str
    what: str
    faults: str = ""
    namespaces: str = ""
    before: str = "true"
    through: str = ""
    complete: bool = False
    kept: bool = True

    @property
    def strikes_late(self) -> bool:
        """Whether nothing of it is there before the command starts: calls that fail below the odd folder."""
        plain = (self.namespaces, self.before, self.through) == ("", "true", "")
        return plain and not any(call in self.faults for call in ("thread", "passwd"))

    @property
    def why_not(self) -> str | None:
        """Why this machine cannot have it; None if it can."""
        if self.faults and (reason := shim.why_not()):
            return reason
        needed = {"unshare": self.namespaces, "setpriv": self.through}
        reasons = (_refusal(tool) for tool, wanted in needed.items() if wanted)
        return next((reason for reason in reasons if reason), None)


@cache
def _refusal(tool: str) -> str | None:
    """Why a tool cannot be used; None if it can."""
    if shutil.which(tool) is None:
        return f"there is no {tool}"
    done = subprocess.run(_TRIALS[tool], capture_output=True, text=True)
    return None if done.returncode == 0 else f"{tool} is not allowed: {done.stderr.strip()[-200:]}"


_ALL = (
    Environment("plain", "a file system that has everything"),
    Environment("no modes", "modes cannot be changed (CIFS, exFAT, Android's /sdcard)", "chmod=EPERM"),
    Environment("no times", "times cannot be set", "utime=EPERM"),
    Environment("no fsync", "fsync is not known (some FUSE and 9p mounts)", "fsync=EINVAL"),
    Environment("failing fsync", "fsync says that bytes were lost", "fsync=EIO"),
    Environment(
        "no flock", "locks are not known (some FUSE, Lustre without -o flock)", "flock=ENOSYS lock=ENOSYS"
    ),
    Environment("no lock server", "the lock server does not answer (NFS)", "flock=ENOLCK lock=ENOLCK"),
    Environment("unlock fails", "a lock can be taken and not given back (CIFS)", "unlock=EACCES"),
    Environment("lying flock", "every lock is granted to everybody", "flock=0 lock=0"),
    Environment(
        "no links", "neither symbolic nor hard links (exFAT, object storage)", "symlink=EPERM link=EPERM"
    ),
    Environment("no symbolic links", "hard links alone", "symlink=EPERM"),
    Environment("full of links", "an inode has all the names it may have", "symlink=EPERM link=EMLINK"),
    Environment("no moves", "a rename to another folder is one to another device", "move=EXDEV"),
    Environment("no renames", "renames fail", "rename=EXDEV"),
    Environment("no exchange", "two names cannot be exchanged", "exchange=EINVAL"),
    Environment("no reservation", "room cannot be reserved", "allocate=EOPNOTSUPP truncate=EOPNOTSUPP"),
    Environment("no temporaries", "O_TMPFILE is not known", "tmpfile=EOPNOTSUPP"),
    Environment(
        "no copying in the kernel", "copy_file_range and sendfile fail", "copy=EINVAL clone=EOPNOTSUPP"
    ),
    Environment("no mapping", "files cannot be mapped into memory", "mmap=ENODEV"),
    Environment("no room known", "nobody says how much room there is", "statvfs=ENOSYS"),
    Environment("quota", "the account's quota is used up after 200 kB", "write@200000=EDQUOT"),
    Environment("bad disk", "writing fails after 200 kB", "write@200000=EIO"),
    Environment("stale handle", "the file server forgets its files", "write@200000=ESTALE"),
    Environment("few threads", "12 threads at a time", "thread@12=EAGAIN"),
    Environment("no threads", "no thread at all", "thread=EAGAIN"),
    Environment(
        "nobody",
        "an account without a home and without an entry",
        namespaces="-m",
        before=f"unset HOME; {in_the_open()}",
        through="setpriv --reuid=54321 --regid=54321 --clear-groups",
    ),
    Environment("few files", "30 open files", before="ulimit -n 30"),
    Environment("small files", "no file above 200 kB (ulimit -f)", before="ulimit -f 400"),
    Environment(
        "small disk",
        "a disk of 256 kB",
        namespaces="-m",
        before='mkdir -p "$ODD" && mount -t tmpfs -o size=256k tmpfs "$ODD"',
        kept=False,
    ),
    Environment(
        "image layer",
        "a complete store that came with a container's image (overlayfs)",
        namespaces="-m",
        before='top=$(mktemp -d) && mount -t tmpfs tmpfs "$top" && mkdir "$top/upper" "$top/work" && '
        'mount -t overlay overlay -o "lowerdir=$ODD,upperdir=$top/upper,workdir=$top/work" "$ODD"',
        complete=True,
        kept=False,
    ),
    Environment(
        "read-only",
        "a complete store, mounted read-only",
        namespaces="-m",
        before=READ_ONLY,
        complete=True,
    ),
    Environment(
        "read-only and empty",
        "an empty folder, mounted read-only",
        namespaces="-m",
        before=READ_ONLY,
    ),
    Environment(
        "not ours",
        "a complete store that belongs to another account",
        namespaces="-m",
        before=in_the_open(),
        through=f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups",
        complete=True,
    ),
    Environment(
        "squashed root",
        "root without the right to read what others own (NFS)",
        through="setpriv --bounding-set=-dac_override,-dac_read_search,-fowner,-chown",
    ),
    Environment(
        "no home",
        "HOME is not set, the account has no entry",
        "passwd=ENOENT",
        before="unset HOME INTERNLM_ZOO_HOME",
        kept=False,
    ),
    Environment("no /proc", "/proc is not mounted", namespaces="-m", before="mount -t tmpfs tmpfs /proc"),
    Environment("no /tmp", "no folder for temporary files", before="export TMPDIR=/nonexistent"),
)
ENVIRONMENTS = {environment.name: environment for environment in _ALL}

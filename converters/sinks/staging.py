"""Where a target is made: in a hidden directory next to it, which becomes the target in one rename.

What an interrupted run has written stays there, and the same conversion goes on from it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from converters.errors import IntegrityError, PartlyDoneError, UsageError, ZooError
from converters.formats.access import content_of
from converters.formats.jsontext import json_value
from converters.locking import LockFile, held
from converters.planning.plan import Plan
from converters.saved import BATCHES, IDENTITY, tool_version
from converters.sinks.exchange import exchange
from converters.system.system_files import is_empty, is_of_a_system

BOOKKEEPING = frozenset({IDENTITY.file, BATCHES.file})
_MOST = 1 << 16


class Staging:
    """The directory in which a target is made.

    occupied: the target exists and is not an empty directory. Raises UsageError if it is a mount point, which
    cannot be replaced, and if nothing can be made beside it.
    """

    def __init__(self, target: Path) -> None:
        self.target = Path(os.path.realpath(target))
        self.path = self.target.with_name(f".{self.target.name}.converting")
        self._old = self.target.with_name(f".{self.target.name}.replaced")
        self._guard: LockFile | None = None
        self._note: Callable[[str], None] = lambda _: None
        with _as_argument(target):
            _check_names(self.target, self.path)
            _check_place(target, next(parent for parent in self.target.parents if parent.exists()))
            if _is_mount_point(self.target):
                what = "a mount point cannot be replaced in one step"
                raise UsageError(what, target, "choose a directory in it")

    @property
    def occupied(self) -> bool:
        empty = self.target.is_dir() and is_empty(self.target)
        return self.target.exists() and not empty

    @contextmanager
    def alone(self, note: Callable[[str], None]) -> Iterator[None]:
        """No other conversion makes the same target meanwhile. note: told for whom it has to wait."""
        missing = [parent for parent in self.target.parents if not parent.exists()]
        self._note = note
        try:
            with held(self.target.with_name(f".{self.target.name}.guard"), note) as self._guard:
                if self._old.exists() and not self.target.exists():  # killed between two renames
                    self._old.rename(self.target)
                yield
        finally:
            with suppress(OSError):  # something is in it now
                for parent in missing:
                    parent.rmdir()

    def _check_alone(self) -> None:
        """Raises UsageError if another conversion makes the target by now: this one was taken for dead, as on
        a machine that slept, or what it held was removed."""
        if self._guard is None or self._guard.is_ours():
            return
        what = "another conversion to this target has taken over, and what this one wrote is of no use"
        raise UsageError(what, self.target, "wait until that has ended, or choose another target")

    def begin(self, plan: Plan, engine: str) -> None:
        """Keep the weights that an interrupted run of the same conversion wrote, and nothing else."""
        _remove(self._old)
        begun = is_begun(self.path, plan, engine)
        if self.path.exists() and not begun:
            if (self.path / IDENTITY.file).exists():
                self._note("what lies there of an unfinished conversion is of another one, and goes")
            _remove(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        kept = {file.name for file in plan.files} | BOOKKEEPING
        for left in self.path.iterdir():
            if left.name not in kept:
                _remove(left)
        if not begun:
            (self.path / IDENTITY.file).write_text(json.dumps(_identity(plan, engine)))

    def sweep(self) -> None:
        """What a run left that was killed after it had published."""
        _remove(self._old)
        if not (self.path / IDENTITY.file).exists():
            _remove(self.path)

    @contextmanager
    def dropped_if_wrong(self) -> Iterator[None]:
        """At an IntegrityError nothing stays that a later run would go on from. What went wrong because
        another conversion has taken over is said to be that."""
        try:
            yield
        except (ZooError, OSError) as error:
            self._check_alone()
            if isinstance(error, IntegrityError):
                _remove(self.path)
            raise

    def publish(self) -> None:
        """Put the finished directory in the target's place, where what was there stays whole until then.

        Raises UsageError if the file system cannot, as some that lie over another one, and if another
        conversion has taken over.
        """
        self._check_alone()
        for name in BOOKKEEPING:
            (self.path / name).unlink()
        try:
            self._replace()
        except OSError as error:
            # A lower layer of overlayfs, a mount, a directory of another account.
            if error.errno not in (errno.EXDEV, errno.EBUSY, errno.EACCES, errno.EPERM):
                raise
            what = f"it cannot be replaced here: {error.strerror}"
            fix = f"the result is whole: it is {self.path}, to be moved by hand"
            raise UsageError(what, self.target, fix) from error
        self._carry_over()
        self._remove_old()

    def _remove_old(self) -> None:
        """What was there before: the result is in its place, whatever becomes of it."""
        try:
            _remove(self.path)
        except OSError as error:
            what = f"the result is in place; what was there before cannot be removed: {error.strerror}"
            raise PartlyDoneError(what, self.path, "have its owner remove it") from error

    def _carry_over(self) -> None:
        """What a system left in the old directory, a trash can say, is not ours to remove."""
        for left in self.path.iterdir() if self.path.is_dir() else ():
            if is_of_a_system(left.name):
                with suppress(OSError):
                    left.rename(self.target / left.name)

    def _replace(self) -> None:
        """What was there takes the finished directory's old place."""
        if not self.target.exists():
            self.path.rename(self.target)
        elif not exchange(self.path, self.target):
            self.target.rename(self._old)  # a kill right here is mended by `alone`
            self.path.rename(self.target)
            self._old.rename(self.path)


@contextmanager
def _as_argument(target: Path) -> Iterator[None]:
    """What the system refuses of the target before any work is a mistake in its name."""
    try:
        yield
    except OSError as error:
        what = f"it cannot be a target: {error.strerror}"
        raise UsageError(what, error.filename or target, "choose another target") from error


def _check_names(*paths: Path) -> None:
    """Raises OSError for a link that leads to itself, a name that is too long, a place not to be seen."""
    for path in paths:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()


def _check_place(target: Path, parent: Path) -> None:
    if not parent.is_dir():
        raise UsageError(f"{parent} is not a directory", target, "choose another target")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"{parent} cannot be written to", target, "choose another target")


def _is_mount_point(path: Path) -> bool:
    """Also of a directory bound to another of the same file system, which os.path.ismount does not see."""
    table = Path("/proc/self/mountinfo")
    lines = os.fsdecode(table.read_bytes()).split("\n") if table.exists() else []
    escaped = str(path).translate({ord(char): f"\\{ord(char):03o}" for char in " \t\n\\"})
    return os.path.ismount(path) or any(line.split(" ")[4:5] == [escaped] for line in lines)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_begun(path: Path, plan: Plan, engine: str) -> bool:
    """Whether what lies there is of this conversion by this engine, and version. Raises NotFoundError if the
    source is gone, UnsupportedError for what a later version has begun."""
    mark = path / IDENTITY.file
    try:
        found = json_value(content_of(mark, _MOST), _MOST) if mark.is_file() else None
    except ValueError:
        return False
    if IDENTITY.is_newer(found):
        raise IDENTITY.newer(path, "remove it to begin anew")
    return found == _identity(plan, engine)


def _identity(plan: Plan, engine: str) -> dict[str, object]:
    tool = f"internlm-zoo {tool_version()}"
    return IDENTITY.marked({"tool": tool, "journal": BATCHES.schema, "conversion": _digest(plan, engine)})


def _digest(plan: Plan, engine: str) -> str:
    """Of all that decides the bytes of the weight files: the source's, how they are read, how they are
    written. engine: who keeps the journal."""
    digest = hashlib.sha256(engine.encode())
    for file in plan.source.files:
        digest.update(plan.source.folder.identity(file).encode())
    for target in plan.files:
        digest.update(repr((target.name, target.layout.size, target.layout.spans)).encode())
    for side in (plan.source, plan):
        digest.update(repr((side.layout.name, sorted(side.choices.items(), key=str))).encode())
    digest.update(repr((sorted(plan.source.sizes.items()), plan.dtype)).encode())
    return digest.hexdigest()

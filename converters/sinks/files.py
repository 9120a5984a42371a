"""Weight files: written beside their final place, under their final name only when whole.

Everything is made in a hidden directory next to the target. A shard that is finished loses its `.unfinished`
suffix there, so that a run that was killed goes on where it stopped; the directory becomes the target in one
rename at the end.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from converters.errors import NoSpaceError, UsageError
from converters.execute import Stream, in_parallel
from converters.formats.tensors import Span
from converters.plan import Plan, TargetFile
from converters.progress import Progress
from converters.sinks.digests import Watch

UNFINISHED = ".unfinished"
_IDENTITY = "identity"


class Staging:
    """The directory in which a target is made.

    Raises UsageError if the target exists, is not an empty directory, and is not to be replaced.
    """

    def __init__(self, target: Path, *, force: bool) -> None:
        self.target = target.resolve()
        self.path = self.target.with_name(f".{self.target.name}.converting")
        self._old = self.target.with_name(f".{self.target.name}.replaced")
        occupied = self.target.exists() and not (self.target.is_dir() and not any(self.target.iterdir()))
        if occupied and not force:
            raise UsageError(
                "the target exists and is not empty", target, "choose another, or replace it with --force"
            )

    def begin(self, plan: Plan) -> None:
        """Keep the weight files that an interrupted run of the same conversion finished, and nothing else."""
        mark, identity = self.path / _IDENTITY, identity_of(plan)
        if self.path.exists() and not (mark.is_file() and mark.read_text() == identity):
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        finished = {file.name for file in plan.files}
        for left in self.path.iterdir():
            if left.name not in finished:
                left.unlink()
        mark.write_text(identity)

    def publish(self) -> None:
        """Put the finished directory in the target's place."""
        (self.path / _IDENTITY).unlink()
        if self._old.exists():
            shutil.rmtree(self._old)
        if self.target.exists():
            self.target.rename(self._old)
        self.path.rename(self.target)
        if self._old.is_dir():
            shutil.rmtree(self._old)
        else:
            self._old.unlink(missing_ok=True)


def identity_of(plan: Plan) -> str:
    """Of all that decides the bytes of the weight files: the source's, how they
    are read, how they are written."""
    digest = hashlib.sha256()
    for file in plan.source.files:
        digest.update(plan.source.folder.identity(file).encode())
    for target in plan.files:
        digest.update(repr((target.name, target.layout.size, target.layout.spans)).encode())
    for side in (plan.source, plan):
        digest.update(repr((side.layout.name, sorted(side.choices.items(), key=str))).encode())
    digest.update(repr(sorted(plan.source.sizes.items())).encode())
    return digest.hexdigest()


def check_space(plan: Plan, target: Path) -> None:
    """Raises NoSpaceError if the target's disk has less free than the weights take."""
    parent = next(parent for parent in target.absolute().parents if parent.exists())
    free = shutil.disk_usage(parent).free
    if free < plan.nbytes:
        raise NoSpaceError(
            f"{plan.nbytes:,} bytes are needed and {free:,} are free",
            parent,
            "free some space or choose another disk",
        )


@dataclass(frozen=True)
class Written:
    """kept: files that were there already. digests: of logical tensors whose bytes passed whole, in order."""

    kept: tuple[str, ...]
    digests: Mapping[str, str]


def write_files(
    plan: Plan, stream: Stream, staging: Path, workers: int | None, evidence: bool, progress: Progress
) -> Written:
    """Write every file of the plan that is not there yet. evidence: digest what passes."""
    kept = tuple(file.name for file in plan.files if (staging / file.name).exists())
    digests: dict[str, str] = {}
    for file in plan.files:
        progress.start(file.name, file.layout.size, file.layout.size if file.name in kept else 0)
        if file.name not in kept:
            digests |= _write(file, stream, staging / file.name, workers, evidence, progress)
        progress.finish(file.name)
    return Written(kept, digests)


def _write(
    file: TargetFile, stream: Stream, path: Path, workers: int | None, evidence: bool, progress: Progress
) -> dict[str, str]:
    digests: dict[str, str] = {}
    partial = path.with_name(path.name + UNFINISHED)
    with _no_space_named(path), _Output(partial, file.layout.size) as output:
        for patch in file.layout.fixed:
            output.write(*patch)

        def fill(span: Span) -> int:
            crc, cell = 0, file.cells[span.name]
            watch = Watch(stream.source, cell, span) if evidence else None
            for block, data in stream.tensor(cell, span):
                output.write(block.offset, data.data)
                crc = zlib.crc32(data.data, crc) if file.layout.needs_crc else 0
                if watch:
                    watch.see(block, data)
                progress.advance(file.name, block.nbytes)
            digests.update(watch.digests() if watch else {})
            return crc

        spans = file.layout.spans
        crcs = dict(zip((span.name for span in spans), in_parallel(fill, spans, workers), strict=True))
        for patch in file.layout.seal(crcs):
            output.write(*patch)
    partial.rename(path)
    return digests


class _Output:
    """A file of known size, written at offsets from any thread."""

    def __init__(self, path: Path, size: int) -> None:
        self._file = path.open("wb", buffering=0)
        self._lock = threading.Lock()
        try:
            if hasattr(os, "posix_fallocate") and size:
                os.posix_fallocate(self._file.fileno(), 0, size)
            else:
                self._file.truncate(size)
        except OSError:
            self._file.close()
            raise

    def write(self, offset: int, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            done = self._write_some(offset, view)
            offset, view = offset + done, view[done:]

    def _write_some(self, offset: int, view: memoryview) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self._file.fileno(), view, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.write(view) or 0

    def __enter__(self) -> _Output:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()


@contextlib.contextmanager
def _no_space_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NoSpaceError(
            "the disk is full", path.parent, "free some space and run it again: finished shards are kept"
        ) from error


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """As transformers writes a config: two spaces, sorted keys."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")

"""Writes target files on the nodes of a Ray cluster that share a file system: one task, one file.

A task writes in a directory of its own and moves the file to its place when it is whole. So an attempt that
was lost, or that was only thought lost and still runs, never touches what another one writes.
"""

from __future__ import annotations

import logging
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RaySystemError,
    RayTaskError,
    WorkerCrashedError,
)

from converters.engines import RAY, Engine
from converters.errors import NotFoundError, PartlyDoneError, UnsupportedError, UsageError
from converters.formats.folder import Folder, LocalFolder
from converters.planning.plan import Plan
from converters.progress import NullProgress, Progress
from converters.saved import BATCHES, tool_version
from converters.sinks import files
from converters.sinks.files import Written
from converters.sinks.journal import Journal, WrittenBatch
from converters.sinks.staging import is_begun
from converters.source.gather import Sources
from converters.streaming.stream import Stream

TRIES = 4  # as of Ray itself, which would not tell of them (max_retries=0)
_LOST = (WorkerCrashedError, NodeDiedError, LocalRayletDiedError, ObjectLostError, OutOfMemoryError)
_PATIENCE = 5.0  # seconds for a connection, where Ray would wait for minutes, and for tasks to end


@contextmanager
def on_cluster(source: Folder, address: str | None = None) -> Iterator[Engine]:
    """The cluster this process is connected to already, the one at `address`, or else that which Ray
    finds: RAY_ADDRESS names it, or it runs here. Raises UsageError if there is none, UnsupportedError if its
    nodes cannot read the source."""
    _on_disk(source)
    if ray.is_initialized():
        yield write_files
        return
    _check_answers(address or "")
    try:
        # What workers print would stand among the results.
        ray.init(address=address or "auto", log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_cluster(" ".join(str(error).split()).split(". ")[0]) from error
    try:
        yield write_files
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal()) or "/" in host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except OSError as error:
        raise _no_cluster(f"nothing answers at RAY_ADDRESS={address}: {error}") from error


def _no_cluster(why: str) -> UsageError:
    what = f"there is no Ray cluster to work on: {why}"
    fix = "start one with `ray start --head`, or set RAY_ADDRESS to the host:port of one"
    return UsageError(what, "`engine='ray'`", fix)


@dataclass(frozen=True)
class _Job:
    """version: of this package. plan: with paths that mean the same on every node. attempts: where each has
    a directory of its own."""

    version: str
    plan: Plan
    staging: Path
    attempts: Path
    evidence: bool


@dataclass(frozen=True)
class _Done:
    node: str
    digests: Mapping[str, str]


def write_files(
    plan: Plan, stream: Stream, staging: Path, workers: int | None, evidence: bool, progress: Progress
) -> Written:
    """Every file that an earlier run has not finished, as many at a time as the cluster has processors.

    workers: of this process, which does not write. Raises PartlyDoneError if a file's worker is lost again
    and again, UsageError if a node sees other files, and what a node raises.
    """
    shared = _everywhere(plan)
    with (
        Journal(staging / BATCHES.file, lambda number, _: number < len(plan.files)) as journal,
        tempfile.TemporaryDirectory(prefix="attempts-", dir=staging) as attempts,
    ):
        kept = tuple(plan.files[number].name for number in sorted(journal.entries))
        _write(_Job(tool_version(), shared, staging, Path(attempts), evidence), journal, progress)
        entries = journal.entries.values()
        return Written(kept, {name: digest for entry in entries for name, digest in entry.digests.items()})


def _write(job: _Job, journal: Journal, progress: Progress) -> None:
    sizes = [file.layout.size for file in job.plan.files]
    progress.start(RAY, sum(sizes), sum(sizes[number] for number in journal.entries))
    unwritten = [number for number in range(len(sizes)) if number not in journal.entries]
    for number, done in _results(job, unwritten, progress):
        journal.add(number, WrittenBatch({}, done.digests))
        progress.advance(RAY, sizes[number])
    progress.finish(RAY)


def _everywhere(plan: Plan) -> Plan:
    folder = _on_disk(plan.source.folder)
    shared = replace(folder, path=folder.path.absolute())
    return replace(plan, source=replace(plan.source, folder=shared))


def _on_disk(folder: Folder) -> LocalFolder:
    if not isinstance(folder, LocalFolder):
        what = "the nodes of a cluster read the source from a file system they share"
        raise UnsupportedError(what, "`engine='ray'`", "download it to one first")
    return folder


def _results(job: _Job, numbers: Sequence[int], progress: Progress) -> Iterator[tuple[int, _Done]]:
    """Files by number, in the order in which they are finished."""
    task = ray.remote(_on_node).options(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")
    shared = ray.put(job)
    pending = {task.remote(shared, number): number for number in numbers}
    lost: Counter[int] = Counter()
    try:
        while pending:
            (ready,), _ = ray.wait(list(pending))
            number = pending.pop(ready)
            try:
                done: _Done = ray.get(ready)
            except _LOST as error:
                lost[number] += 1
                name = job.plan.files[number].name
                _check_tries(lost[number], name, error)
                progress.note(f"{name}: {type(error).__name__}; it is written again")
                pending[task.remote(shared, number)] = number
            except RayTaskError as error:
                raise _of_node(error) from None
            else:
                yield number, done
    finally:
        for ref in pending:
            ray.cancel(ref, force=True)
        # What is there may be removed next, when nobody writes any more.
        ray.wait(list(pending), num_returns=len(pending), timeout=_PATIENCE)


def _of_node(error: RayTaskError) -> BaseException:
    cause: BaseException = error.cause
    if not isinstance(cause, (ImportError, RaySystemError)):
        return cause
    return _unlike(f"a node cannot do the work: {str(cause).splitlines()[0]}")


def _unlike(what: str) -> UsageError:
    return UsageError(
        what, "`engine='ray'`", f"every node needs pip install 'internlm-zoo[ray]=={tool_version()}'"
    )


def _check_tries(lost: int, name: str, error: Exception) -> None:
    if lost == TRIES:
        what = f"its worker was lost {TRIES} times, at last by {type(error).__name__}"
        fix = "see what ends it in `ray logs`, and run it again: it goes on with this file"
        raise PartlyDoneError(what, name, fix) from error


def _on_node(job: _Job, number: int) -> _Done:
    """Write one file. Runs in a worker of some node."""
    if job.version != tool_version():
        raise _unlike(f"{socket.gethostname()} has internlm-zoo {tool_version()}, not {job.version}")
    _check_shared(job)
    file = job.plan.files[number]
    attempt = Path(tempfile.mkdtemp(dir=job.attempts))
    with Sources(job.plan.source.folder, confirmed=False) as sources:
        stream = Stream(job.plan.supply, sources, job.plan.normalised, job.plan.elements)
        alone = replace(job.plan, files=(file,))
        written = files.write_files(alone, stream, attempt, 1, job.evidence, NullProgress())
    (attempt / file.name).replace(job.staging / file.name)
    shutil.rmtree(attempt)
    context: Any = ray.get_runtime_context()
    return _Done(context.get_node_id(), dict(written.digests))


def _check_shared(job: _Job) -> None:
    try:
        same = is_begun(job.staging, job.plan, RAY)
    except NotFoundError:
        same = False
    if not same:
        what = f"{socket.gethostname()} does not see the same files under this path"
        fix = "source and target must lie on a file system that all nodes share"
        raise UsageError(what, job.plan.source.path, fix)

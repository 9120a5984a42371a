"""Who writes the weight files of a plan: threads of this process, or the nodes of a cluster.

An engine is a function; opening it finds out, before any work, whether it can work here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from converters.errors import UnsupportedError, UsageError
from converters.formats.folder import Folder
from converters.planning.plan import Plan
from converters.progress import Progress
from converters.sinks.files import Written, write_files
from converters.streaming.stream import Stream

THREADS = "threads"
RAY = "ray"


Engine = Callable[[Plan, Stream, Path, int | None, bool, Progress], Written]
"""Writes what an earlier run of the same engine has not written yet: plan, stream (reads the source in this
process), staging, workers, evidence (digest what passes), progress."""


def open_engine(name: str, source: Folder, cluster: str | None = None) -> AbstractContextManager[Engine]:
    """cluster: see `Execution`. Raises UsageError for a name that is none and for a cluster that is not
    there, UnsupportedError where the engine's package is not installed, and for a source that it cannot
    read."""
    if name not in ENGINES:
        raise UsageError(f"{name!r} is not an engine", "`engine`", f"choose one of {', '.join(ENGINES)}")
    return ENGINES[name](source, cluster)


def _ray(source: Folder, cluster: str | None) -> AbstractContextManager[Engine]:
    try:
        from converters.engines.ray import on_cluster
    except ImportError as error:
        what = f"{error.name} is not installed"
        raise UnsupportedError(what, "`engine='ray'`", "pip install 'internlm-zoo[ray]'") from error
    return on_cluster(source, cluster)


ENGINES: Mapping[str, Callable[[Folder, str | None], AbstractContextManager[Engine]]] = {
    THREADS: lambda source, cluster: nullcontext(write_files),
    RAY: _ray,
}

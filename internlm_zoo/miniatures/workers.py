"""Miniatures of many models at once: one server, workers that take a model each, and a folder that is removed
with all that they wrote, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from converters.system.filesystem import scratch
from internlm_zoo import errors
from internlm_zoo.errors import Cancelled, InternalError, UsageError, ZooError
from internlm_zoo.loading.sandbox.frames import receive, send
from internlm_zoo.miniatures.hub import serving
from internlm_zoo.miniatures.steps import steps_of
from internlm_zoo.miniatures.worker import Task
from internlm_zoo.progress import Progress
from internlm_zoo.registry import load_registry
from internlm_zoo.settings import Settings
from internlm_zoo.smoke.result import Check, SmokeResult, conclude

MOST = 8
"""Workers, where nobody says how many: each is two processes of half a gigabyte."""
_RUN = "from internlm_zoo.miniatures.worker import serve; serve()"
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


def smoke_miniatures(
    names: Sequence[str],
    *,
    settings: Settings,
    jobs: int | None = None,
    devices: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> list[SmokeResult]:
    """The steps on every model's miniature, in the order of the names. jobs: models at a time.

    Raises NotFoundError for an unknown model, UnsupportedError without torch, UsageError for no jobs; a
    miniature that fails is a result."""
    registry = load_registry(settings)
    models = {name: registry.model(name) for name in names}
    if jobs is not None and jobs < 1:
        raise UsageError(f"{jobs} models at a time are none", "`jobs`", "1 or more")
    told = progress or Progress()
    told.plan(len(models), None)
    with scratch() as root, serving(root, settings) as overlay:
        count = min(jobs or min(os.cpu_count() or 1, MOST), len(models))
        crew = [_Worker(root / f"worker{number}", overlay, devices) for number in range(count)]
        waiting = iter(tuple(models))
        found: dict[str, SmokeResult] = {}

        def work(worker: _Worker) -> None:
            while (name := next(waiting, None)) is not None:
                told.start(name, None)
                steps = [step.name for step in steps_of(models[name], registry)]
                found[name] = conclude(name, worker.take(name, steps))
                if not found[name].ok:
                    told.note(f"{name} fails: {found[name].sentence}")
                told.finish(name)

        _all_at_once(work, crew)
    return [found[name] for name in models]


def _all_at_once(work: Callable[[_Worker], None], crew: Sequence[_Worker]) -> None:
    """Until all have ended; where one fails, or this process is interrupted, they end at once."""
    with ThreadPoolExecutor(len(crew) or 1) as threads:
        try:
            for done in as_completed([threads.submit(work, worker) for worker in crew]):
                done.result()
        finally:
            for worker in crew:
                worker.end()


class _Worker:
    """A process that is there when it is asked, and another one after it was lost."""

    def __init__(self, folder: Path, overlay: Path, devices: Sequence[str] | None) -> None:
        self._folder, self._overlay, self._devices = folder, overlay, devices
        self._process: subprocess.Popen[bytes] | None = None
        self._lock, self._over, self._begun = threading.Lock(), False, 0

    def take(self, name: str, steps: Sequence[str]) -> Iterator[Check]:
        """A model's checks, as they come. A process that is lost on the way fails the step that it was at."""
        process = self._started()
        done = 0
        if self._send(process, {"model": name}):
            while (answer := receive(_pipe(process.stdout))) is not None:
                _raise(answer)
                if "check" not in answer:
                    return
                done += 1
                yield Check(**answer["check"])
        step = steps[min(done, len(steps) - 1)]
        yield Check(step, False, f"{step}: {self._lost(process)}")

    def end(self) -> None:
        """For good, and its children with it."""
        with self._lock:
            self._over = True
            process = self._process
        if process is not None:
            _kill(process)

    def _started(self) -> subprocess.Popen[bytes]:
        """Raises ZooError for one that cannot begin, as where there is no torch."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        with self._lock:
            if self._over:
                raise Cancelled("the run is over")
            self._begun += 1
            folder = self._folder / str(self._begun)
            folder.mkdir(parents=True)
            self._process = process = _spawn(folder)
        task = Task(str(self._overlay.parent), str(self._overlay), str(folder), self._devices)
        self._send(process, asdict(task))
        answer = receive(_pipe(process.stdout))
        if answer is None:
            raise InternalError(f"a worker does not begin: {self._lost(process)}")
        _raise(answer)
        return process

    def _send(self, process: subprocess.Popen[bytes], message: dict[str, Any]) -> bool:
        try:
            send(_pipe(process.stdin), message)
        except OSError:  # it is gone
            return False
        return True

    def _lost(self, process: subprocess.Popen[bytes]) -> str:
        _kill(process)
        code = process.returncode
        how = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"
        return f"the process that did it ended before it was done ({how})"


def _spawn(folder: Path) -> subprocess.Popen[bytes]:
    """In a session of its own: a key that interrupts us must not interrupt it, which we end with its
    children. What it leaves for a moment is left in its folder."""
    environ = {**Settings.from_environment().environ, **dict.fromkeys(_THREADS, "1"), "TMPDIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-c", _RUN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ,
        start_new_session=True,
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):  # it is gone
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    process.wait()


def _raise(answer: dict[str, Any]) -> None:
    """What it says that was raised there and is no model's fault."""
    if "error" in answer:
        said = answer["error"]
        known: type[ZooError] = getattr(errors, said["kind"])
        raise known(said["what"], said["where"], said["fix"])
    if "refused" in answer:
        raise OSError(*answer["refused"])


def _pipe(stream: Any) -> Any:
    assert stream is not None
    return stream

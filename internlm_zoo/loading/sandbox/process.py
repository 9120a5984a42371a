"""The child that runs what a checkpoint brings along: started once, asked under limits, ended with us.

The limits are kept by the child's system where it can (`child.py`), and by a look at it from here every few
milliseconds, which is all there is on Windows and for memory on macOS. A child that went beyond one, or
crashed, is replaced by a new one at the next question.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.system.threads import started
from internlm_zoo.errors import UnsupportedError
from internlm_zoo.loading.sandbox.frames import receive, send
from internlm_zoo.settings import inherited

# Ctrl-C is for whoever asks: it reaches every process of the terminal.
_BEGIN = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "sys.path[:], sys.argv[1:] = sys.argv[1:], []; "
    "from internlm_zoo.loading.sandbox.child import serve; serve()"
)
# Of our environment nothing else: no token, no proxy, no path that is not ours.
_KEPT = (
    "PATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "SYSTEMROOT",
    "TEMP",
    "TMP",
    "TMPDIR",
    "HOME",
    "LANG",
)
# One thread: what is measured and limited is one process's work, and threads take addresses.
_SET = {
    **dict.fromkeys(("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    **dict.fromkeys(("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS"), "1"),
    "TOKENIZERS_PARALLELISM": "false",
    "MALLOC_ARENA_MAX": "1",
}
# After these it is not what it was, or is gone.
_SPENT = ("time", "memory", "killed", "crash")
_LOOK = 0.02
_PATIENCE = 10
"""Times the seconds of a processor, for a child that gets no processor or waits for ever."""
_GRACE = 1  # seconds in which its own system may end it, and say why
_ENDINGS = {"SIGXCPU": "time", "SIGPROF": "time", "SIGKILL": "killed"}


@dataclass
class _Child:
    """ready: whether it has said so. owner: a forked copy of us is another process, whose child it is not."""

    process: subprocess.Popen[bytes]
    owner: int = field(default_factory=os.getpid)
    ready: bool = False


class _State:
    child: _Child | None = None
    lock = threading.Lock()


def warm_up() -> None:
    """Start it, if it does not run, so that it is ready when it is asked. Raises what `ask` raises."""
    with _State.lock:
        _running()


def ask(question: dict[str, Any], seconds: int, memory: int) -> dict[str, Any]:
    """Its answer; {"error": {"kind", "name", "text", "line"}} for what went wrong. seconds: of a processor.
    memory: bytes.

    Raises UnsupportedError where no such process can be started.
    """
    with _State.lock:
        child = _running()
        with _ending(child):
            if not child.ready:
                _greet(child)
            with _watched(child.process, seconds, memory) as broken:
                answer = _exchange(child.process, {**question, "seconds": seconds, "memory": memory})
            if answer is None:
                kind = broken[0] if broken else _ended(child.process)
                answer = {"error": {"kind": kind, "name": kind, "text": "", "line": None}}
        if answer.get("error", {}).get("kind") in _SPENT:
            _end()
        return answer


def _running() -> _Child:
    child = _State.child
    if child is None or child.owner != os.getpid() or child.process.poll() is not None:
        _end()
        child = _State.child = _Child(_spawn())
    return child


def _spawn() -> subprocess.Popen[bytes]:
    ours = str(Path(__file__).parents[3])
    paths = [ours, *(path for path in sys.path if Path(path).is_absolute())]
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-c", _BEGIN, *paths],  # isolated: no PYTHON* variable counts
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a panic in Rust prints what it was at
            env={**inherited(_KEPT), **_SET},
        )
    except OSError as error:
        raise _none(f"it cannot be started: {error.strerror}") from error


def _none(why: str) -> UnsupportedError:
    return UnsupportedError(f"a tokenizer is run in a process of its own only, and {why}", sys.executable)


def _greet(child: _Child) -> None:
    answer = receive(_pipe(child.process.stdout)) or {"error": {"text": "it ends at once"}}
    if "ready" not in answer:
        _end()
        raise _none(f"that does not start: {answer['error']['text']}")
    child.ready = True


def _exchange(process: subprocess.Popen[bytes], question: dict[str, Any]) -> dict[str, Any] | None:
    try:
        send(_pipe(process.stdin), question)
    except OSError:  # it is gone
        return None
    return receive(_pipe(process.stdout))


def _pipe(stream: Any) -> Any:
    assert stream is not None
    return stream


@contextmanager
def _ending(child: _Child) -> Iterator[None]:
    """What is interrupted leaves half a question behind, and a child that works for nobody."""
    try:
        yield
    except BaseException:
        _end()
        raise


@contextmanager
def _watched(process: subprocess.Popen[bytes], seconds: int, memory: int) -> Iterator[list[str]]:
    """Kills it when it goes beyond a limit, and notes which."""
    broken: list[str] = []
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(process, seconds, memory, over, broken), daemon=True)
    watching = started(watch)  # with few threads, the child's own system has to do
    try:
        yield broken
    finally:
        over.set()
        if watching:
            watch.join()


def _watch(
    process: subprocess.Popen[bytes], seconds: int, memory: int, over: threading.Event, broken: list[str]
) -> None:
    import psutil  # comes with accelerate

    with suppress(psutil.Error):  # it has ended, or is not ours to look at
        looked = psutil.Process(process.pid)
        taken, used = looked.memory_info().rss, sum(looked.cpu_times()[:2])
        for _ in range(int(_PATIENCE * seconds / _LOOK)):
            if over.wait(_LOOK):
                return
            if looked.memory_info().rss > taken + memory:
                broken.append("memory")
                break
            if sum(looked.cpu_times()[:2]) > used + seconds + _GRACE:
                break
        broken.append("time")
        process.kill()


def _ended(process: subprocess.Popen[bytes]) -> str:
    """Why it gave no answer. What kills it, but for us, is a system that has no memory left."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    process.kill()
    number = -process.wait()
    name = signal.Signals(number).name if number in set(signal.Signals) else ""
    return _ENDINGS.get(name, "crash")


def _end() -> None:
    child, _State.child = _State.child, None
    if child is None or child.owner != os.getpid():
        return
    child.process.kill()
    child.process.wait()
    for stream in (child.process.stdin, child.process.stdout):
        with suppress(OSError):  # what was not sent yet
            _pipe(stream).close()


atexit.register(_end)

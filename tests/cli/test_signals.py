"""A signal ends any command with its own exit code, whatever hangs, and keeps what arrived."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.environment import Environment
from tests.environment.places import COMMAND
from tests.timing import PATIENCE
from tests.world import REPO, WEIGHTS, World, content_below, write

if os.name == "nt":
    pytest.skip("there are no such signals", allow_module_level=True)


SIZE = 6_000_000
FIRST = ["unshare", "-pf", "--kill-child", "--mount-proc"]
"""Words that make the command process 1 of its namespace, where what is not handled is ignored."""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def slow(world: World) -> World:
    """Its weights never come to an end before somebody gives up."""
    write(world.root / REPO, {WEIGHTS: random.Random(4).randbytes(SIZE)})
    world.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    return world


@pytest.fixture
def start(slow: World) -> Iterator[Start]:
    """Starts the command line. before: what the process does first, in Python. ignored: signals it is to
    find so."""
    running = []

    def start(*args: str, before: str = "", words: list[str] | None = None, ignored: tuple[int, ...] = ()):
        def as_from_a_terminal() -> None:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

        program = [*(words or []), sys.executable, "-c", f"{before}\n{COMMAND[1]}", *args]
        process = subprocess.Popen(
            program, env={**os.environ, **slow.environ}, cwd=slow.folder, preexec_fn=as_from_a_terminal,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def child_of(process: subprocess.Popen[str]) -> int:
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def bytes_kept(world: World) -> int:
    kept = 0
    for path in world.home.glob("partial/*.part"):
        with suppress(FileNotFoundError):  # finished since it was listed
            kept += path.stat().st_size
    return kept


def finishes(world: World, start: Start) -> bool:
    """A rerun has all of it, and asks for none of what was kept."""
    hub = world.hubs["huggingface"]
    hub.clear()
    kept, before = bytes_kept(world), hub.sent
    process = start("download", "tiny", "--source", "huggingface")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert hub.sent - before <= SIZE - kept + 100_000  # the small files may not have been there yet
    return content_below(Path(out.strip())) == content_below(world.root / REPO)


ENDS = [
    (signal.SIGTERM, 143, "terminated"),
    pytest.param(signal.SIGHUP, 129, "hung up", marks=pytest.mark.slow),
    pytest.param(signal.SIGINT, 130, "interrupted", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("number", "code", "word"), ENDS)
def test_it_ends_a_download_from_a_hub_that_is_silent_and_keeps_what_arrived(
    slow: World, start: Start, number: signal.Signals, code: int, word: str
) -> None:
    hub = slow.hubs["huggingface"]
    hub.fault("stall", WEIGHTS, after=SIZE // 2)
    process = start("download", "tiny", "--source", "huggingface")
    hub.wait(lambda: bytes_kept(slow) >= SIZE // 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (code, "")
    assert word in err and "Traceback" not in err
    assert slow.published() == []
    assert bytes_kept(slow) >= SIZE // 2 and finishes(slow, start)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_same_where_it_is_process_1(slow: World, start: Start, number: signal.Signals, code: int) -> None:
    if reason := Environment("process 1", "", namespaces="-pf").why_not:
        pytest.skip(reason)
    hub = slow.hubs["huggingface"]
    hub.fault("stall", WEIGHTS, after=SIZE // 2)
    process = start("download", "tiny", "--source", "huggingface", words=FIRST)
    hub.wait(lambda: bytes_kept(slow) >= SIZE // 2)
    os.kill(child_of(process), number)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert finishes(slow, start)


MIRROR = "destination: mirror\nmodels: [tiny]\nhubs: [huggingface]\n"
HANGS = "import os, time; os.pwrite = lambda *anything: (print('hangs', flush=True), time.sleep(3600))\n"
STUCK = "import atexit, time; atexit.register(lambda: (print('stuck', flush=True), time.sleep(3600)))\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb", ["lock tiny", "status tiny", "mirror apply mirror.yaml", "verify tiny --repair"]
)
def test_it_ends_whatever_asks_a_hub(slow: World, start: Start, verb: str) -> None:
    (slow.folder / "mirror.yaml").write_text(MIRROR)
    folder = slow.download(source="huggingface").path
    blob = (folder / WEIGHTS).resolve()
    blob.chmod(0o600)
    blob.write_bytes(bytes(SIZE))
    slow.fault("hang", "/*")
    asked = slow.requests
    process = start(*verb.split())
    slow.hubs["huggingface"].wait(lambda: slow.requests > asked)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "Traceback" in err) == (143, False), err


@pytest.mark.slow
def test_it_ends_a_conversion_whose_disk_hangs_and_the_next_one_is_right(
    slow: World, start: Start, tmp_path: Path
) -> None:
    from tests.converters.oracle import INTERNLM2, make_model, write_original

    source = write_original(tmp_path / "source", make_model(INTERNLM2), INTERNLM2, 2)
    convert = ("convert", str(source), str(tmp_path / "out" / "hf"), "--to", "hf")
    process = start(*convert, before=HANGS)
    assert process.stdout is not None and process.stdout.readline() == "hangs\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 143
    process = start(*convert)
    assert process.wait(PATIENCE) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["hf"]


@pytest.mark.slow
def test_a_second_signal_ends_at_once_what_does_not_come_to_its_end(slow: World, start: Start) -> None:
    patient = "import internlm_zoo.cli.signals as signals; signals._GRACE_SECONDS = 3600\n"
    slow.hubs["huggingface"].fault("stall", WEIGHTS)
    process = start("download", "tiny", "--source", "huggingface", before=STUCK + patient)
    slow.hubs["huggingface"].wait(lambda: slow.hubs["huggingface"].downloads(WEIGHTS))
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None and process.stdout.readline() == "stuck\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 143


RAYS = """
import signal, sys
import internlm_zoo.cli.shell as shell
def run(args, run=shell.run):
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
    return run(args)
shell.run = run
"""


@pytest.mark.slow
def test_the_code_is_ours_where_a_library_has_a_handler_of_its_own(slow: World, start: Start) -> None:
    slow.hubs["huggingface"].fault("stall", WEIGHTS)
    process = start("download", "tiny", "--source", "huggingface", before=RAYS)
    slow.hubs["huggingface"].wait(lambda: slow.hubs["huggingface"].downloads(WEIGHTS))
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 143


@pytest.mark.slow
def test_what_is_ignored_stays_so(slow: World, start: Start) -> None:
    """As nohup has it."""
    hub = slow.hubs["huggingface"]
    hub.fault("slow", WEIGHTS, rate=6_000_000)
    process = start("download", "tiny", "--source", "huggingface", ignored=(signal.SIGHUP,))
    hub.wait(lambda: hub.downloads(WEIGHTS))
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert content_below(Path(out.strip())) == content_below(slow.root / REPO)


WHILE_TAKEN_APART = """
import os, signal, time
from internlm_zoo.cli import signals

class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)

signals.install_handlers()
last = Last()
del last
try:
    time.sleep(60)
except KeyboardInterrupt as error:
    print("heard")
    raise SystemExit(signals.code_of(error))
"""


def test_a_signal_that_comes_where_python_drops_what_is_raised_is_heard_all_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WHILE_TAKEN_APART], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (143, "heard\n", "")

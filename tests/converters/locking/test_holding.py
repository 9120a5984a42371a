"""A held file belongs to one process, for as long as that lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from converters.locking import Holder, LockFile, held, holder_of, take
from tests.environment import ENVIRONMENTS, words
from tests.timing import PATIENCE, wait_for

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
PARENT = """
import os, sys, time
from pathlib import Path
from converters.locking import take
guard = take(Path(sys.argv[1]))
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(3600)
"""


def test_a_child_that_outlives_its_parent_does_not_hold_what_that_held(tmp_path: Path) -> None:
    path = tmp_path / "file.guard"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        holder = holder_of(path)
        assert holder is not None and holder.process == parent.pid
        parent.kill()
        parent.wait()
        guards = []  # the child may be a moment behind
        wait_for(lambda: isinstance(found := take(path), LockFile) and not guards.append(found))
        guards[0].release()
    finally:
        os.kill(child, signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []


def test_what_was_cut_short_when_it_was_made_is_no_holder_for_long(tmp_path: Path) -> None:
    path = tmp_path / "file.guard"
    path.write_bytes(b"")
    os.utime(path, (time.time() + 60,) * 2)  # this moment, however long it takes
    assert isinstance(take(path), Holder)
    moment = time.time() - 3
    os.utime(path, (moment, moment))
    guard = take(path)
    assert isinstance(guard, LockFile)
    guard.release()


def test_whoever_waits_for_a_change_of_records_says_for_whom(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, and through the log where a caller gave no other way."""
    path = tmp_path / "records.guard"
    guard = take(path)
    assert isinstance(guard, LockFile)

    def until_said() -> None:
        if caplog.messages:
            guard.release()

    with held(path, check=until_said):
        pass
    (said,) = caplog.messages
    assert said.startswith("waiting for `") and f"(process {os.getpid()} on " in said
    assert said.endswith(f"which holds {path}; this goes on when that ends")


TURNS = """
import os, random, signal, sys
from pathlib import Path
from converters.locking import held
folder, random = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
for _ in range(30):
    with held(folder / "file.guard", stay=random.random() < 0.5):
        (folder / "inside").mkdir()  # fails if there are two
        (folder / "count").write_text(str(1 + int((folder / "count").read_text())))
        print("counted", flush=True)
        (folder / "inside").rmdir()
        if random.random() < 0.02:
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["plain", "no flock", "lying flock", "no times"])
def test_never_two_hold_it_and_the_dead_hold_nobody_up(tmp_path: Path, where: str) -> None:
    """Nobody notices the dead here before the end: they are zombies until then."""
    (tmp_path / "count").write_text("0")
    through = words(ENVIRONMENTS[where], tmp_path)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "ODD": str(tmp_path)}
    processes = [
        subprocess.Popen(
            [*through, sys.executable, "-c", TURNS, str(tmp_path), str(seed)],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed in range(6)
    ]  # fmt: skip
    said = [process.communicate(timeout=PATIENCE) for process in reversed(processes)]
    assert {process.returncode for process in processes} == {0, -signal.SIGKILL}, said
    assert int((tmp_path / "count").read_text()) == sum(out.count("counted") for out, _ in said)

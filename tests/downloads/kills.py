"""Downloads that are killed at random points, and what it takes to finish them: the cases of test_kills.py
and of the table in docs/downloads.md.

A point is a share of the bytes that the hubs have still to send; what is above 1 are seconds after the last
one, when files get their names. A step is a change that the process makes in the store.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.processes import start
from tests.timing import PATIENCE
from tests.world import FILES, REPO, World, open_world, write

BLOCK = 8 << 20
WORKERS = 4
RATE = 50_000_000
"""Bytes a second of each connection."""

LARGE = "model-00001-of-00002.safetensors"
SIZES = {LARGE: 7 * BLOCK + 12_345, "model-00002-of-00002.safetensors": 5_000_001, "vocab.json": 400_003}
TOTAL = sum(SIZES.values()) + sum(map(len, FILES.values()))
DOWNLOAD = ("download", "tiny", "--format", "hf", "--max-workers")
DIES = """
import os, signal, sys
steps, home = {step}, os.environ["INTERNLM_ZOO_HOME"]
def see(event, args):
    global steps
    changes = event in ("os.rename", "os.remove", "os.symlink", "os.mkdir", "os.rmdir", "os.chmod") or (
        event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
    )
    if changes and any(home in str(arg) for arg in args):
        steps -= 1
        if steps < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(see)
"""


@dataclass(frozen=True)
class Outcome:
    """shown: whether the release was there before the last run. again: bytes that were sent more than once.
    seconds: of the last run. wrong: files that are not as on the hubs. left: what a download that nobody
    kills does not leave in the store."""

    shown: bool
    again: int
    seconds: float
    wrong: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True)
class Range:
    """Where downloads are killed. clean: what one leaves that is not."""

    world: World
    clean: frozenset[str]

    @property
    def root(self) -> Path:
        return self.world.root / REPO

    @property
    def sent(self) -> int:
        return sum(self.world.sent.values())

    def begin(self) -> None:
        """An empty store, and nothing sent yet."""
        shutil.rmtree(self.world.home, ignore_errors=True)
        for hub in self.world.hubs.values():
            hub.requests.clear()

    def kill(self, point: float) -> None:
        """Run a download until that point."""
        enough = self.sent + max(1, int(min(point, 1.0) * (TOTAL - self.sent)))
        self.send(lambda: self.sent < enough)
        process = start(self.world, *DOWNLOAD, str(WORKERS))
        while self.sent < enough and process.poll() is None:
            time.sleep(0.001)
        time.sleep(max(0.0, point - 1.0))
        process.kill()
        process.communicate()
        self.send(lambda: True)

    def send(self, flows: Callable[[], bool]) -> None:
        """As long as that holds."""
        for hub in self.world.hubs.values():
            hub.clear()
            hub.fault("slow", "*", rate=RATE, flows=flows)

    def kill_at_step(self, step: int) -> bool:
        """Run a download until it is about to take that step; False if it ends before."""
        process = start(self.world, *DOWNLOAD, "1", before=DIES.format(step=step))
        process.communicate()
        return process.returncode != 0

    def finish(self) -> Outcome:
        shown = bool(self.world.published())
        begun = time.monotonic()
        folder = download(self.world)
        seconds = time.monotonic() - begun
        total = sum(path.stat().st_size for path in files_of(self.root))
        left = tuple(sorted(names(self.world.home) - self.clean))
        return Outcome(shown, self.sent - total, seconds, tuple(wrong(folder, self.root)), left)


@contextmanager
def shooting_range(folder: Path, sizes: dict[str, int] = SIZES) -> Iterator[Range]:
    """Three hubs, each with the release of `world` and files of these sizes."""
    with ExitStack() as stack:
        world = open_world(folder, stack)
        fill(world, sizes)
        world.fault("slow", "*", rate=RATE)
        download(world)
        yield Range(world, frozenset(names(world.home)))


def fill(world: World, sizes: dict[str, int] = SIZES, seed: int = 0) -> None:
    chance = random.Random(seed)
    write(world.root / REPO, {name: chance.randbytes(size) for name, size in sizes.items()})


def points(seed: int, kills: int) -> list[float]:
    """One in ten is behind the last byte; the first and the last byte are the first two seeds' points."""
    chance = random.Random(seed)
    drawn = [chance.uniform(0.0, 1.1) for _ in range(kills)]
    return drawn if seed > 1 or kills > 1 else [float(seed)]


def killed(place: Range, seed: int, kills: int) -> Outcome:
    """Of a download that is killed so often, and then is not."""
    place.begin()
    for point in points(seed, kills):
        place.kill(point)
    return place.finish()


def outcomes(folder: Path, seeds: int, kills: int) -> list[Outcome]:
    """Of so many downloads; two at a time."""
    halves = range(2)
    with ThreadPoolExecutor(len(halves)) as pool:
        jobs = [partial(_half, folder / str(half), range(half, seeds, 2), kills) for half in halves]
        return [outcome for done in pool.map(_call, jobs) for outcome in done]


def every_step(folder: Path) -> list[Outcome]:
    """Of downloads of small files, each killed at another step."""
    with shooting_range(folder, {}) as place:
        done: list[Outcome] = []
        while True:
            place.begin()
            if not place.kill_at_step(len(done)):
                return done
            done.append(place.finish())


def _call(job: Callable[[], list[Outcome]]) -> list[Outcome]:
    return job()


def _half(folder: Path, seeds: Sequence[int], kills: int) -> list[Outcome]:
    with shooting_range(folder) as place:
        return [killed(place, seed, kills) for seed in seeds]


def download(world: World) -> Path:
    process: subprocess.Popen[str] = start(world, *DOWNLOAD, str(WORKERS))
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    return Path(out.strip())


def files_of(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def wrong(folder: Path, root: Path) -> list[str]:
    """Files of a release that are not what the hubs have, or not there, or not theirs at all."""
    theirs = {path.relative_to(root).as_posix(): digest(path) for path in files_of(root)}
    ours = {path.relative_to(folder).as_posix(): digest(path) for path in files_of(folder)}
    ours.pop(".internlm-zoo/release.json")
    return sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def names(home: Path) -> set[str]:
    """Everything in a store."""
    return {path.relative_to(home).as_posix() for path in home.rglob("*") if not path.is_dir()}


COLUMNS = (
    "kills", "downloads", "sent again, MB: median", "most", "allowed", "last run, s: median", "most",
    "shown before it", "wrong files", "left over",
)  # fmt: skip


def row(kills: int, chosen: Sequence[Outcome]) -> list[object]:
    again = [outcome.again / 1e6 for outcome in chosen]
    seconds = [outcome.seconds for outcome in chosen]
    return [
        kills,
        len(chosen),
        statistics.median(again),
        max(again),
        kills * WORKERS * BLOCK / 1e6 if kills else "",
        statistics.median(seconds),
        max(seconds),
        sum(outcome.shown for outcome in chosen),
        sum(len(outcome.wrong) for outcome in chosen),
        sum(len(outcome.left) for outcome in chosen),
    ]

"""One process of the fuzzer: `python -m tests.fuzz.target FOLDER SECONDS SEED READER...`.

Its readers take turns. What one does wrong is kept in FOLDER (tallies.json, and a file for each) and does not
end the run; what hangs, crashes or takes all memory does, and its input is what FOLDER/current holds.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.fuzz.contract import kept, outcome
from tests.fuzz.readers import READERS
from tests.fuzz.variation import varied

SECONDS_EACH, MEMORY = 20, 6 << 30
"""Beyond them the process ends, or is refused memory, which is a fault."""
SLOW, LARGE = 5.0, 512.0
"""Seconds and MB of one input that are a fault."""
_TURN = 0.25
_MOST_KEPT = 400


@dataclass
class Tally:
    """Of one reader. outcomes: how many inputs ended so. slowest: seconds. most_mb: by which one input raised
    the peak of the process's memory. faults: place -> what was raised there, and the file of the input."""

    outcomes: dict[str, int] = field(default_factory=dict)
    slowest: float = 0.0
    most_mb: float = 0.0
    faults: dict[str, tuple[str, str]] = field(default_factory=dict)


class Turns:
    """One reader: its inputs so far, and what became of them."""

    def __init__(self, folder: Path, name: str, dice: random.Random) -> None:
        self.tally = Tally()
        self._folder, self._name, self._dice = folder, name, dice
        self._reader = READERS[name]
        self._heard: set[str] = set()
        self._fresh = [*self._reader.honest(), *(path.read_bytes() for path in kept(name))]
        self._inputs = list(self._fresh)

    def take(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._try(self._fresh.pop() if self._fresh else self._variation())

    def _variation(self) -> bytes:
        data, other = self._dice.choice(self._inputs), self._dice.choice(self._inputs)
        return varied(data, other, self._reader.is_json, self._dice)

    def _try(self, data: bytes) -> None:
        self._note(data)
        before, begun = _peak_mb(), time.perf_counter()
        try:
            ending, said = outcome(self._reader, data)
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            ending, said = "fault", ""
            self._fault(data, _place(error), traceback.format_exc(limit=-6))
        seconds, grown = time.perf_counter() - begun, _peak_mb() - before
        tally = self.tally
        tally.outcomes[ending] = tally.outcomes.get(ending, 0) + 1
        tally.slowest, tally.most_mb = max(tally.slowest, seconds), max(tally.most_mb, grown)
        if seconds > SLOW or grown > LARGE:
            self._fault(data, "slow or large", f"{seconds:.1f} s, {grown:.0f} MB")
        self._listen(data, f"{ending} {said}")

    def _listen(self, data: bytes, said: str) -> None:
        """What is said for the first time, whatever it quotes, comes of an input worth varying."""
        pattern = re.sub(r"'.*?'|\".*?\"|\d+", "", said)[:200]
        if pattern not in self._heard and len(self._inputs) < _MOST_KEPT:
            self._heard.add(pattern)
            self._inputs.append(data)

    def _note(self, data: bytes) -> None:
        signal.alarm(SECONDS_EACH)
        (self._folder / "current").write_bytes(self._name.encode() + b"\0" + data)

    def _fault(self, data: bytes, place: str, text: str) -> None:
        """The smallest input of each place is kept."""
        faults = self.tally.faults
        if place not in faults or len(data) < Path(faults[place][1]).stat().st_size:
            path = self._folder / f"found-{hashlib.sha256(data).hexdigest()[:12]}"
            path.write_bytes(data)
            faults[place] = (text, str(path))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _place(error: Exception) -> str:
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "/tests/fuzz/" not in frame.filename
    ]
    at = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "the contract"
    return f"{type(error).__name__} at {at}"


def main(where: str, seconds: str, seed: str, *names: str) -> None:
    end, folder, dice = time.monotonic() + float(seconds), Path(where), random.Random(int(seed))
    logging.disable()
    tempfile.tempdir = where
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    turns = {name: Turns(folder, name, dice) for name in names}
    while time.monotonic() < end:
        for one in turns.values():
            one.take(_TURN)
        tallies = {name: asdict(one.tally) for name, one in turns.items()}
        (folder / "draft").write_text(json.dumps(tallies), encoding="utf-8")
        (folder / "draft").replace(folder / "tallies.json")


if __name__ == "__main__":
    main(*sys.argv[1:])

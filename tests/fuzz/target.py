"""One process of the fuzzer: `python -m tests.fuzz.target FOLDER SECONDS SEED READER...`.

The first byte of an input says which of the readers gets the others, so that one process serves several and
libFuzzer shares its time among them. What a reader does wrong is kept in FOLDER (kept.json and a file each),
and does not end the run; what hangs or takes too much memory does, and libFuzzer leaves the input there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import resource
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["converters", "internlm_zoo"]):
    from tests.fuzz.contract import Reader, kept, outcome
    from tests.fuzz.readers import READERS
    from tests.fuzz.values import varied

LONGEST = 1 << 16
SECONDS_EACH, MEMORY_MB = 20, 3000
SLOW, LARGE = 5.0, 512
_WRITTEN_EVERY = 0.5


@dataclass
class Tally:
    """Of one reader. outcomes: how many inputs ended so. slowest: seconds. most_mb: by which one input raised
    the peak of the process's memory. faults: place -> what was raised there, and the file of the input."""

    outcomes: dict[str, int] = field(default_factory=dict)
    slowest: float = 0.0
    most_mb: float = 0.0
    faults: dict[str, tuple[str, str]] = field(default_factory=dict)


class Target:
    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder, self.names = folder, names
        self.tallies = {name: Tally() for name in names}
        self._written = 0.0

    def reader(self, data: bytes) -> tuple[str, Reader]:
        name = self.names[data[0] % len(self.names)]
        return name, READERS[name]

    def one(self, data: bytes) -> None:
        if not data:
            return
        name, reader = self.reader(data)
        tally, before, begun = self.tallies[name], _peak_mb(), time.perf_counter()
        try:
            ending = outcome(reader, data[1:])
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            ending = self._fault(name, data[1:], _place(error), traceback.format_exc(limit=-6))
        seconds, grown = time.perf_counter() - begun, _peak_mb() - before
        tally.outcomes[ending] = tally.outcomes.get(ending, 0) + 1
        tally.slowest, tally.most_mb = max(tally.slowest, seconds), max(tally.most_mb, grown)
        if seconds > SLOW or grown > LARGE:
            self._fault(name, data[1:], "slow or large", f"{seconds:.1f} s, {grown:.0f} MB")
        if begun - self._written > _WRITTEN_EVERY:
            self._written = begun
            self.write()

    def mutated(self, data: bytes, most: int, seed: int) -> bytes:
        if not data:
            return bytes([seed % 256])
        dice, rest = random.Random(seed), data[1:]
        if self.reader(data)[1].is_json and dice.random() < 0.6:
            try:
                return data[:1] + varied(rest, dice)[: most - 1]
            except ValueError:
                pass
        return data[:1] + bytes(atheris.Mutate(rest, most - 1))

    def _fault(self, name: str, data: bytes, place: str, text: str) -> str:
        """The smallest input of each place is kept."""
        faults = self.tallies[name].faults
        if place not in faults or len(data) < Path(faults[place][1]).stat().st_size:
            path = self.folder / f"found-{hashlib.sha256(data).hexdigest()[:12]}"
            path.write_bytes(data)
            faults[place] = (text, str(path))
        return "fault"

    def write(self) -> None:
        text = json.dumps({name: asdict(tally) for name, tally in self.tallies.items()})
        draft = self.folder / "kept.draft"
        draft.write_text(text, encoding="utf-8")
        draft.replace(self.folder / "kept.json")


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _place(error: Exception) -> str:
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "/tests/fuzz/" not in frame.filename
    ]
    at = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "the contract"
    return f"{type(error).__name__} at {at}"


def _seeds(folder: Path, names: list[str]) -> Path:
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, name in enumerate(names):
        inputs = [*READERS[name].honest(), *(path.read_bytes() for path in kept(name))]
        for at, data in enumerate(inputs):
            (corpus / f"{name}-{at}").write_bytes(bytes([number]) + data[: LONGEST - 1])
    return corpus


def main(folder: str, seconds: str, seed: str, *names: str) -> None:
    logging.disable()
    tempfile.tempdir = folder
    target = Target(Path(folder), list(names))
    options = {
        "max_total_time": seconds,
        "seed": seed,
        "timeout": SECONDS_EACH,
        "rss_limit_mb": MEMORY_MB,
        "max_len": LONGEST,
        "artifact_prefix": f"{folder}/",
        "verbosity": 0,
    }
    flags = [f"-{name}={value}" for name, value in options.items()]
    corpus = _seeds(target.folder, target.names)
    atheris.Setup(["fuzz", *flags, str(corpus)], target.one, custom_mutator=target.mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""`make fuzz`: runs the readers for a while, keeps what was found in the corpus, exits 1 if anything was.

    python -m tests.fuzz [--seconds 600] [--jobs 2] [--document] [READER ...]

--document: writes the figures into docs/safety.md, between the two marks.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.fuzz.contract import CORPUS
from tests.fuzz.readers import READERS

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "safety.md"
BEGIN, END = "<!-- begin: make fuzz-table -->\n", "<!-- end -->"


def main() -> int:
    options = _options()
    names = options.readers or list(READERS)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        groups = [names[at :: options.jobs] for at in range(min(options.jobs, len(names)))]
        runs = [_Run(Path(folder) / str(at), group, options.seconds) for at, group in enumerate(groups)]
        with ThreadPoolExecutor(len(runs)) as pool:
            list(pool.map(_Run.run, runs))
        tallies = {name: tally for run in runs for name, tally in run.tallies().items()}
        found = [line for run in runs for line in run.found()]
    print("\n".join([*_lines(tallies), "", *(found or ["nothing found"])]))
    if options.document and not found:
        _document(tallies)
    return 1 if found else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("readers", nargs="*", metavar="READER")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--document", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.readers) - READERS.keys():
        parser.error(f"no such reader: {', '.join(sorted(unknown))}; there are {', '.join(READERS)}")
    return options


class _Run:
    """A group of readers in a process, that is started anew after what ended it, until the time is over."""

    def __init__(self, folder: Path, names: list[str], seconds: float) -> None:
        self._folder, self._names, self._seconds = folder, names, seconds
        self._ends: list[tuple[Path, int]] = []

    def run(self) -> None:
        end = time.monotonic() + self._seconds
        while (left := end - time.monotonic()) > 0:
            self._once(left)
            if self._ends[-1][1] >= 0:  # it came to its end, or could not begin
                return

    def _once(self, seconds: float) -> None:
        folder = self._folder / str(len(self._ends))
        folder.mkdir(parents=True)
        words = [str(folder), str(seconds), str(random.randrange(1, 1 << 30)), *self._names]
        command = [sys.executable, "-m", "tests.fuzz.target", *words]
        with (folder / "log").open("wb") as log:
            ended = subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=False)
        self._ends.append((folder, ended.returncode))

    def tallies(self) -> dict[str, dict[str, Any]]:
        """Of all processes of the group together. Raises RuntimeError for one that did not begin."""
        total: dict[str, dict[str, Any]] = {}
        for folder, code in self._ends:
            if code > 0:
                raise RuntimeError((folder / "log").read_text(errors="replace")[-4000:])
            if (folder / "tallies.json").exists():
                for name, tally in json.loads((folder / "tallies.json").read_text()).items():
                    total[name] = _joined(total.get(name, {}), tally)
        return total

    def found(self) -> Iterator[str]:
        """What went wrong, its input moved into the corpus."""
        for name, tally in self.tallies().items():
            for place, (text, path) in tally["faults"].items():
                yield f"{name}: {place}: {_kept(name, Path(path).name, Path(path).read_bytes())}\n{text}"
        for folder, code in self._ends:
            if code < 0:
                reader, _, data = (folder / "current").read_bytes().partition(b"\0")
                name = reader.decode()
                ending = signal.Signals(-code).name.lower()
                yield f"{name}: {ending}: {_kept(name, ending, data)}"


def _kept(name: str, title: str, data: bytes) -> Path:
    place = CORPUS / name / title
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return place.relative_to(ROOT)


def _joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    if not one:
        return dict(other)
    endings = one["outcomes"].keys() | other["outcomes"].keys()
    return {
        "outcomes": {name: one["outcomes"].get(name, 0) + other["outcomes"].get(name, 0) for name in endings},
        "slowest": max(one["slowest"], other["slowest"]),
        "most_mb": max(one["most_mb"], other["most_mb"]),
        "faults": {**one["faults"], **other["faults"]},
    }


def _lines(tallies: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "| reader | inputs | a value | refused | other exceptions | slowest, ms | most memory, MB |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    total: dict[str, Any] = {}
    for name in READERS:
        if name in tallies:
            yield _line(name, tallies[name])
            total = _joined(total, tallies[name])
    if len(tallies) > 1:
        yield _line("**all**", total)


def _line(name: str, tally: Mapping[str, Any]) -> str:
    endings = tally["outcomes"]
    inputs, faults, values = sum(endings.values()), endings.get("fault", 0), endings.get("value", 0)
    figures = f"{inputs:,} | {values:,} | {inputs - faults - values:,} | {faults:,}"
    return f"| {name} | {figures} | {tally['slowest'] * 1000:.0f} | {tally['most_mb']:.0f} |"


def _document(tallies: Mapping[str, Mapping[str, Any]]) -> None:
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    table = "\n".join(_lines(tallies))
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table}\n\n{END}{after}", encoding="utf-8")
    print(f"{DOCUMENT.relative_to(ROOT)} is written")


if __name__ == "__main__":
    sys.exit(main())

"""`make fuzz`: runs the readers for a while, keeps what was found in the corpus, exits 1 if anything was.

    python -m tests.fuzz [--seconds 600] [--jobs 2] [--document] [READER ...]

--document: writes the figures into docs/safety.md, between the two marks.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
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
_LEAST = 20
"""Seconds for which it is worth to start a process, which takes some of them."""


def main() -> int:
    options = _options()
    names = options.readers or list(READERS)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        runs = _runs(Path(folder), names, options.jobs, options.seconds)
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(_Run.run, runs))
        tallies = {name: tally for run in runs for name, tally in run.tallies().items()}
        found = [line for run in runs for line in run.found()]
    for line in _lines(tallies):
        print(line)
    print("\n".join(["", *found]) if found else "nothing found")
    if options.document and not found:
        _document(tallies)
    return 1 if found else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("readers", nargs="*", choices=[*READERS, []], metavar="READER")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--document", action="store_true")
    return parser.parse_args()


def _runs(folder: Path, names: list[str], jobs: int, seconds: int) -> list[_Run]:
    """As many groups of readers as there is time to start a process for."""
    count = min(len(names), jobs * max(1, seconds // _LEAST))
    each = seconds * jobs / count
    return [_Run(folder / str(at), names[at::count], each) for at in range(count)]


class _Run:
    """A group of readers in a process, that is started anew after what ended it, until the time is over."""

    def __init__(self, folder: Path, names: list[str], seconds: float) -> None:
        self._folder, self._names, self._seconds = folder, names, seconds
        self._folders: list[Path] = []

    def run(self) -> None:
        end, going = time.monotonic() + self._seconds, True
        while going and (left := int(end - time.monotonic())) > 0:
            self._once(left)
            going = bool(_artifacts(self._folders[-1]))

    def _once(self, seconds: int) -> None:
        folder = self._folder / str(len(self._folders))
        folder.mkdir(parents=True)
        self._folders.append(folder)
        words = [str(folder), str(seconds), str(random.randrange(1, 1 << 30)), *self._names]
        command = [sys.executable, "-m", "tests.fuzz.target", *words]
        with (folder / "log").open("wb") as log:
            subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=False)

    def tallies(self) -> dict[str, dict[str, Any]]:
        """Of all processes of the group together. Raises RuntimeError where one did not come so far."""
        total: dict[str, dict[str, Any]] = {}
        for folder in self._folders:
            if not (folder / "kept.json").exists():
                raise RuntimeError((folder / "log").read_text(errors="replace")[-4000:])
            for name, tally in json.loads((folder / "kept.json").read_text()).items():
                total[name] = _joined(total.get(name, {}), tally)
        return total

    def found(self) -> Iterator[str]:
        """What went wrong, its input moved into the corpus."""
        for name, tally in self.tallies().items():
            for place, (text, path) in tally["faults"].items():
                yield f"{name}: {place}: {_moved(Path(path), name)}\n{text}"
        for folder in self._folders:
            for path in _artifacts(folder):
                data = path.read_bytes()
                name = self._names[data[0] % len(self._names)]
                path.write_bytes(data[1:])
                yield f"{name}: {path.name.partition('-')[0]}: {_moved(path, name)}"


def _artifacts(folder: Path) -> list[Path]:
    """What libFuzzer leaves of an input that it could not go on after."""
    return [path for kind in ("timeout", "oom", "crash", "leak") for path in folder.glob(f"{kind}-*")]


def _moved(path: Path, name: str) -> Path:
    place = CORPUS / name / path.name[:40]
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, place)
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
    for name in READERS:
        if name in tallies:
            yield _line(name, tallies[name]["outcomes"], tallies[name])
    if len(tallies) > 1:
        total: dict[str, Any] = {}
        for tally in tallies.values():
            total = _joined(total, tally)
        yield _line("**all**", total["outcomes"], total)


def _line(name: str, endings: Mapping[str, int], tally: Mapping[str, Any]) -> str:
    inputs, faults, values = sum(endings.values()), endings.get("fault", 0), endings.get("value", 0)
    refused = inputs - faults - values
    figures = f"{inputs:,} | {values:,} | {refused:,} | {faults:,}"
    return f"| {name} | {figures} | {tally['slowest'] * 1000:.0f} | {tally['most_mb']:.0f} |"


def _document(tallies: Mapping[str, Mapping[str, Any]]) -> None:
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    table = "\n".join(_lines(tallies))
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table}\n\n{END}{after}", encoding="utf-8")
    print(f"{DOCUMENT.relative_to(ROOT)} is written")


if __name__ == "__main__":
    sys.exit(main())

"""Which batches of a conversion are written: one line for each, appended after its bytes.

A run that was killed leaves at most one broken line, the last, which is ignored.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

JOURNAL = "journal"


@dataclass(frozen=True)
class Entry:
    """crcs: CRC-32 of every target tensor of the batch, by file and name, where its file needs one.
    digests: of the logical tensors whose bytes passed whole."""

    crcs: Mapping[str, Mapping[str, int]]
    digests: Mapping[str, str]


class Journal:
    """entries: of the batches that are written, by number. A context manager; thread-safe."""

    def __init__(self, path: Path) -> None:
        self.entries: dict[int, Entry] = dict(_read(path)) if path.exists() else {}
        self._lock = threading.Lock()
        # Written anew, so that nothing is appended to a broken line; aside, as the disk may be full again.
        aside = path.with_name(f"{path.name}.new")
        with aside.open("w", encoding="ascii") as file:
            file.writelines(_line(number, entry) for number, entry in self.entries.items())
        aside.replace(path)
        self._file = path.open("a", encoding="ascii")

    def add(self, number: int, entry: Entry) -> None:
        with self._lock:
            self._file.write(_line(number, entry))
            self._file.flush()
            self.entries[number] = entry

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()


def _line(number: int, entry: Entry) -> str:
    return json.dumps([number, asdict(entry)]) + "\n"


def _read(path: Path) -> list[tuple[int, Entry]]:
    lines = path.read_text(encoding="ascii").splitlines(keepends=True)
    whole = [json.loads(line) for line in lines if line.endswith("\n")]
    return [(number, Entry(**fields)) for number, fields in whole]

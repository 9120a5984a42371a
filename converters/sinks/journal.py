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
        # Written anew, so that nothing is ever appended to a broken line.
        self._file = path.open("w", encoding="ascii")
        for number, entry in self.entries.items():
            self._append(number, entry)

    def add(self, number: int, entry: Entry) -> None:
        with self._lock:
            self._append(number, entry)
            self.entries[number] = entry

    def _append(self, number: int, entry: Entry) -> None:
        self._file.write(json.dumps([number, asdict(entry)]) + "\n")
        self._file.flush()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()


def _read(path: Path) -> list[tuple[int, Entry]]:
    lines = path.read_text(encoding="ascii").splitlines(keepends=True)
    whole = [json.loads(line) for line in lines if line.endswith("\n")]
    return [(number, Entry(**fields)) for number, fields in whole]

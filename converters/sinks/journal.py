"""Which batches of a conversion are written: one line for each, appended after its bytes.

A line that is broken is as no line, and its batch is written again: a run that was killed leaves one, the
last, and a damaged disk any. So that damage is not taken for a line, each ends with its checksum.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from converters import values
from converters.formats.jsontext import json_value
from converters.saved import BATCHES
from converters.system.filesystem import write_whole

_LONGEST = 64 << 20  # bytes of a line, which has a digest for each tensor of a batch

T = TypeVar("T")


@dataclass(frozen=True)
class WrittenBatch:
    """crcs: CRC-32 of every target tensor of the batch, by file and name, where its file needs one.
    digests: of the logical tensors whose bytes passed whole."""

    crcs: Mapping[str, Mapping[str, int]]
    digests: Mapping[str, str]


class Journal:
    """entries: of the batches that are written, by number. fits: whether an entry may be one of the batch of
    this number. A context manager; thread-safe."""

    def __init__(self, path: Path, fits: Callable[[int, WrittenBatch], bool] = lambda *_: True) -> None:
        before = _read(path) if path.exists() else ()
        self.entries = {number: entry for number, entry in before if fits(number, entry)}
        self._lock = threading.Lock()
        # Written anew, so that nothing is appended to a broken line; aside, as the disk may be full again.
        lines = (_line(number, entry) for number, entry in self.entries.items())
        write_whole(path, "".join(lines).encode())
        self._file = path.open("a", encoding="ascii")

    def add(self, number: int, entry: WrittenBatch) -> None:
        with self._lock:
            self._file.write(_line(number, entry))
            self._file.flush()
            self.entries[number] = entry

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()


def _line(number: int, entry: WrittenBatch) -> str:
    text = json.dumps(BATCHES.marked({"batch": number, **asdict(entry)}))
    return f"{text} {zlib.crc32(text.encode()):08x}\n"


def _read(path: Path) -> Iterator[tuple[int, WrittenBatch]]:
    """Of the lines that are whole."""
    with path.open("rb") as file:
        while line := file.readline(_LONGEST):
            text, _, checksum = line.rstrip(b"\n").rpartition(b" ")
            if line.endswith(b"\n") and checksum == b"%08x" % zlib.crc32(text):
                with suppress(ValueError):
                    yield _entry(json_value(text, _LONGEST))


def _entry(value: object) -> tuple[int, WrittenBatch]:
    """Raises ValueError for what this version did not write."""
    match value:
        case {"batch": number, "crcs": crcs, "digests": digests} if BATCHES.reads(value):
            sums = {file: _checked(of_file, _crc) for file, of_file in values.fields(crcs).items()}
            return values.whole(number), WrittenBatch(sums, _checked(digests, values.text))
    raise ValueError("it is not an entry")


def _crc(value: object) -> int:
    return values.whole(value, 0, 1 << 32)


def _checked(fields: object, check: Callable[[object], T]) -> dict[str, T]:
    return {name: check(one) for name, one in values.fields(fields).items()}

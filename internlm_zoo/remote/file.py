"""A remote file as a ByteSource: one request for each range that is announced, and few for its headers.

Its bytes are digested as they pass. Small gaps between announced ranges are fetched with them, because a
digest needs every byte. What is fetched twice is digested once, and must be the same both times: headers are,
by themselves and with the tensors around them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from converters.system.threads import in_threads
from internlm_zoo.errors import IntegrityError
from internlm_zoo.files import File
from internlm_zoo.transfer.out_of_order_hasher import OutOfOrderHasher
from internlm_zoo.transfer.ranges import Ranges

CONNECTIONS = 16
"""At once, for short ranges that are known beforehand."""

GAP = 64 << 10  # bytes that cost less than another request
_EDGE = 16 << 10  # read around a short range at either end of a file, where headers and directories are
_TAIL = 1 << 20  # bytes that are fetched in the end for the file's digest alone
_SHORT = 1 << 20  # bytes of a range, or of several near ones, that is fetched beforehand
_NEAR = 1 << 10
_KEPT = 112 << 20  # with the two others of RangedFile below the 300 MB that a conversion may take
_REMEMBERED = 16 << 20

_Part = tuple[int, memoryview]
_NOTHING: _Part = 0, memoryview(b"")

VERIFIED, UNVERIFIED = "verified", "per tensor"


class RangedFile:
    """Reads from several threads take turns. Memory: _KEPT, _REMEMBERED and passing.LIMIT at most."""

    def __init__(self, ranges: Ranges, wanted: File, md5: str | None = None) -> None:
        self.name = ranges.name
        self._ranges = ranges
        self._hasher = OutOfOrderHasher(wanted, md5)
        self._lock = threading.RLock()
        self._streams: deque[_Stream] = deque(maxlen=CONNECTIONS)
        self._kept = _NOTHING
        self._windows: deque[_Part] = deque()

    @property
    def size(self) -> int:
        return self._ranges.size

    def read(self, offset: int, length: int) -> bytes:
        buffer = bytearray(length)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        end = offset + len(buffer)
        if offset < 0 or end > self.size:
            what = f"bytes {offset}..{end} are wanted of a file of {self.size}"
            raise IntegrityError(what, self.name, "the release is damaged: look at it with `inspect`")
        with self._lock:
            known = self._known(offset, end)
            if known is None and len(buffer) < _EDGE:
                known = self._window(offset, end)
            if known is not None:
                buffer[:] = known
            else:
                self._stream(offset, end).read_into(offset, buffer)

    def expect(self, offset: int, length: int) -> None:
        with self._lock:
            if self._known(offset, offset + length) is None:
                self._streams.append(_Stream(self, offset, offset + length))

    def keep(self, offset: int, length: int) -> None:
        with self._lock:
            if length > _KEPT:
                self._hasher.give_up()  # what is read of it will not be what was digested
            elif self._known(offset, offset + length) is None:
                self._kept = _NOTHING  # before the next one takes its memory
                data = memoryview(bytearray(length))
                _Stream(self, offset, offset + length).read_into(offset, data)
                self._kept = offset, data

    def prefetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        with self._lock:
            wanted = [
                (start, end)
                for start, end in _joined(ranges, self.size)
                if end - start <= _SHORT and self._known(start, end) is None
            ]
            for (start, _), data in zip(wanted, in_threads(self._whole, wanted, CONNECTIONS), strict=True):
                self._remember(start, data)

    def announce(self, ranges: Sequence[tuple[int, int]]) -> None:
        """A request brings what it asks for, and nothing is read ahead of it."""

    def close(self) -> None:
        """Connections and what was kept; headers stay."""
        with self._lock:
            self._streams.clear()
            self._kept = _NOTHING

    def provenance(self) -> Mapping[str, str]:
        """What the bytes that passed prove of the file. Raises IntegrityError if it is not the
        published one."""
        with self._lock:
            if not self._passed_whole():
                return {VERIFIED: UNVERIFIED}
            wrong = self._hasher.mismatch()
            if wrong is not None:
                raise IntegrityError(str(wrong), self.name, "the hub's copy is wrong: try another hub")
            return {"sha256": self._hasher.sha256, VERIFIED: self._hasher.checked_against or UNVERIFIED}

    def _passed_whole(self) -> bool:
        """Whether all was digested, once the short ranges that are missing have been fetched."""
        passing = self._hasher
        while not passing.lost and passing.position < self.size:
            start, end = passing.missing(self.size)
            if end - start > _TAIL:
                return False
            for _ in self.fetch(start, end):
                pass
        return not passing.lost

    def fetch(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes start..end, digested."""
        for chunk in self._ranges.chunks(start, end):
            self._pass(start, chunk)
            start += len(chunk)
            yield chunk

    def with_gap(self, start: int) -> int:
        """Where to begin so that no small gap is left in what was digested."""
        return self._hasher.position if 0 < start - self._hasher.position <= GAP else start

    def _stream(self, offset: int, end: int) -> _Stream:
        for stream in list(self._streams):
            if stream.holds(offset, end):
                if end == stream.end:
                    self._streams.remove(stream)
                return stream
        return _Stream(self, offset, end)

    def _known(self, start: int, end: int) -> memoryview | None:
        for offset, data in (self._kept, *self._windows):
            if offset <= start and end <= offset + len(data):
                return data[start - offset : end - offset]
        return None

    def _window(self, start: int, end: int) -> memoryview | None:
        """A short range at the edge of the file, with what is around it."""
        if end <= _EDGE:
            window = 0, min(_EDGE, self.size)
        elif start >= self.size - _EDGE:
            window = self.size - _EDGE, self.size
        else:
            return None
        self._remember(window[0], self._whole(window))
        return self._known(start, end)

    def _whole(self, bounds: tuple[int, int]) -> bytes:
        return b"".join(self._ranges.chunks(*bounds))

    def _remember(self, start: int, data: bytes) -> None:
        self._pass(start, data)
        self._windows.append((start, memoryview(data)))
        while sum(len(data) for _, data in self._windows) > _REMEMBERED:
            self._windows.popleft()
            self._hasher.give_up()  # nothing to hold a second reading against

    def _pass(self, start: int, data: bytes) -> None:
        """Digest what has come. Raises IntegrityError if some of it came before and was different."""
        end = start + len(data)
        for offset, known in self._windows:
            first, last = max(start, offset), min(end, offset + len(known))
            if first < last and data[first - start : last - start] != known[first - offset : last - offset]:
                what = f"some of the bytes {first}..{last} came differently the second time"
                raise IntegrityError(what, self.name, "the hub's copy is wrong: try another hub")
        self._hasher.add(start, data)


@dataclass
class _Stream:
    """One announced range, asked for at its first read."""

    file: RangedFile
    position: int
    end: int
    chunks: Iterator[bytes] | None = None
    rest: memoryview = field(default_factory=lambda: memoryview(b""))

    def holds(self, start: int, end: int) -> bool:
        return self.position <= start <= self.position + GAP and end <= self.end

    def read_into(self, offset: int, buffer: memoryview) -> None:
        if self.chunks is None:
            self.position = self.file.with_gap(self.position)
            self.chunks = self.file.fetch(self.position, self.end)
        self._next(offset - self.position, None)
        self._next(len(buffer), buffer)

    def _next(self, count: int, buffer: memoryview | None) -> None:
        """The next bytes, into the buffer or to be forgotten."""
        assert self.chunks is not None
        done = 0
        while done < count:
            if not self.rest:
                self.rest = memoryview(next(self.chunks))
            part, self.rest = self.rest[: count - done], self.rest[count - done :]
            if buffer is not None:
                buffer[done : done + len(part)] = part
            done += len(part)
        self.position += count


def _joined(ranges: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """As (start, end) within the file, in order; near ones joined while they stay short."""
    joined: list[tuple[int, int]] = []
    for offset, length in sorted(ranges):
        end = min(offset + length, size)
        if joined and offset <= joined[-1][1] + _NEAR and end <= joined[-1][0] + _SHORT:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((offset, end))
    return joined

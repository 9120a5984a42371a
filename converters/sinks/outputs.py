"""The target files while they are written: opened with their first bytes, finished with their last."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from converters.formats.gguf_blocks import is_quantised, stored_nbytes
from converters.geometry.batches import Batch, Place
from converters.planning.targets import TargetFile
from converters.progress import Progress
from converters.system.filesystem import reserve
from converters.system.open_files import Handle


class Outputs:
    """Files of known size, written at offsets from any thread; a context manager."""

    def __init__(self, files: Sequence[TargetFile], directory: Path, progress: Progress) -> None:
        self._files = {file.name: file for file in files}
        self._missing = {file.name: len(file.layout.spans) for file in files}
        self._done = dict.fromkeys(self._files, 0)
        self._crcs: dict[str, dict[str, int]] = {file.name: {} for file in files}
        self._open: dict[str, Handle] = {}
        self._directory = directory
        self._progress = progress
        self._lock = threading.Lock()
        self._stopped = False

    def stop(self) -> None:
        """Nothing more is written: whoever is at it ends with the next block."""
        self._stopped = True

    @property
    def finished(self) -> tuple[str, ...]:
        """Names of the files that are complete."""
        return tuple(name for name, missing in self._missing.items() if not missing)

    def needs_crc(self, name: str) -> bool:
        return self._files[name].layout.needs_crc

    def write(self, name: str, offset: int, data: memoryview) -> None:
        """Raises OSError, also once it was told to stop."""
        if self._stopped:
            raise InterruptedError("another thread failed, or was interrupted")
        encode = self._files[name].layout.encode
        if encode:
            offset, data = encode(offset, data)
        self._output(name).write(data, offset)
        self._progress.advance(name, len(data))

    def finish(self, batch: Batch, crcs: Mapping[str, Mapping[str, int]]) -> None:
        """The batch's tensors are written; files that are complete with them get their last bytes."""
        for place in batch.places:
            with self._lock:
                self._crcs[place.file] |= crcs.get(place.file, {})
                self._done[place.file] += self._stored(place)
                self._missing[place.file] -= 1
                last = not self._missing[place.file]
            if last:
                self._finalize(self._files[place.file])

    def _stored(self, place: Place) -> int:
        """Bytes of it on disk, which blocks of Q8_0 make fewer."""
        quantised = bool(self._files[place.file].layout.encode) and is_quantised(place.span)
        return stored_nbytes(place.span, quantised)

    def _finalize(self, file: TargetFile) -> None:
        output = self._output(file.name)
        for offset, data in file.layout.finalize(self._crcs[file.name]):
            output.write(memoryview(data), offset)
        output.close()
        self._progress.finish(file.name)

    def _output(self, name: str) -> Handle:
        with self._lock:
            if name not in self._open:
                layout = self._files[name].layout
                self._progress.start(name, layout.size, min(self._done[name], layout.size))
                output = self._open[name] = _created(self._directory / name, layout.size)
                for offset, data in layout.fixed:
                    output.write(memoryview(data), offset)
            return self._open[name]

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, *exc: object) -> None:
        with ExitStack() as stack:
            for output in self._open.values():
                stack.callback(output.close)


def _created(path: Path, size: int) -> Handle:
    """A file, its space reserved."""
    handle = Handle(path, os.O_RDWR | os.O_CREAT)
    try:
        with handle.opened() as file:
            reserve(file, size)
    except OSError:
        handle.close()
        raise
    return handle

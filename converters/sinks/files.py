"""Writes the weight files of a plan: every batch once, what an interrupted run has written not again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from converters.errors import IntegrityError
from converters.formats.crc import Checksum
from converters.formats.tensors import nbytes
from converters.geometry.batches import Batch, batches_of
from converters.planning.plan import Plan
from converters.progress import Progress
from converters.saved import BATCHES
from converters.sinks.digests import begin
from converters.sinks.journal import Journal, WrittenBatch
from converters.sinks.outputs import Outputs
from converters.source.checkpoint import LogicalTensor
from converters.streaming.scatter import spread
from converters.streaming.stream import Stream, in_parallel


@dataclass(frozen=True)
class Written:
    """kept: files that an earlier run had finished. digests: of logical tensors whose bytes passed whole."""

    kept: tuple[str, ...]
    digests: Mapping[str, str]


def write_files(
    plan: Plan, stream: Stream, staging: Path, workers: int | None, evidence: bool, progress: Progress
) -> Written:
    """Write what the journal in `staging` does not name. evidence: digest what passes.

    Raises IntegrityError if a target tensor would not be whole.
    """
    batches = batches_of(plan.places)

    def fits(number: int, entry: WrittenBatch) -> bool:
        places = batches[number].places if number < len(batches) else ()
        summed = (place for place in places if outputs.needs_crc(place.file))
        return bool(places) and all(place.span.name in entry.crcs.get(place.file, {}) for place in summed)

    with Outputs(plan.files, staging, progress) as outputs, Journal(staging / BATCHES.file, fits) as journal:
        for number, entry in journal.entries.items():
            outputs.finish(batches[number], entry.crcs)
        kept = outputs.finished

        def run(number: int) -> None:
            entry = _write(batches[number], stream, outputs, plan.source.tensors if evidence else {})
            journal.add(number, entry)  # once it is written: after a kill only the last bytes may be left
            outputs.finish(batches[number], entry.crcs)

        waiting = [number for number in range(len(batches)) if number not in journal.entries]
        if stream.source.folder.in_order:
            # Digested in the order of its bytes.
            waiting.sort(key=lambda number: stream.source.first_byte(batches[number].tensors))
            workers = 1
        in_parallel(run, waiting, workers, outputs.stop)
        entries = journal.entries.values()
        return Written(kept, {name: digest for entry in entries for name, digest in entry.digests.items()})


def _write(
    batch: Batch, stream: Stream, outputs: Outputs, digested: Mapping[str, LogicalTensor]
) -> WrittenBatch:
    """digested: tensors to take digests of. Of a padded one the rows that are padding follow, and are not in
    it."""
    sums: dict[tuple[str, str], Checksum] = defaultdict(Checksum)
    missing = {(place.file, place.span.name): place.span.nbytes for place in batch.places}
    digests: dict[str, str] = {}
    for name in batch.tensors:
        whole = batch.box_of(name) == stream.source.box_of(name)
        running = begin(stream, digested[name]) if name in digested and whole else None
        left = nbytes(stream.dtype_of(name), digested[name].shape) if running else 0
        for data, parts in spread(batch, name, stream):
            if running is not None and left > 0:
                running.update(data.data[:left])
                left -= len(data)
            for place, offset, part in parts:
                outputs.write(place.file, offset, part)
                missing[place.file, place.span.name] -= len(part)
                if outputs.needs_crc(place.file):
                    sums[place.file, place.span.name].add(offset, part)
        if running is not None:
            digests[name] = running.hexdigest()
    _check_whole(missing)
    return WrittenBatch(_by_file(sums), digests)


def _check_whole(missing: Mapping[tuple[str, str], int]) -> None:
    for (file, name), count in missing.items():
        if count:
            raise IntegrityError(f"{name} would be written with {count} bytes missing or too many", file)


def _by_file(sums: Mapping[tuple[str, str], Checksum]) -> dict[str, dict[str, int]]:
    crcs: dict[str, dict[str, int]] = {}
    for (file, name), checksum in sums.items():
        crcs.setdefault(file, {})[name] = checksum.value()
    return crcs

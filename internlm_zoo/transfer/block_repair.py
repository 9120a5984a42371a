"""Finds the wrong blocks of a file whose digest is wrong, by a second reading, and replaces them.

One digest of a whole file does not say where it is wrong. So each block is read again, from an endpoint that
had no part in it where there is one, and the two readings are compared. When the file is right after that,
whoever brought the other version is named; otherwise the blocks in dispute are forgotten and the agreed ones
kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from blake3 import blake3

from internlm_zoo.errors import IntegrityError, ZooError
from internlm_zoo.files import Fact
from internlm_zoo.transfer.partial import Partial
from internlm_zoo.transfer.ranges import Ranges
from internlm_zoo.transfer.run import Run
from internlm_zoo.transfer.scheduler import EndpointState


@dataclass(frozen=True)
class _Dispute:
    """Two readings of one block."""

    block: int
    sources: tuple[str, ...]
    first: str
    second: str


def repair_blocks(run: Run, wrong: Fact) -> None:
    """wrong: what the digest says. Raises IntegrityError if no second reading makes it right."""
    partial, disputes = run.partial, list[_Dispute]()
    sources = " and ".join(partial.records.sources)
    run.say(f"{partial.wanted.path} from {sources} is wrong: {wrong}; reading it again to find the block")
    readers = _readers(run)
    for reader in readers:
        found = list(_compare(run, reader))
        disputes += found
        if not found:
            continue
        partial.reread()
        if partial.mismatch(run.check) is None:
            for dispute in found:
                _attribute(run, dispute, reader)
            return
    for dispute in disputes:
        partial.forget_block(dispute.block)
    raise _error(run, f"from {sources} is wrong: {wrong}", readers, disputes)


def _error(
    run: Run, what: str, readers: Sequence[EndpointState], disputes: Sequence[_Dispute]
) -> IntegrityError:
    path = run.partial.wanted.path
    if disputes:
        places = ", ".join(_place(run.partial, dispute.block) for dispute in disputes)
        finding = f"two readings differ in {places}: {disputes[0].first} and {disputes[0].second} (blake3)"
        return IntegrityError(
            f"{path} {what}; {finding}", path, "run it again: only these blocks are fetched again"
        )
    agreed = [reader.name for reader in readers if reader.error is None]
    failed = [f"{c.name}: {c.error.what}" for c in run.endpoints if c.error is not None]
    same = f"a second reading, from {' and '.join(agreed)}, is the same"
    reasons = "; ".join([f"{path} {what}", same if agreed else "nobody else has it", *failed])
    return IntegrityError(reasons, path, "try another source, or tell the hub's owner")


def _readers(run: Run) -> list[EndpointState]:
    """Those who brought least of it first; those who had a part in every block only if there is nobody
    else."""
    partial = run.partial
    count = partial.blocks.count

    def share(state: EndpointState) -> int:
        return sum(state.name in partial.records.sources_of(block) for block in range(count))

    alive = sorted((c for c in run.endpoints if c.error is None), key=share)
    others = [state for state in alive if share(state) < count]
    return others or alive


def _compare(run: Run, reader: EndpointState) -> Iterator[_Dispute]:
    """Reads the blocks that others brought (all, if it brought all), and replaces those that it has
    otherwise."""
    partial = run.partial
    count = partial.blocks.count
    blocks = [block for block in range(count) if reader.name not in partial.records.sources_of(block)]
    blocks = blocks or list(range(count))
    try:
        for first, last in _runs(blocks):
            for block, data in _read(run, reader, first, last):
                before, after = partial.records.digest_of(block), blake3(data).hexdigest()
                if before != after:
                    yield _Dispute(block, partial.records.sources_of(block), before, after)
                    partial.replace_block(block, data, reader.name)
    except ZooError as error:
        reader.error = error
        run.say(f"{reader.name}: {error.what}")


def _read(run: Run, reader: EndpointState, first: int, last: int) -> Iterator[tuple[int, bytes]]:
    """Blocks first..last, each whole."""
    blocks, wanted = run.partial.blocks, run.partial.wanted
    ranges = Ranges(wanted.path, wanted, reader.endpoint, run.client)
    block, data = first, bytearray()
    end = last * blocks.block_size + blocks.length(last)
    for chunk in ranges.chunks(first * blocks.block_size, end):
        run.check()
        reader.delivered(len(chunk))
        data += chunk
        while block <= last and len(data) >= blocks.length(block):
            length = blocks.length(block)
            yield block, bytes(data[:length])
            del data[:length]
            block += 1


def _runs(blocks: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of each stretch without a gap."""
    for _, pairs in groupby(enumerate(blocks), lambda pair: pair[1] - pair[0]):
        stretch = [block for _, block in pairs]
        yield stretch[0], stretch[-1]


def _attribute(run: Run, dispute: _Dispute, reader: EndpointState) -> None:
    """Whoever brought the version that was wrong is out, if it was one."""
    what = (
        f"{_place(run.partial, dispute.block)} from {' and '.join(dispute.sources)} was wrong: "
        f"expected blake3 {dispute.second}, found {dispute.first}; {reader.name} has it right"
    )
    run.say(what)
    for state in run.endpoints:
        if (state.name,) == dispute.sources and state is not reader:
            state.error = IntegrityError(what)


def _place(partial: Partial, block: int) -> str:
    start = block * partial.blocks.block_size
    end = start + partial.blocks.length(block)
    return f"{partial.wanted.path} block {block} (bytes {start:,} to {end:,})"

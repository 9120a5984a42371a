"""Turns a damaged file into what a download goes on from: its good blocks, as a run that was killed leaves
them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from converters.formats.access import regular
from internlm_zoo.files import File
from internlm_zoo.fs.disk import disk
from internlm_zoo.fs.ownership import Owner
from internlm_zoo.transfer import journal
from internlm_zoo.transfer.block_records import hash_block
from internlm_zoo.transfer.blocks import BLOCK, Blocks
from internlm_zoo.transfer.journal import Journal, KeptBlock

HERE = "the file that was here"
"""Who brought the blocks of a damaged file."""


def block_digests(path: Path, size: int) -> Iterator[str]:
    """The BLAKE3 of each block of a file, in hex, up to `size`; the last one may be short. Raises OSError."""
    with open(path, "rb", buffering=0, opener=regular) as file:
        for start in range(0, size, BLOCK):
            yield hash_block(file, start, min(BLOCK, size - start)).hexdigest()


def wrong_blocks(path: Path, size: int, known: Sequence[str]) -> dict[int, tuple[str, str]]:
    """Of each block that differs: its BLAKE3 as expected and as found."""
    pairs = enumerate(zip(known, block_digests(path, size), strict=False))
    return {block: (expected, is_) for block, (expected, is_) in pairs if expected != is_}


def seed(folder: Path, key: str, wanted: File, damaged: Path, known: Sequence[str]) -> int:
    """Leave in `folder`, under `key`, a copy of the damaged file for `transfer` to repair; the file itself
    stays.

    known: the BLAKE3 of its blocks as they were verified; the others are fetched again. Without them all
    blocks are suspect, and compared with another endpoint's. Returns how many bytes are believed. Raises what
    writing raises, OSError if the file cannot be read."""
    blocks = Blocks(wanted.size)
    kept = {}
    for block, digest in enumerate(block_digests(damaged, wanted.size or 0)):
        if digest == (known[block] if known else digest):
            kept[block] = KeptBlock(blocks.length(block), digest, (HERE,))
    with disk(folder), Owner(folder) as owner:
        part = owner.name(key)
        shutil.copyfile(damaged, part)
        journal.Writer(part, Journal(wanted, BLOCK, kept)).close()
        journal.release(part)
    return sum(entry.filled for entry in kept.values()) if known else 0

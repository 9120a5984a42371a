"""The BLAKE3 of the blocks of verified files, so that a damaged one is repaired by its bad blocks alone.

<home>/blocks/ab/<sha256>.json, written when the file's sha256 has been checked; about a hundred bytes for
each block. It speaks of content, so it serves copies of the file outside the store as well."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from blake3 import blake3

from converters.formats.access import content_of
from converters.formats.jsontext import json_value
from converters.saved import BLOCK_DIGESTS
from converters.system.filesystem import best_effort, move
from internlm_zoo.errors import ZooError
from internlm_zoo.fs.ownership import draft
from internlm_zoo.names import is_sha256
from internlm_zoo.store.layout import Store
from internlm_zoo.transfer.blocks import BLOCK
from internlm_zoo.transfer.values import Fetched

_MOST = 16 << 20
"""Bytes of such a file: the blocks of a file of 1.5 TB."""


def write_blocks(store: Store, fetched: Fetched) -> None:
    """Keep them; a file of one block has its sha256. A home that takes nothing goes without."""
    if len(fetched.blocks) < 2:
        return
    path = store.blocks(fetched.sha256)
    entry = BLOCK_DIGESTS.marked({"block": BLOCK, "blake3": fetched.blocks, "check": _check(fetched.blocks)})
    with best_effort():
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(ZooError, ValueError):
            if BLOCK_DIGESTS.is_newer(_read(path)):
                return
        with draft(store.partial, "blocks") as made:
            made.write_text(json.dumps(entry), encoding="utf-8")
            move(made, path)


def read_blocks(store: Store, sha256: str | None) -> tuple[str, ...]:
    """In the order of the file; none where nothing is known, or what is there is damaged."""
    if sha256 is None:
        return ()
    try:
        entry = _read(store.blocks(sha256))
        digests = tuple(entry["blake3"])
        whole = BLOCK_DIGESTS.reads(entry) and entry["block"] == BLOCK and all(map(is_sha256, digests))
        return digests if whole and entry["check"] == _check(digests) else ()
    except (ZooError, ValueError, KeyError, TypeError):
        return ()


def _read(path: Path) -> Any:
    """Raises ZooError, ValueError."""
    return json_value(content_of(path, _MOST), _MOST)


def _check(digests: Iterable[str]) -> str:
    """Of the digests themselves: a wrong one would call a good block, and the hub that sent it, bad."""
    return blake3("".join(digests).encode()).hexdigest()

"""Writes the table of docs/loading.md on what each of several ranks reads of a checkpoint.

    python tools/share_table.py

What stands between the marks is replaced. tests/loading/test_cold_shares.py is a part of it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.loading.cold_shares import Share

ROOT = Path(__file__).parents[1]
FORMS: dict[str, dict[str, Any]] = {
    "llama": {"to": "llama"},
    "hf": {"to": "hf"},
    "original tp 4 x pp 2": {"to": "original", "tp": 4, "pp": 2},
    "original tp 8": {"to": "original", "tp": 8},
}
GRIDS = {2: (1, 2), 4: (1, 2, 4)}
"""Ranks -> stages."""
HEAD = (
    "from",
    "ranks",
    "share (MB)",
    "asked, x share",
    "fetched of column shards",
    "of row shards",
    "all ask, x checkpoint",
    "all fetch",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gb", type=float, default=0.5, help="of weights")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from benchmarks.fixtures import checkpoints
    from benchmarks.fixtures.results import publish, table

    shape = checkpoints.INTERNLM2.filling(args.gb)
    with tempfile.TemporaryDirectory(dir=args.directory, prefix="share-") as name:
        found = list(rows(Path(name), checkpoints.llama(Path(name) / "drawn", shape)))
        publish(
            "rank-shares",
            "What each of several ranks reads",
            "make share-table",
            Path(name),
            f"Random bfloat16 weights, {args.gb:g} GB: {shape.layers} layers, hidden size {shape.hidden}, "
            f"mlp {shape.inter}. `load` on the CPU and one forward pass, of files that nothing had cached. "
            "Each figure is that of the rank for which it is largest.",
            table(HEAD, found),
            document="loading.md",
        )


def rows(folder: Path, drawn: Path) -> Iterator[list[Any]]:
    from converters import convert

    copies = {}
    for form, how in FORMS.items():
        source = drawn if how["to"] == "llama" else convert(drawn, folder / form, evidence=False, **how).path
        others = (folder / f"{form} {rank}" for rank in range(1, max(GRIDS)))
        copies[form] = [source, *(shutil.copytree(source, other) for other in others)]
    for count, stages in GRIDS.items():
        yield from _of_ranks(stages, {form: folders[:count] for form, folders in copies.items()})


def _of_ranks(stages: tuple[int, ...], copies: dict[str, list[Path]]) -> Iterator[list[Any]]:
    from tests.loading.cold_shares import measured

    cases = {f"{form}, pp {pp}": (form, pp) for form in copies for pp in stages}
    found = measured([(name, pp, copies[form]) for name, (form, pp) in cases.items()])
    for name, (form, pp) in cases.items():
        if any(share.warm for share in found[name]):
            raise SystemExit(f"the file system of {copies[form][0]} goes on caching: use --directory")
        stored = sum(file.stat().st_size for file in copies[form][0].iterdir())
        yield [form, f"tp {len(copies[form]) // pp}, pp {pp}", *_figures(found[name], stored)]


def _figures(shares: Sequence[Share], stored: int) -> Iterator[float]:
    """stored: bytes of the checkpoint."""
    from tests.loading.cold_shares import COLUMNS, ROWS

    held = [sum(share.held.values()) for share in shares]
    yield round(max(held) / 1e6)
    yield max(share.asked / size for share, size in zip(shares, held, strict=True))
    for kind in (COLUMNS, ROWS):
        yield max(share.fetched[kind] / share.held[kind] for share in shares)
    yield sum(share.asked for share in shares) / stored
    yield sum(share.total for share in shares) / stored


if __name__ == "__main__":
    main()

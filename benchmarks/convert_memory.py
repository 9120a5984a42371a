"""The most memory a conversion takes, while the checkpoint and its largest tensor grow."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from fixtures import checkpoints, children
from fixtures.checkpoints import Shape
from fixtures.results import publish, table

from converters import convert

COLUMNS = (
    "checkpoint",
    "norm_head, tp 2 -> hf",
    "hf -> tp 8",
    "bf16 -> fp16",
    "the same, sampled",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gb", type=float, nargs="*", default=[0.1, 1.0, 3.0, 10.0])
    parser.add_argument("--tensor-gb", type=float, default=2.0)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    args = parser.parse_args()
    shapes = {f"{size:g} GB": _of(size) for size in args.gb}
    vocab = round(args.tensor_gb * 1e9 / 2 / checkpoints.INTERNLM2.hidden / 8) * 8
    large = replace(checkpoints.INTERNLM2, vocab=vocab, layers=2)
    shapes[f"embedding and head of {args.tensor_gb:g} GB each"] = large
    rows = [[name, *measure(shape, args.directory)] for name, shape in shapes.items()]
    publish(
        "convert-memory",
        "Memory of a conversion",
        "python benchmarks/convert_memory.py",
        args.directory,
        "`ru_maxrss` of the converting process in MB, file-backed pages included, with evidence; beside it "
        "the highest resident size that was sampled every 20 ms.",
        table(COLUMNS, rows),
    )


def _of(gigabytes: float) -> Shape:
    shape = checkpoints.INTERNLM2 if gigabytes >= 1 else checkpoints.SMALL
    return shape.filling(gigabytes)


def measure(shape: Shape, directory: Path) -> list[str]:
    with tempfile.TemporaryDirectory(dir=directory, prefix="bench-memory-") as name:
        root = Path(name)
        source = checkpoints.llama(root / "llama", shape)
        lossy = {"given": {"norm_head": True}, "accept_lossy": True, "evidence": False}
        grid = convert(source, root / "grid", to="original", tp=2, **lossy).path
        costs = [children.convert(grid, root / "out", {"to": "hf"})]
        shutil.rmtree(grid)
        costs.append(children.convert(source, root / "out", {"to": "original", "tp": 8}))
        costs.append(children.convert(source, root / "out", {"to": "hf", "dtype": "float16"}))
    sampled = ", ".join(f"{cost.sampled:.0f}" for cost in costs)
    return [*(f"{cost.peak:.0f}" for cost in costs), sampled]


if __name__ == "__main__":
    main()

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

TO_HF = {"to": "hf"}
FROM_HF = {
    "split, hf -> tp 8": {"to": "original", "tp": 8},
    "bf16 -> fp16": {"to": "hf", "dtype": "float16"},
}
FROM_GRID = {
    "merge, tp 2 -> hf": TO_HF,
    "the same, norm_head": {**TO_HF, "given": {"norm_head": True}},
}
COLUMNS = ("checkpoint", "GB", *FROM_HF, *FROM_GRID, "sampled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gb", type=float, nargs="*", default=[0.1, 1.0, 3.0, 10.0])
    parser.add_argument("--tensor-gb", type=float, default=2.0)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    args = parser.parse_args()
    sizes = " ".join(f"{size:g}" for size in args.gb)
    shapes = {f"{size:g} GB": checkpoints.INTERNLM2.filling(size) for size in args.gb}
    vocab = round(args.tensor_gb * 1e9 / 2 / checkpoints.INTERNLM2.hidden / 8) * 8
    large = replace(checkpoints.INTERNLM2, vocab=vocab, layers=2)
    shapes[f"embedding and head of {args.tensor_gb:g} GB each"] = large
    rows = [[name, *measure(shape, args.directory)] for name, shape in shapes.items()]
    publish(
        "convert-memory",
        "Memory of a conversion",
        f"python benchmarks/convert_memory.py --gb {sizes} --tensor-gb {args.tensor_gb:g}",
        args.directory,
        "`ru_maxrss` of the converting process in MB, file-backed pages included, with evidence; beside it "
        "the highest resident size of each that was sampled every 20 ms, in the same order.",
        table(COLUMNS, rows),
        document="conversion.md",
    )


def measure(shape: Shape, directory: Path) -> list[object]:
    """One row. On the disk are at most a source and its result."""
    with tempfile.TemporaryDirectory(dir=directory, prefix="bench-memory-") as name:
        root = Path(name)
        source = checkpoints.llama(root / "llama", shape)
        hf = convert(source, root / "hf", to="hf", evidence=False).path
        shutil.rmtree(source)
        size = checkpoints.gigabytes(hf)
        costs = [children.convert(hf, root / "out", options) for options in FROM_HF.values()]
        grid = convert(hf, root / "grid", to="original", tp=2, evidence=False).path
        shutil.rmtree(hf)
        costs += [children.convert(grid, root / "out", options) for options in FROM_GRID.values()]
    sampled = ", ".join(f"{cost.sampled:.0f}" for cost in costs)
    return [size, *(f"{cost.peak:.0f}" for cost in costs), sampled]


if __name__ == "__main__":
    main()

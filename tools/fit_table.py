"""Writes the table of docs/fit.md: what `fit` says of miniatures, held against what they take.

    python tools/fit_table.py                     # on the CPU
    python tools/fit_table.py --device cuda:0     # as CUDA's allocator counts it

What stands between the marks is replaced. tests/fitting/test_accuracy.py is a part of it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MODELS = ("internlm-7b", "internlm2-7b", "internlm2-20b", "internlm2-7b-reward", "internlm3-8b-instruct")
LOADS = ((512, 1, "bfloat16"), (768, 3, "float32"), (2048, 8, "bfloat16"))
COLUMNS = (
    "model",
    "dtype",
    "texts x tokens",
    "weights (kB)",
    "KV cache (kB)",
    "the rest (kB)",
    "said",
    "off (%)",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    device = parser.parse_args().device
    sys.path.insert(0, str(ROOT))
    from benchmarks.fixtures.results import publish, table

    with tempfile.TemporaryDirectory() as name:
        found = list(rows(Path(name), device))
        worst = max(abs(row[-1]) for row in found)
        publish(
            f"fit-{device.partition(':')[0]}",
            "What fit says and what is measured",
            f"make fit-table{'' if device == 'cpu' else f' DEVICE={device}'}",
            Path(name),
            f"By {where(device)}. Miniatures of these models (two layers, the real vocabulary), a prompt "
            "that fills the context, `generate` of transformers. Weights, KV cache and the rest as measured, "
            f"the rest as `fit` says it, and by how much its sum is off: {worst:.2f} % at most.",
            table(COLUMNS, found),
            document="fit.md",
        )


def where(device: str) -> str:
    """Whose count it is."""
    if device == "cpu":
        return "the storages that torch's dispatcher sees, on the CPU"
    import torch

    return f"torch.cuda.max_memory_allocated on {torch.cuda.get_device_name(device)}"


def rows(folder: Path, device: str) -> Iterator[list[Any]]:
    from tests.fitting.measured import held_against

    for model in MODELS:
        for context, batch, dtype in LOADS:
            said, real = held_against(folder, model, (context, batch, dtype), device)
            rest = real.peak - real.weights - real.cache
            sizes = (real.weights, real.cache, rest, said.working)
            off = 100 * (said.total / real.peak - 1)
            yield [model, dtype, f"{batch} x {context}", *(round(size / 1000) for size in sizes), off]


if __name__ == "__main__":
    main()

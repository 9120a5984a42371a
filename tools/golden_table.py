"""Writes the table of docs/smoke.md: how far right computations of the golden logits are from each other.

    python tools/golden_table.py

Each row is a process of its own, as what torch's libraries make of a processor is settled when they start.
What stands between the marks is replaced. tests/smoke/test_golden.py holds two of the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODELS = ("demo-internlm-base", "demo-internlm2-chat")
# ATEN_CPU_CAPABILITY and MKL_CBWR: torch's own kernels, and those of its BLAS.
KERNELS = (("", ""), ("avx2", ""), ("default", ""), ("", "AVX2"), ("default", "COMPATIBLE"))
THREADS = (1, 2)
OTHERS = ("float64", "bfloat16")
COLUMNS = ("kernels of torch", "of BLAS", "threads", "dtype", *MODELS, "greedy tokens")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--measure", nargs=2, metavar=("THREADS", "DTYPE"), help=argparse.SUPPRESS)
    measure = parser.parse_args().measure
    sys.path.insert(0, str(ROOT))
    if measure:
        threads, dtype = measure
        print(json.dumps([measured(model, int(threads), dtype) for model in MODELS]))
        return
    from benchmarks.fixtures.results import publish, table
    from internlm_zoo.smoke.golden import TOLERANCE

    found = list(rows())
    worst = max(float(cell) for row in found if row[3] != "bfloat16" for cell in row[4:6])
    publish(
        "golden",
        "How far right computations of the golden logits are from each other",
        "python tools/golden_table.py",
        ROOT,
        "Largest difference of a logit from the golden one, over the largest golden one: of 16 prompts and "
        f"of one beyond the trained length. Allowed are {TOLERANCE:.0e}, {TOLERANCE / worst:.1f} times the "
        "worst of float32 and float64.",
        table(COLUMNS, found),
        document="smoke.md",
    )


def rows() -> Iterator[list[object]]:
    """float32 by all kernels and threads; other element types by the processor's own."""
    ways = [(*kernels, threads, "float32") for kernels, threads in product(KERNELS, THREADS)]
    for torch_kernels, blas, threads, dtype in [*ways, *(("", "", 1, other) for other in OTHERS)]:
        found = run(threads, dtype, {"ATEN_CPU_CAPABILITY": torch_kernels, "MKL_CBWR": blas})
        same = "the same" if all(one["same"] for one in found) else "others"
        cells = [torch_kernels or "own", blas or "own", threads, dtype]
        yield [*cells, *(f"{one['off']:.1e}" for one in found), same]


def run(threads: int, dtype: str, chosen: Mapping[str, str]) -> list[dict[str, float]]:
    """Of each model, by a process of its own."""
    environ = {**os.environ, **{name: value for name, value in chosen.items() if value}}
    command = [sys.executable, __file__, "--measure", str(threads), dtype]
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    return list(json.loads(done.stdout))


def measured(model: str, threads: int, dtype: str) -> dict[str, float]:
    import torch

    from internlm_zoo.loading import generate
    from internlm_zoo.loading.directory import LoadRequest
    from internlm_zoo.loading.load import load_model
    from internlm_zoo.settings import Settings
    from internlm_zoo.smoke.golden import load_golden, readings_of

    generate._SMALL = 0  # a model of this size would stay on one thread
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as home:
        request = LoadRequest(model, devices=["cpu"], dtype=dtype)
        loaded = load_model(request, settings=Settings(home=Path(home), offline=True))
        readings, far = readings_of(loaded, load_golden(model))
    return {
        "off": max(far, *(reading.off for reading in readings)),
        "same": all(reading.same_tokens for reading in readings),
    }


if __name__ == "__main__":
    main()

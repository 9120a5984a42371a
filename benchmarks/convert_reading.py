"""What only reads: fingerprint and compare beside one core's SHA-256; inspect and plans by headers alone."""

from __future__ import annotations

import argparse
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from blake3 import blake3
from fixtures import checkpoints
from fixtures.results import publish, table

from converters import compare, convert, fingerprint, open_checkpoint, plan_conversion

_MB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gb", type=float, default=3.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.directory, prefix="bench-reading-") as name:
        rates = table(("reading", "GB/s", "x SHA-256 of one core"), reading(Path(name), args.gb, args.runs))
    with tempfile.TemporaryDirectory(dir=args.directory, prefix="bench-headers-") as name:
        headers = table(("by headers alone", "s"), by_headers(Path(name), args.runs))
    publish(
        "convert-reading",
        "Fingerprints, comparison, inspection, plans",
        f"python benchmarks/convert_reading.py --gb {args.gb:g} --runs {args.runs}",
        args.directory,
        f"Medians of {args.runs} runs. {args.gb:g} GB of internlm2, the page cache warm; `compare` reads "
        "both sides, and its rate counts both.",
        rates,
        "The sparse checkpoint has the shapes of InternLM-20B, its 60 layers and its vocabulary; commands "
        "are processes of their own.",
        headers,
    )


def reading(root: Path, gigabytes: float, runs: int) -> list[list[object]]:
    llama = checkpoints.llama(root / "llama", checkpoints.INTERNLM2.filling(gigabytes))
    hf = convert(llama, root / "hf", to="hf", evidence=False).path
    grid = convert(llama, root / "grid", to="original", tp=4, pp=2, evidence=False).path
    size = sum(path.stat().st_size for path in hf.glob("*.safetensors"))
    block = memoryview((hf / "model.safetensors").read_bytes()[: 64 * _MB])
    cases: dict[str, tuple[int, Callable[[], object]]] = {
        "SHA-256 of the files, one core": (size, lambda: _hash_files(hf, hashlib.sha256())),
        "BLAKE3 of the files, one core": (size, lambda: _hash_files(hf, blake3())),
        "SHA-256 in memory, 1 MB at a time": (len(block), lambda: _hash_memory(block, hashlib.sha256())),
        "BLAKE3 in memory, 1 MB at a time": (len(block), lambda: _hash_memory(block, blake3())),
        "BLAKE3 in memory, two threads": (len(block), lambda: blake3(max_threads=2).update(block)),
        "fingerprint of hf": (size, lambda: fingerprint(hf)),
        "fingerprint of tp 4 x pp 2": (size, lambda: fingerprint(grid)),
        "compare of both": (2 * size, lambda: compare(hf, grid)),
    }
    rates = {name: nbytes / _median(runs, work) / 1e9 for name, (nbytes, work) in cases.items()}
    one_core = next(iter(rates.values()))
    return [[name, rate, rate / one_core] for name, rate in rates.items()]


def by_headers(root: Path, runs: int) -> list[list[object]]:
    shape = replace(checkpoints.INTERNLM, vocab=103168, layers=60)
    llama = checkpoints.llama(root / "llama", shape, sparse=True)
    grid = checkpoints.sparse_grid(llama, root / "grid", tp=8, pp=8)
    size = sum(path.stat().st_size for path in grid.iterdir()) / 1e9
    command = str(Path(sys.executable).with_name("internlm-zoo"))
    cases: dict[str, Callable[[], object]] = {
        f"`internlm-zoo inspect` of {size:.0f} GB at tp 8 x pp 8": lambda: _run(
            command, "inspect", str(grid)
        ),
        "`internlm-zoo inspect` of the same in one file": lambda: _run(command, "inspect", str(llama)),
        "`python -c pass`": lambda: _run(sys.executable, "-c", "pass"),
        "`python -c 'import torch'`": lambda: _run(sys.executable, "-c", "import torch"),
        "plan of tp 8 x pp 8 -> hf": lambda: plan_conversion(open_checkpoint(grid), to="hf"),
        "plan of hf -> tp 8 x pp 8": lambda: plan_conversion(
            open_checkpoint(llama), to="original", tp=8, pp=8
        ),
    }
    return [[name, _median(runs, work)] for name, work in cases.items()]


def _median(runs: int, work: Callable[[], object]) -> float:
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])  # the first one warms the page cache and the imports


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)


def _hash_files(directory: Path, digest: object) -> None:
    buffer = memoryview(bytearray(_MB))
    for path in directory.glob("*.safetensors"):
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(buffer[:count])


def _hash_memory(block: memoryview, digest: object) -> None:
    for start in range(0, len(block), _MB):
        digest.update(block[start : start + _MB])


if __name__ == "__main__":
    main()

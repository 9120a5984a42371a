"""What only reads: fingerprint and compare beside one core's SHA-256; inspect and plans by headers alone."""

from __future__ import annotations

import argparse
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from blake3 import blake3
from fixtures import checkpoints
from fixtures.results import publish, table

from converters import ConversionOptions, compare, convert, fingerprint, open_checkpoint, plan_conversion

RATES = ("reading", "GB", "GB/s", "x SHA-256 of one core")
HEADERS = ("by headers alone", "s")
_MB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gb", type=float, default=3.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.directory, prefix="bench-reading-") as name:
        rates = table(RATES, reading(Path(name), args.gb, args.runs))
    with tempfile.TemporaryDirectory(dir=args.directory, prefix="bench-headers-") as name:
        headers = table(HEADERS, by_headers(Path(name), args.runs))
    publish(
        "convert-reading",
        "Fingerprints, comparison, inspection, plans",
        f"python benchmarks/convert_reading.py --gb {args.gb:g} --runs {args.runs}",
        args.directory,
        f"Medians of {args.runs} runs in turn, internlm2, the page cache warm. `compare` reads both sides, "
        "and its rate counts both.",
        rates,
        "The sparse checkpoint, in 64 files and in one with Llama's names, has the shapes of InternLM-20B, "
        "its 60 layers and its vocabulary; commands are processes of their own.",
        headers,
        document="conversion.md",
    )


def reading(root: Path, gigabytes: float, runs: int) -> list[list[object]]:
    llama = checkpoints.llama(root / "llama", checkpoints.INTERNLM2.filling(gigabytes))
    hf = convert(llama, root / "hf", to="hf", evidence=False).path
    grid = convert(llama, root / "grid", to="original", tp=4, pp=2, evidence=False).path
    size = sum(path.stat().st_size for path in hf.glob("*.safetensors"))
    with next(hf.glob("*.safetensors")).open("rb") as file:
        block = memoryview(file.read(64 * _MB))
    cases: dict[str, tuple[int, Callable[[], object]]] = {
        "SHA-256 of the files, one core": (size, lambda: _hash_files(hf, hashlib.sha256())),
        "BLAKE3 of the files, one core": (size, lambda: _hash_files(hf, blake3())),
        "SHA-256 in memory, 1 MB at a time": (len(block), lambda: _hash_memory(block, hashlib.sha256())),
        "SHA-256 of two halves on two threads": (len(block), lambda: _hash_halves(block)),
        "BLAKE3 in memory, 1 MB at a time": (len(block), lambda: _hash_memory(block, blake3())),
        "BLAKE3 of it all on two threads": (len(block), lambda: blake3(max_threads=2).update(block)),
        "fingerprint of hf": (size, lambda: fingerprint(hf)),
        "fingerprint of tp 4 x pp 2": (size, lambda: fingerprint(grid)),
        "compare of both": (2 * size, lambda: compare(hf, grid)),
    }
    times = _medians(runs, {name: work for name, (_, work) in cases.items()})
    rates = {name: nbytes / times[name] / 1e9 for name, (nbytes, _) in cases.items()}
    one_core = next(iter(rates.values()))
    return [[name, cases[name][0] / 1e9, rate, rate / one_core] for name, rate in rates.items()]


def by_headers(root: Path, runs: int) -> list[list[object]]:
    shape = replace(checkpoints.INTERNLM, vocab=103168, layers=60)
    llama = checkpoints.llama(root / "llama", shape, sparse=True)
    grid = checkpoints.sparse_grid(llama, root / "grid", tp=8, pp=8)
    size = checkpoints.gigabytes(grid)
    cases: dict[str, Callable[[], object]] = {
        f"`internlm-zoo inspect` of {size:.0f} GB at tp 8 x pp 8": lambda: _inspect(grid),
        "`internlm-zoo inspect` of the same in one file": lambda: _inspect(llama),
        "`python -c pass`": lambda: _run(sys.executable, "-c", "pass"),
        "`python -c 'import torch'`": lambda: _run(sys.executable, "-c", "import torch"),
        "plan of tp 8 x pp 8 -> hf": lambda: plan_conversion(open_checkpoint(grid), ConversionOptions("hf")),
        "plan of llama -> tp 8 x pp 8": lambda: plan_conversion(
            open_checkpoint(llama), ConversionOptions("original", tp=8, pp=8)
        ),
    }
    return [[name, seconds] for name, seconds in _medians(runs, cases).items()]


def _medians(runs: int, cases: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of each. All run in turn, so that drift hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(runs + 1):
        for name, work in cases.items():
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    # The first one warms the page cache and the imports.
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def _inspect(path: Path) -> None:
    """Exits with 1 for want of a tokenizer. So would a crash, but without a report."""
    output = _run(str(Path(sys.executable).with_name("internlm-zoo")), "inspect", str(path), expected=1)
    if "hidden_size" not in output:
        raise SystemExit(f"no report of {path}")


def _run(*command: str, expected: int = 0) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != expected:
        raise SystemExit(f"{command} exited with {done.returncode}\n{done.stderr}")
    return done.stdout


def _hash_files(directory: Path, digest: Any) -> None:
    buffer = memoryview(bytearray(_MB))
    for path in directory.glob("*.safetensors"):
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(buffer[:count])


def _hash_halves(block: memoryview) -> None:
    middle = len(block) // 2
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda half: _hash_memory(half, hashlib.sha256()), (block[:middle], block[middle:])))


def _hash_memory(block: memoryview, digest: Any) -> None:
    for start in range(0, len(block), _MB):
        digest.update(block[start : start + _MB])


if __name__ == "__main__":
    main()

"""Loading onto a device, from each format, to the first logits, beside transformers' from_pretrained."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from fixtures import checkpoints
from fixtures.results import publish, table

from converters import convert
from internlm_zoo.loading.bench import LoadTimes, median, run
from internlm_zoo.loading.directory import LoadRequest
from internlm_zoo.settings import Settings

COLUMNS = (
    "from",
    "GB",
    "load (s)",
    "GB/s",
    "first logits (s)",
    "x peer",
    "CPU (s)",
    "x peer",
    "read (GB)",
    "host peak (MB)",
    "anonymous (MB)",
)
PEER = "llama, from_pretrained"
MEANING = (
    "Imports and the start of the device are not counted. First logits: loading and one forward pass of 8 "
    "tokens. Read: by system calls. Peak and anonymous: of host memory, beyond what was used before; pages "
    "of mapped files count for the first."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gb", type=float, default=3.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    parser.add_argument(
        "--cold", action="store_true", help="drop the files from the page cache before each run"
    )
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.directory, prefix="bench-load-") as name:
        rows = measured(Path(name), args.gb, args.runs, args.device, cold=args.cold)
    publish(
        f"load-{args.device.partition(':')[0]}{'-cold' * args.cold}",
        "Loading",
        f"python benchmarks/load.py --gb {args.gb:g} --runs {args.runs} --device {args.device}"
        f"{' --cold' * args.cold}",
        args.directory,
        f"On {title(args.device)}. Medians of {args.runs} runs in turn, each a process of its own, bfloat16, "
        f"the page cache {'cold' if args.cold else 'warm'}. {MEANING}{ceiling(args.device)}",
        table(COLUMNS, rows),
        document="loading.md",
    )


def title(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device != "cpu" else "the CPU"


def ceiling(device: str) -> str:
    """What one copy of pinned memory to the device brings, which no load can exceed."""
    if device == "cpu":
        return ""
    import torch

    host = torch.empty(1 << 30, dtype=torch.uint8, pin_memory=True)
    there = torch.empty_like(host, device=device)
    seconds = []
    for _ in range(5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        there.copy_(host, non_blocking=True)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    rate = host.nbytes / 1e9 / statistics.median(seconds)
    return f" One copy of pinned memory to the device: {rate:.1f} GB/s."


def measured(root: Path, gigabytes: float, runs: int, device: str, *, cold: bool) -> list[list[object]]:
    llama = checkpoints.llama(root / "llama", checkpoints.INTERNLM2.filling(gigabytes))
    hf = convert(llama, root / "hf", to="hf", evidence=False).path
    grid = convert(llama, root / "grid", to="original", tp=4, pp=2, evidence=False).path
    cases = {
        PEER: LoadRequest(llama),
        "llama": LoadRequest(llama),
        "hf": LoadRequest(hf),
        "original tp 4 x pp 2": LoadRequest(grid),
        "llama, --no-mmap": LoadRequest(llama, mmap=False),
    }
    settings = Settings(home=root / "home", offline=True)
    taken: dict[str, list[LoadTimes]] = {name: [] for name in cases}
    for _ in range(runs):
        for name, case in cases.items():
            if cold:
                forget(Path(case.model))
            asked = replace(case, devices=[device], dtype="bfloat16")
            taken[name].append(run(asked, settings, stock=name == PEER))
    medians = {name: median(times) for name, times in taken.items()}
    size, peer = checkpoints.gigabytes(llama), medians[PEER]
    return [row(name, size, times, peer) for name, times in medians.items()]


def row(name: str, size: float, times: LoadTimes, peer: LoadTimes) -> list[object]:
    return [
        name,
        size,
        times.load,
        size / times.load,
        times.first_logits,
        times.first_logits / peer.first_logits,
        times.cpu,
        times.cpu / peer.cpu,
        (times.read or 0) / 1e9,
        round(times.peak / 1e6),
        round((times.anonymous or 0) / 1e6),
    ]


def forget(directory: Path) -> None:
    """Have the system drop what it caches of the files, posix_fadvise(2)."""
    for path in directory.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()

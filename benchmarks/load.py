"""Loading onto a device, from each format, to the first logits, beside transformers' from_pretrained."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fixtures import checkpoints
from fixtures.results import publish, table

from converters import convert

COLUMNS = (
    "from",
    "GB",
    "load (s)",
    "GB/s",
    "first logits (s)",
    "x peer",
    "CPU (s)",
    "x peer",
    "host peak (MB)",
)
PEER = "llama, from_pretrained"
# Prints the seconds to load, to the first logits of 8 tokens, processor seconds of both, and ru_maxrss in MB.
# Imports and the start of the device come before the clock.
MEASURED = """
import json, resource, sys, time
import torch, transformers
device, directory = sys.argv[1:3]
torch.ones(1, device=device)
{prepare}
start, before = time.perf_counter(), time.process_time()
model = {load}
if device != "cpu":
    torch.cuda.synchronize()
loaded = time.perf_counter() - start
with torch.inference_mode():
    model(torch.arange(1, 9, device=device)[None]).logits.cpu()
used = time.process_time() - before
print(json.dumps([loaded, time.perf_counter() - start, used,
    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""
THEIRS = MEASURED.format(
    prepare="from transformers import LlamaForCausalLM",
    load="LlamaForCausalLM.from_pretrained(directory, dtype='bfloat16', device_map=device)",
)
OURS = MEASURED.format(
    prepare="""
from pathlib import Path
from transformers import LlamaForCausalLM
import internlm_zoo as zoo
from internlm_zoo.settings import Settings
settings = Settings(home=Path(directory) / 'home', offline=True)""",
    load="zoo.load(directory, settings=settings, devices=[device])[0]",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gb", type=float, default=3.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.directory, prefix="bench-load-") as name:
        rows = measured(Path(name), args.gb, args.runs, args.device)
    publish(
        f"load-{args.device.partition(':')[0]}",
        "Loading",
        f"python benchmarks/load.py --gb {args.gb:g} --runs {args.runs} --device {args.device}",
        args.directory,
        f"On {title(args.device)}. Medians of {args.runs} runs in turn, each a process of its own, bfloat16, "
        "the page cache warm. Imports and the start of the device are not counted. First logits: loading "
        f"and one forward pass of 8 tokens.{ceiling(args.device)}",
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


def measured(root: Path, gigabytes: float, runs: int, device: str) -> list[list[object]]:
    llama = checkpoints.llama(root / "llama", checkpoints.INTERNLM2.filling(gigabytes))
    hf = convert(llama, root / "hf", to="hf", evidence=False).path
    grid = convert(llama, root / "grid", to="original", tp=4, pp=2, evidence=False).path
    cases = {
        PEER: (THEIRS, llama),
        "llama": (OURS, llama),
        "hf": (OURS, hf),
        "original tp 4 x pp 2": (OURS, grid),
    }
    taken: dict[str, list[list[float]]] = {name: [] for name in cases}
    for _ in range(runs):
        for name, (script, directory) in cases.items():
            taken[name].append(run(script, device, directory))
    medians = {
        name: [statistics.median(one) for one in zip(*rows, strict=True)] for name, rows in taken.items()
    }
    size = checkpoints.gigabytes(llama)
    _, first, used, _ = medians[PEER]
    return [
        [name, size, load, size / load, logits, logits / first, cpu, cpu / used, round(peak)]
        for name, (load, logits, cpu, peak) in medians.items()
    ]


def run(script: str, device: str, directory: Path) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", script, device, str(directory)], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    figures: list[float] = json.loads(done.stdout.splitlines()[-1])
    return figures


if __name__ == "__main__":
    main()

"""How long a conversion takes beside `cp` of the same bytes, and beside a script that loads all with torch.

Seeded random checkpoints. Each case, its `cp` and the script run in turn, with the page cache warm for all
and nothing left to be written: medians and their ratios. No file is synced to the disk, by us or by `cp`.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fixtures import checkpoints, children
from fixtures.results import publish, table

from converters import convert

COLUMNS = (
    "conversion",
    "GB",
    "cp (s)",
    "no evidence (s)",
    "x cp",
    "evidence (s)",
    "x cp",
    "peak",
    "torch script",
)


@dataclass(frozen=True)
class Case:
    """options: of the conversion. script: whether the torch script is run on the source as well.
    grows: the result is the larger side, so it is what `cp` copies."""

    name: str
    source: str
    options: dict[str, Any] = field(default_factory=dict)
    script: bool = False
    grows: bool = False


CASES = (
    Case("internlm tp 2 -> hf", "internlm-tp2", {"to": "hf"}, script=True),
    Case("internlm2 tp 4 x pp 2 -> hf", "internlm2-tp4-pp2", {"to": "hf"}, script=True),
    Case("internlm2 tp 4 x pp 2 -> llama", "internlm2-tp4-pp2", {"to": "llama"}),
    Case("internlm2 hf -> original tp 8", "internlm2-hf", {"to": "original", "tp": 8}),
    Case("internlm2 tp 4 x pp 2 -> tp 2 x pp 2", "internlm2-tp4-pp2", {"to": "original", "tp": 2, "pp": 2}),
    Case("internlm2 hf -> hf", "internlm2-hf", {"to": "hf"}),
    Case("internlm2 hf, bf16 -> fp16", "internlm2-hf", {"to": "hf", "dtype": "float16"}),
    Case("internlm2 hf, bf16 -> fp32", "internlm2-hf", {"to": "hf", "dtype": "float32"}, grows=True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gb", type=float, default=3.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.directory, prefix="bench-convert-") as name:
        root = Path(name)
        sources = make_sources(root, args.gb)
        rows = [measure(case, sources[case.source], root / "out", args.runs) for case in CASES]
    publish(
        "convert",
        f"Conversion of {args.gb:g} GB checkpoints",
        f"python benchmarks/convert.py --gb {args.gb:g} --runs {args.runs}",
        args.directory,
        f"Medians of {args.runs} runs in turn, the page cache warm, nothing synced to the disk. GB is what "
        "`cp` copies: the source, and for fp32 the result, which is twice as large. A conversion runs on "
        "all cores, at most 4, and `cp` on one. Imports are part of the seconds, starting Python is not. "
        "Peak is the largest `ru_maxrss` of the converting process. The torch script loads all ranks of a "
        "stage, concatenates and saves, without giving other names or checking: its seconds and its peak.",
        table(COLUMNS, rows),
        document="conversion.md",
    )


def measure(case: Case, source: Path, out: Path, runs: int) -> list[object]:
    copies: list[float] = []
    bare: list[children.Cost] = []
    proved: list[children.Cost] = []
    scripts: list[children.Cost] = []
    copied = _result(case, source, out) if case.grows else source
    for _ in range(runs):
        copies.append(children.copy(copied, out))
        bare.append(children.convert(source, out, {**case.options, "evidence": False}))
        proved.append(children.convert(source, out, case.options))
        if case.script:
            scripts.append(children.plain(source, out))
    cp, without, with_ = statistics.median(copies), _median(bare), _median(proved)
    size = checkpoints.gigabytes(copied)
    if case.grows:
        shutil.rmtree(copied)
    script = f"{_median(scripts):.1f} s, {max(cost.peak for cost in scripts):.0f} MB" if scripts else ""
    peak = f"{max(cost.peak for cost in (*bare, *proved)):.0f} MB"
    print(case.name, f"{without / cp:.2f} {with_ / cp:.2f}", flush=True)
    return [case.name, size, cp, without, without / cp, with_, with_ / cp, peak, script]


def _result(case: Case, source: Path, out: Path) -> Path:
    return convert(source, out.with_name("copied"), evidence=False, **case.options).path


def _median(costs: list[children.Cost]) -> float:
    return statistics.median(cost.seconds for cost in costs)


def make_sources(root: Path, gigabytes: float) -> dict[str, Path]:
    """internlm of tp 2; internlm2 as hf and of tp 4 x pp 2."""
    made = {
        "internlm": checkpoints.llama(root / "internlm", checkpoints.INTERNLM.filling(gigabytes)),
        "internlm2": checkpoints.llama(root / "internlm2", checkpoints.INTERNLM2.filling(gigabytes)),
    }
    for name, source, options in (
        ("internlm-tp2", "internlm", {"to": "original", "tp": 2}),
        ("internlm2-hf", "internlm2", {"to": "hf"}),
        ("internlm2-tp4-pp2", "internlm2", {"to": "original", "tp": 4, "pp": 2}),
    ):
        made[name] = convert(made[source], root / name, evidence=False, **options).path
    for used in ("internlm", "internlm2"):
        shutil.rmtree(made[used])
    return made


if __name__ == "__main__":
    main()

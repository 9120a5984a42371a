"""How long a conversion takes beside `cp` of the same bytes, and beside a script that loads all with torch.

Seeded random checkpoints of `--gb` gigabytes in the proportions of InternLM-20B and InternLM2-7B. Each case
and its `cp` run alternately, with the page cache warm for both: medians and their ratio. Peak memory is the
child's `ru_maxrss`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converters.conversion import convert
from converters.formats import safetensors
from converters.formats.tensors import TensorSpec

CHILD = """
import sys, json, resource, time
from converters import convert
start = time.perf_counter()
convert(sys.argv[1], sys.argv[2], **json.loads(sys.argv[3]))
print(json.dumps([time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""
PLAIN = """
import sys, json, resource, time
start = time.perf_counter()
import torch
from pathlib import Path
from safetensors.torch import save_file
ranks = [torch.load(f, weights_only=True) for f in sorted(Path(sys.argv[1]).glob("model_tp*_pp0.pt"))]
names = {"mixer.out_proj.weight": 1, "mlp.w2.weight": 1, "embedding": 1, "tok_embeddings": 1}
out = {}
for key in ranks[0]:
    parts = [rank[key] for rank in ranks]
    dim = next((d for part, d in names.items() if part in key), 0)
    replicated = "norm" in key or key.endswith("out_proj.bias")
    out[key] = parts[0] if replicated else torch.cat(parts, dim).contiguous()
Path(sys.argv[2]).mkdir()
save_file(out, Path(sys.argv[2]) / "model.safetensors")
print(json.dumps([time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


@dataclass(frozen=True)
class Case:
    name: str
    source: str
    options: dict[str, object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gb", type=float, default=3.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--directory", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.directory, prefix="bench-convert-") as name:
        root = Path(name)
        sources = make_sources(root, args.gb)
        cases = [
            Case("internlm tp 2 -> hf", "internlm-tp2", {"to": "hf"}),
            Case("internlm2 tp 4 x pp 2 -> hf", "internlm2-tp4-pp2", {"to": "hf"}),
            Case("internlm2 hf -> original tp 8", "internlm2-hf", {"to": "original", "tp": 8}),
            Case("internlm2 tp 4 -> tp 2", "internlm2-tp4-pp2", {"to": "original", "tp": 2, "pp": 2}),
            Case("internlm2 hf -> hf", "internlm2-hf", {"to": "hf"}),
        ]
        print(f"{args.gb:g} GB, {os.cpu_count()} cores, median of {args.runs}\n")
        print("| conversion | cp (s) | no evidence (s) | x cp | evidence (s) | x cp | peak MB |")
        print("|---|--:|--:|--:|--:|--:|--:|")
        for case in cases:
            print(row(case, sources[case.source], root, args.runs), flush=True)
        seconds, peak = plain(sources["internlm-tp2"], root)
        print(f"\ntorch.load, concatenate, save_file of internlm tp 2: {seconds:.1f} s, peak {peak:.0f} MB")


def row(case: Case, source: Path, root: Path, runs: int) -> str:
    times: dict[str, list[float]] = {"cp": [], "bare": [], "proved": []}
    peaks: list[float] = []
    for _ in range(runs):
        times["cp"].append(copy(source, root / "out"))
        for kind in ("bare", "proved"):
            seconds, peak = child(source, root / "out", {**case.options, "evidence": kind == "proved"})
            times[kind].append(seconds)
            peaks.append(peak)
    cp, bare, proved = (statistics.median(times[kind]) for kind in ("cp", "bare", "proved"))
    return (
        f"| {case.name} | {cp:.2f} | {bare:.2f} | {bare / cp:.2f} | {proved:.2f} | {proved / cp:.2f} "
        f"| {max(peaks):.0f} |"
    )


def copy(source: Path, target: Path) -> float:
    start = time.perf_counter()
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    seconds = time.perf_counter() - start
    shutil.rmtree(target)
    return seconds


def child(source: Path, target: Path, options: dict[str, object]) -> tuple[float, float]:
    return _run(CHILD, source, target, json.dumps(options))


def plain(source: Path, root: Path) -> tuple[float, float]:
    return _run(PLAIN, source, root / "plain")


def _run(code: str, source: Path, target: Path, *rest: str) -> tuple[float, float]:
    command = [sys.executable, "-c", code, str(source), str(target), *rest]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shutil.rmtree(target)
    seconds, peak = json.loads(done.stdout)
    return seconds, peak


def make_sources(root: Path, gigabytes: float) -> dict[str, Path]:
    """Every source checkpoint, made from two random ones with as many layers as fill the size."""
    internlm = {"hidden": 5120, "heads": 40, "kv": 40, "inter": 13824, "vocab": 103168 // 8, "bias": True}
    internlm2 = {"hidden": 4096, "heads": 32, "kv": 8, "inter": 14336, "vocab": 92544 // 8, "bias": False}
    made = {"internlm-hf": make_llama(root / "internlm-hf", internlm, gigabytes)}
    made["internlm2-llama"] = make_llama(root / "internlm2-llama", internlm2, gigabytes)
    for name, source, options in (
        ("internlm-tp2", "internlm-hf", {"to": "original", "tp": 2}),
        ("internlm2-hf", "internlm2-llama", {"to": "hf"}),
        ("internlm2-tp4-pp2", "internlm2-llama", {"to": "original", "tp": 4, "pp": 2}),
    ):
        made[name] = convert(made[source], root / name, evidence=False, **options).path
    for used in ("internlm-hf", "internlm2-llama"):
        shutil.rmtree(made[used])
    return made


def make_llama(path: Path, dims: dict[str, int], gigabytes: float) -> Path:
    hidden, inter, vocab = dims["hidden"], dims["inter"], dims["vocab"]
    kv = hidden // dims["heads"] * dims["kv"]
    per_layer = 2 * (2 * hidden * hidden + 2 * kv * hidden + 3 * inter * hidden)
    layers = max(2, round((gigabytes * 1e9 - 4 * vocab * hidden) / per_layer))
    shapes = {"model.embed_tokens.weight": (vocab, hidden)}
    for n in range(layers):
        layer = f"model.layers.{n}."
        for part, rows in (("q", hidden), ("k", kv), ("v", kv), ("o", hidden)):
            shapes[f"{layer}self_attn.{part}_proj.weight"] = (rows, hidden)
            if dims["bias"]:
                shapes[f"{layer}self_attn.{part}_proj.bias"] = (rows,)
        shapes[f"{layer}mlp.gate_proj.weight"] = shapes[f"{layer}mlp.up_proj.weight"] = (inter, hidden)
        shapes[f"{layer}mlp.down_proj.weight"] = (hidden, inter)
        shapes[f"{layer}input_layernorm.weight"] = shapes[f"{layer}post_attention_layernorm.weight"] = (
            hidden,
        )
    shapes |= {"model.norm.weight": (hidden,), "lm_head.weight": (vocab, hidden)}
    path.mkdir()
    config = {
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inter,
        "num_hidden_layers": layers,
        "num_attention_heads": dims["heads"],
        "num_key_value_heads": dims["kv"],
        "vocab_size": vocab,
        "attention_bias": bool(dims["bias"]),
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    (path / "config.json").write_text(json.dumps(config))
    layout = safetensors.layout([TensorSpec(name, "BF16", shape) for name, shape in shapes.items()])
    random = np.random.default_rng(0)
    with (path / "model.safetensors").open("wb") as file:
        for offset, data in layout.fixed:
            file.seek(offset)
            file.write(data)
        for span in layout.spans:
            file.seek(span.offset)
            for start in range(0, span.nbytes, 1 << 24):
                file.write(random.bytes(min(1 << 24, span.nbytes - start)))
    return path


if __name__ == "__main__":
    main()

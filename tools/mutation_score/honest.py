"""Honest variants: what conversions and machines make of one model, which is right in every form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import internlm_zoo as zoo
from internlm_zoo.settings import Settings
from tools.mutation_score.judge import GOLDEN, Mode, Verdict, judged

# Own kernels of torch and of its BLAS, and threads (as ATEN_CPU_CAPABILITY and MKL_CBWR name them).
_MACHINES = (("", "", 2), ("", "", 4), ("avx2", "AVX2", 1), ("default", "", 1), ("default", "COMPATIBLE", 2))
_SMALL = 400_000
"""Bytes of a shard: a demo model lies in a dozen."""
_ENTRY = "from tools.mutation_score.honest import judge_here; judge_here()"
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Variant:
    """what: of the table. how: the arguments of its conversion. environ, threads: of the process that judges,
    None for this one."""

    what: str
    how: Mapping[str, Any]
    environ: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None

    @property
    def modes(self) -> Sequence[str] | None:
        """In which it is judged: other kernels only where logits are compared. None: in all."""
        return None if self.threads is None else (GOLDEN,)


def variants() -> Iterator[Variant]:
    """tp x pp, names, element types, shard sizes, then threads and kernels."""
    for tp, pp in product((1, 2, 4), (1, 2, 4)):
        yield Variant(f"original, tp {tp}, pp {pp}", {"to": "original", "tp": tp, "pp": pp})
    kinds, sizes = ("bfloat16", "float16", "float32"), ("5GB", _SMALL)
    for to, dtype, size in product(("hf", "llama"), kinds, sizes):
        shards = "one shard" if size != _SMALL else "shards of 400 kB"
        how = {"to": to, "dtype": dtype, "max_shard_size": size, "accept_lossy": True}
        yield Variant(f"{to}, {dtype}, {shards}", how)
    for kernels, blas, threads in _MACHINES:
        asked = {"ATEN_CPU_CAPABILITY": kernels, "MKL_CBWR": blas}
        environ = {name: value for name, value in asked.items() if value}
        what = f"kernels {kernels or 'own'}, BLAS {blas or 'own'}, {threads} threads"
        yield Variant(what, {"to": "llama"}, environ, threads)


VARIANTS = tuple(variants())


def verdicts(variant: Variant, source: Path, modes: Sequence[Mode], folder: Path) -> dict[str, Verdict]:
    """By mode; `caught` is a false alarm. source: of the released model."""
    name, settings = source.name, Settings(home=folder / "home", offline=True)
    target = folder / "made"
    zoo.convert(source, target, known_as=name, evidence=False, settings=settings, **variant.how)
    (target / "conversion.json").unlink()
    chosen = [mode for mode in modes if variant.modes is None or mode.name in variant.modes]
    judge = judged if variant.threads is None else _judged_elsewhere(variant)
    return {mode.name: judge(target, mode) for mode in chosen}


def _judged_elsewhere(variant: Variant) -> Any:
    """By a process of its own: what torch's libraries make of a processor is settled when they start."""

    def judge(folder: Path, mode: Mode) -> Verdict:
        asked = json.dumps([str(folder), str(mode.home), mode.known_as, variant.threads])
        environ = {**os.environ, **variant.environ, "PYTHONPATH": str(_ROOT)}
        command = [sys.executable, "-c", _ENTRY, asked]
        done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True)
        caught, sentence = json.loads(done.stdout)
        return Verdict(caught, sentence)

    return judge


def judge_here() -> None:
    """The process that is started for it: prints what it found as JSON."""
    import torch

    from internlm_zoo.loading import generate

    folder, home, name, threads = json.loads(sys.argv[1])
    generate._SMALL = 0  # a model of this size would stay on one thread
    torch.set_num_threads(threads)
    verdict = judged(Path(folder), Mode(GOLDEN, Path(home), known_as=name))
    print(json.dumps([verdict.caught, verdict.sentence]))

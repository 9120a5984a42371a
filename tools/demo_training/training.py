"""The training loop: packed documents, AdamW, a warm-up and a cosine, every seed fixed.

The same machine gives the same weights; another CPU may round differently and end with others.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .tokenizer import EOS, Tokenizer

Epoch = Callable[[random.Random], list[str]]

REPORTED = 100


@dataclass(frozen=True)
class Schedule:
    """How long and how fast. `window` and `batch` are tokens and windows per step.

    Decay and label smoothing keep logits near ten, where float32 tells them apart to a few millionths.
    """

    steps: int
    window: int = 256
    batch: int = 12
    peak: float = 4e-3
    floor: float = 2e-4
    warmup: int = 50
    decay: float = 0.3
    smoothing: float = 0.1
    seed: int = 2023

    def rate(self, step: int) -> float:
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.floor + (self.peak - self.floor) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Run:
    """What training left beside the weights. losses: nats per token, means of REPORTED steps each."""

    losses: tuple[float, ...]
    tokens: int
    seconds: float


def train(model: nn.Module, tokenizer: Tokenizer, epoch: Epoch, schedule: Schedule) -> Run:
    """Train `model` in place; a line of progress every REPORTED steps on stdout."""
    optimizer = torch.optim.AdamW(parameter_groups(model, schedule.decay), betas=(0.9, 0.95))
    batches = packed(tokenizer, epoch, schedule)
    losses: list[float] = []
    means: list[float] = []
    began = time.monotonic()
    for step in range(schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        losses.append(take_step(model, optimizer, next(batches), schedule.smoothing))
        if (step + 1) % REPORTED == 0:
            means.append(sum(losses) / len(losses))
            losses.clear()
            print(
                f"  step {step + 1:5d}  loss {means[-1]:.3f}  {time.monotonic() - began:5.0f} s", flush=True
            )
    return Run(tuple(means), schedule.steps * schedule.batch * schedule.window, time.monotonic() - began)


def take_step(model: nn.Module, optimizer: torch.optim.Optimizer, windows: Tensor, smoothing: float) -> float:
    """One update on windows [batch, window + 1]; the cross-entropy before it, without smoothing."""
    logits, targets = model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten()
    loss = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return F.cross_entropy(logits.detach(), targets).item()


def parameter_groups(model: nn.Module, decay: float) -> list[dict[str, object]]:
    """Matrices decay; norms and biases do not."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    return [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]


def packed(tokenizer: Tokenizer, epoch: Epoch, schedule: Schedule) -> Iterator[Tensor]:
    """Endless batches [batch, window + 1] cut from shuffled documents, each between bos and eos."""
    rng = random.Random(schedule.seed)
    need = schedule.batch * (schedule.window + 1)
    stream: list[int] = []
    while True:
        while len(stream) < need:
            for document in epoch(rng):
                stream += [*tokenizer.encode(document), EOS]
        yield torch.tensor(stream[:need]).view(schedule.batch, -1)
        del stream[:need]

"""What training and golden data ask of a model: its first weights, logits, greedy tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def initialise(model: nn.Module, seed: int) -> None:
    """Normal weights of deviation 0.02, biases of 0.1 so that none can be lost unnoticed, norms at one."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.02, generator=generator)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1, generator=generator)


@torch.no_grad()
def last_logits(model: nn.Module, ids: Sequence[int]) -> Tensor:
    """Logits [vocab] that follow the last of `ids`."""
    return model(torch.tensor([list(ids)]))[0, -1]


def greedy(model: nn.Module, ids: Sequence[int], limit: int, stop: int | None) -> tuple[list[int], float]:
    """Up to `limit` most likely tokens after `ids`, ending with `stop` if it comes, and the smallest lead
    (logit of the first choice less that of the second) along the way."""
    chosen: list[int] = []
    lead = float("inf")
    while len(chosen) < limit and (not chosen or chosen[-1] != stop):
        values, indices = last_logits(model, [*ids, *chosen]).topk(2)
        lead = min(lead, float(values[0] - values[1]))
        chosen.append(int(indices[0]))
    return chosen, lead

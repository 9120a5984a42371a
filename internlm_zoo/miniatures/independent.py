"""What a miniature has to compute: the forward pass of `reference.py` on the files as they were drawn, which
torch and safetensors read by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internlm_zoo.miniatures.random_checkpoint import Blueprint

if TYPE_CHECKING:
    import torch

# Of the largest logit, as of golden data: what float32 leaves between two orders of summing is a tenth of it.
TOLERANCE = 1e-5
# Where a checkpoint has another name for what the reference has: InternEvo's Embedding1D, and a reward's
# head.
_RENAMED = {"embedding.weight": "embedding.word_embeddings.weight", "v_head.weight": "output.weight"}


def reference_of(blueprint: Blueprint, folder: Path) -> torch.nn.Module:
    """The module with the weights that were drawn into a folder as one file, computing in float32. Raises
    RuntimeError for a tensor that is missing, unknown or of another shape."""
    from internlm_zoo.miniatures.reference import ARCHITECTURES, ReferenceShape

    facts, original = blueprint.facts, blueprint.layout.format == "original"
    scores = facts["kind"] == "reward"
    shape = ReferenceShape(
        vocab=facts["vocab_size"],
        hidden=facts["hidden_size"],
        layers=facts["num_layers"],
        heads=facts["num_attention_heads"],
        kv_heads=facts["num_kv_heads"],
        inter=facts["intermediate_size"],
        eps=facts["rms_norm_eps"],
        rope_base=facts["rope_theta"],
        pairs=original and not facts["adapt_hf"],
        bias=facts["attention_bias"],
        outputs=1 if scores else None,
    )
    module = ARCHITECTURES[blueprint.layout.family](shape)
    module.load_state_dict(_state(folder, original=original))
    return module.float().eval()


def _state(folder: Path, *, original: bool) -> dict[str, Any]:
    import torch
    from safetensors.torch import load_file

    if original:
        stored = torch.load(folder / "model_tp0_pp0.pt", weights_only=True)
    else:
        stored = load_file(folder / "model.safetensors")
    plain = {name.removeprefix("model."): tensor for name, tensor in stored.items()}
    return {_RENAMED.get(name, name): tensor for name, tensor in plain.items()}


def logits_of(reference: torch.nn.Module, ids: Sequence[int]) -> torch.Tensor:
    """Logits [len(ids), rows of the head]."""
    import torch

    with torch.inference_mode():
        logits: torch.Tensor = reference(torch.tensor([list(ids)]))[0]
    return logits


def difference(expected: torch.Tensor, found: torch.Tensor) -> float:
    """The largest of two logits of the same shape, over the largest expected one, or over 1: the score of a
    reward model may be near 0."""
    return float((expected - found).abs().max() / max(float(expected.abs().max()), 1))

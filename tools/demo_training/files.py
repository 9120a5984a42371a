"""Writes a trained model as InternEvo's files and its golden data; reads the model back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .golden import Golden, Trained
from .recipes import Recipe
from .text import asked_in
from .tokenizer import Tokenizer

WEIGHTS = "model_tp0_pp0.pt"
CONFIG = "model_config.pt"
TOKENIZER = "tokenizer.model"

MODELS = Path("internlm_zoo", "demo", "models")
GOLDEN = Path("internlm_zoo", "smoke", "golden")


def write_model(folder: Path, model: nn.Module, config: Mapping[str, object]) -> None:
    """Beside the tokenizer, the other files of an original checkpoint: the config, and the weights rounded to
    bfloat16."""
    state = {name: tensor.bfloat16() for name, tensor in model.state_dict().items()}
    torch.save(state, folder / WEIGHTS)
    torch.save(dict(config), folder / CONFIG)


def read_model(folder: Path, recipe: Recipe) -> Trained:
    """The model as its files hold it, computing in float32."""
    model = recipe.build(recipe.shape)
    model.load_state_dict(torch.load(folder / WEIGHTS, weights_only=True))
    return Trained(recipe, model.eval(), Tokenizer.load(folder / TOKENIZER, recipe.specials))


def write_golden(
    folder: Path, model_folder: Path, data: Sequence[Golden], beyond: tuple[list[int], np.ndarray]
) -> None:
    """`<model>.json` with prompts and tokens, `<model>.npy` with float32 logits [prompts, vocab]. beyond:
    token ids of a long text, which go there too, and the logits after it, `<model>.beyond.npy` [vocab]."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256((model_folder / WEIGHTS).read_bytes()).hexdigest()
    document = {
        "model": model_folder.name,
        "weights": {WEIGHTS: digest},
        "prompts": [
            {
                "prompt": golden.prompt,
                "language": golden.language,
                "input_ids": golden.input_ids,
                "greedy": golden.greedy,
                "text": golden.text,
                "lead": round(golden.lead, 4),
                **asked_in(golden.prompt),
            }
            for golden in data
        ],
        "beyond": beyond[0],
    }
    lines = json.dumps(document, ensure_ascii=False, indent=1)
    (folder / f"{model_folder.name}.json").write_text(lines + "\n", "utf-8")
    np.save(folder / f"{model_folder.name}.npy", np.stack([golden.logits for golden in data]))
    np.save(folder / f"{model_folder.name}.beyond.npy", beyond[1])


def committed(root: Path, name: str) -> dict[str, int]:
    """Every file a model adds to the repository -> its size in bytes."""
    files = [*sorted((root / MODELS / name).iterdir()), *sorted((root / GOLDEN).glob(f"{name}.*"))]
    return {file.relative_to(root).as_posix(): file.stat().st_size for file in files}

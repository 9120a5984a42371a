"""A model that faults are made in: a directory in llama format, and copies of it to spoil."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tests.smoke.seeded import Seed, Shape

Tensors = dict[str, np.ndarray]
CONFIG, GENERATION, SETTINGS = "config.json", "generation_config.json", "tokenizer_config.json"
TOKENIZER, TEMPLATE = "tokenizer.json", "chat_template.jinja"
KEPT = ".internlm-zoo"  # what an earlier judgement left beside a model
WEIGHTS, _STORED = "model.safetensors", ("*.safetensors", "*.safetensors.index.json")


class ImpossibleError(ValueError):
    """A model has nothing that the fault could be made in."""


@dataclass
class Draft:
    """A copy that is being spoiled. folder: its files but the weights."""

    folder: Path
    shape: Shape
    turns: bool
    tensors: Tensors = field(default_factory=dict)

    def json(self, name: str) -> dict[str, Any]:
        if not (self.folder / name).exists():
            raise ImpossibleError(f"no {name}")
        return dict(json.loads((self.folder / name).read_text(encoding="utf-8")))

    def write(self, name: str, content: dict[str, Any] | str) -> None:
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        (self.folder / name).write_text(text, encoding="utf-8")

    def edit(self, name: str, **changes: Any) -> None:
        self.write(name, self.json(name) | changes)


Make = Callable[[Draft], None]


def of_weights(seed: Seed) -> Make:
    """A fault of tensors as one of a directory."""
    return lambda draft: seed(draft.tensors, draft.shape)


@dataclass(frozen=True)
class Subject:
    """name: as in the tables. folder: without a record that says whose it is. turns: whether it answers."""

    name: str
    folder: Path
    turns: bool

    @cached_property
    def shape(self) -> Shape:
        config = json.loads((self.folder / CONFIG).read_text())
        heads = config["num_attention_heads"]
        dim = config.get("head_dim") or config["hidden_size"] // heads
        return Shape(config["num_hidden_layers"], heads, config.get("num_key_value_heads") or heads, dim)

    def spoiled(self, make: Make, folder: Path) -> bool:
        """Make the copy in a new folder with one fault in it. False where the model's shape, or what it is,
        does not allow that fault; the folder is not whole then."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns(KEPT, *_STORED))
        tensors, kinds = _read(self.folder)
        draft = Draft(folder, self.shape, self.turns, tensors)
        copies = {name: array.copy() for name, array in tensors.items()}
        try:
            make(draft)
        except ValueError:  # ImpossibleError, or sizes that numpy cannot divide
            return False
        kept = tensors.keys() & copies.keys()
        if any(tensors[name].shape != copies[name].shape for name in kept):
            return False
        if not _same(copies, tensors):
            _write(tensors, kinds, folder / WEIGHTS)
            return True
        for pattern in _STORED:
            for file in self.folder.glob(pattern):
                shutil.copy(file, folder)
        return _files(folder) != _files(self.folder)


def _same(some: Tensors, others: Tensors) -> bool:
    return some.keys() == others.keys() and all(
        np.array_equal(array.view(np.uint32), others[name].view(np.uint32)) for name, array in some.items()
    )


def _files(folder: Path) -> dict[str, bytes]:
    """All of a model but its weights."""
    files = [file for file in folder.iterdir() if file.is_file() and file.suffix != ".safetensors"]
    return {file.name: file.read_bytes() for file in files}


def _read(folder: Path) -> tuple[Tensors, dict[str, Any]]:
    """All tensors in float32, which holds every 16-bit value, and the element type of each."""
    from safetensors.torch import load_file

    stored = {name: one for file in folder.glob("*.safetensors") for name, one in load_file(file).items()}
    return (
        {name: tensor.float().numpy().copy() for name, tensor in stored.items()},
        {name: tensor.dtype for name, tensor in stored.items()},
    )


def _write(tensors: Tensors, kinds: dict[str, Any], file: Path) -> None:
    import torch
    from safetensors.torch import save_file

    usual = next(iter(kinds.values()))
    back = {
        name: torch.from_numpy(np.ascontiguousarray(array)).to(kinds.get(name, usual))
        for name, array in tensors.items()
    }
    save_file(back, file, {"format": "pt"})

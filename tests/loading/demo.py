"""What the tests of loading and of smoke share: the demo models, their forms, and ways to damage them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from internlm_zoo.loading import load
from internlm_zoo.loading.directory import LoadRequest
from internlm_zoo.loading.load import Loaded, LoadPlan
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

MODELS = ("demo-internlm-base", "demo-internlm2-chat")
FORMS: Mapping[str, dict[str, Any] | None] = {
    "original": None,
    "original tp2 pp2": {"to": "original", "tp": 2, "pp": 2},
    "hf": {"to": "hf"},
    "llama": {"to": "llama"},
}
Directories = Mapping[tuple[str, str], Path]
Tensors = dict[str, np.ndarray]


def plan_load(model: Any, *, settings: Settings, progress: Progress | None = None, **how: Any) -> LoadPlan:
    return load.plan_load(LoadRequest(model, **how), settings=settings, progress=progress)


def load_model(model: Any, *, settings: Settings, progress: Progress | None = None, **how: Any) -> Loaded:
    return load.load_model(LoadRequest(model, **how), settings=settings, progress=progress)


def home_of(folder: Path) -> Settings:
    return Settings(home=folder / "home", offline=True)


def mappings(loaded: Loaded) -> list[str]:
    """The weights of which a part lies in a mapped file."""
    ranges = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith((".safetensors", ".pt")):
            start, _, stop = line.split()[0].partition("-")
            ranges.append((int(start, 16), int(stop, 16)))
    return [
        name
        for name, tensor in loaded.model.named_parameters()
        if any(
            tensor.data_ptr() < stop and start < tensor.data_ptr() + tensor.nbytes for start, stop in ranges
        )
    ]


def rewritten(source: Path, target: Path, change: Callable[[Tensors], None]) -> Path:
    """A copy of a safetensors directory with other weights. The weights are raw bfloat16 halves (uint16)."""
    import torch
    from safetensors.torch import load_file, save_file

    target.mkdir()
    for file in source.iterdir():
        if file.is_file() and file.suffix != ".safetensors":
            (target / file.name).write_bytes(file.read_bytes())
    stored = load_file(source / "model.safetensors")
    tensors = {name: tensor.view(torch.uint16).numpy().copy() for name, tensor in stored.items()}
    change(tensors)
    back = {
        name: torch.from_numpy(array).view(torch.bfloat16).contiguous() for name, array in tensors.items()
    }
    save_file(back, target / "model.safetensors", {"format": "pt"})
    return target


def nameless(source: Path, below: Path) -> Path:
    """A copy of a converted directory without the record that says which model it is."""
    target = shutil.copytree(source, below / "nameless")
    (target / "conversion.json").unlink()
    return target


def edit_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def edit_config(directory: Path, **changes: Any) -> None:
    edit_json(directory / "config.json", **changes)

"""What a model really takes while it generates: on the CPU by every storage that torch's dispatcher sees come
and go, on CUDA by the allocator's own count."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from internlm_zoo import fit
from internlm_zoo.fitting.memory import Workload
from internlm_zoo.fitting.network import network_of
from internlm_zoo.fitting.ranks import RankMemory, rank_memory
from internlm_zoo.loading.directory import LoadRequest, open_directory
from internlm_zoo.loading.load import load_model
from internlm_zoo.miniatures.draw import draw_miniature
from internlm_zoo.registry import load_registry
from internlm_zoo.settings import Settings


@dataclass(frozen=True)
class Measured:
    """weights: of parameters and buffers. cache: of keys and values in the end. peak: the most at one time,
    weights included."""

    weights: int
    cache: int
    peak: int


def held_against(
    folder: Path, name: str, load: tuple[int, int, str], device: str = "cpu"
) -> tuple[RankMemory, Measured]:
    """What `fit` says of a model's miniature, and what it takes. load: context, batch and dtype."""
    settings = Settings(home=folder / "home", offline=True)
    registry = load_registry(settings)
    directory = folder / name
    if not directory.exists():
        directory.mkdir()
        draw_miniature(registry.model(name), registry, directory)
    context, batch, dtype = load
    if device == "cpu":
        said = on_the_cpu(
            LoadRequest(directory, known_as=name), Workload(context, batch, dtype, dtype, False), settings
        )
    else:
        asked: dict[str, Any] = {"context": context, "batch": batch, "dtype": dtype}
        said = fit(directory, **asked, known_as=name, settings=settings).stages[0]
    return said, measured(directory, context, batch, dtype, device)


def on_the_cpu(request: LoadRequest, work: Workload, settings: Settings) -> RankMemory:
    """The same formula where no kernel keeps scores; `fit` itself is asked about GPUs."""
    opened = open_directory(request, settings=settings)
    return rank_memory(network_of(opened.checkpoint, opened.model), work)[0]


def measured(directory: Path, context: int, batch: int, dtype: str, device: str = "cpu") -> Measured:
    """Of transformers' own `generate`, of a prompt that fills the context; a reward model is called."""
    import torch
    from transformers import DynamicCache

    settings = Settings(home=directory / "no-home", offline=True)
    loaded = load_model(LoadRequest(directory, (device,), dtype=dtype), settings=settings)
    model = loaded.model
    weights = sum({t.data_ptr(): t.nbytes for t in (*model.parameters(), *model.buffers())}.values())
    cache = DynamicCache(config=model.config)
    rows = model.config.vocab_size
    ids = torch.arange(context * batch, device=device).reshape(batch, context) % (rows - 8) + 5

    def run(tokens: Any, kept: Any) -> None:
        if loaded.plan.directory.scores:
            model(tokens, use_cache=True, **{_cache_name(model): kept})
        else:
            how = {"max_new_tokens": 1, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
            model.generate(tokens, use_cache=True, **{_cache_name(model): kept}, **how)

    with torch.inference_mode():
        run(ids[:, :4], DynamicCache(config=model.config))  # workspaces of libraries, for the first time
        peak = _on_cuda(run, ids, cache, device) if device != "cpu" else _on_cpu(run, ids, cache)
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    return Measured(weights, kept, weights + peak)


def _cache_name(model: Any) -> str:
    import inspect

    known = inspect.signature(type(model.model).forward).parameters
    return "cache" if "cache" in known else "past_key_values"


def _on_cuda(run: Any, ids: Any, cache: Any, device: str) -> int:
    import torch

    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run(ids, cache)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated(device) - before


def _on_cpu(run: Any, ids: Any, cache: Any) -> int:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Storages(TorchDispatchMode):  # type: ignore[misc]
        """Counts each storage that an operator makes, until nothing holds it."""

        alive: dict[int, int]
        now = peak = 0

        def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            from torch.utils._pytree import tree_leaves

            result = operator(*args, **(kwargs or {}))
            self.count(leaf for leaf in tree_leaves(result) if hasattr(leaf, "untyped_storage"))
            return result

        def count(self, tensors: Iterable[Any]) -> None:
            for tensor in tensors:
                storage = tensor.untyped_storage()
                if storage._cdata not in self.alive:
                    size = self.alive[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self.gone, storage._cdata, size)
                    self.now += size
                    self.peak = max(self.peak, self.now)

        def gone(self, key: int, size: int) -> None:
            self.alive.pop(key, None)
            self.now -= size

    mode = Storages()
    mode.alive = {}
    with mode:
        run(ids, cache)
    return mode.peak

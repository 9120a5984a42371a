"""Builds the stock transformers Llama model around the tensors of a checkpoint.

InternLM is Llama with attention biases and InternLM2 is Llama with grouped queries, so the classes that come
with transformers are all that is needed: no code that came with a checkpoint is ever run. The model is made
without memory, and every tensor is put on its device (`weights.py`) and assigned.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import converters
from converters import Checkpoint
from converters.sinks.tensor_reader import LlamaTensor, TensorReader
from internlm_zoo.errors import IntegrityError, UnsupportedError
from internlm_zoo.loading.placement import Placement
from internlm_zoo.loading.runtime import quiet

if TYPE_CHECKING:
    import torch
    from torch.distributed.device_mesh import DeviceMesh
    from transformers import PreTrainedModel

_CLASSES = ("LlamaForCausalLM", "LlamaForSequenceClassification")


def build_model(
    checkpoint: Checkpoint,
    placement: Placement,
    dtype: str,
    *,
    mmap: bool = True,
    mesh: DeviceMesh | None = None,
) -> PreTrainedModel:
    """The checkpoint as a stock Llama model in evaluation mode, every tensor on its device.

    dtype: float64, float32, float16 or bfloat16. mmap: whether files may be mapped into memory. mesh: of the
    ranks that share it, each of which reads its own part; the placement is this rank's. Raises IntegrityError
    if a tensor is missing, unknown, comes twice or has another shape than the config says, naming it.
    """
    import torch

    from internlm_zoo.loading.offload import read_from_disk
    from internlm_zoo.loading.sharing import config_for, distribute
    from internlm_zoo.loading.weights import read_weights

    rank, tp = (mesh.get_local_rank("tp"), mesh["tp"].size()) if mesh else (0, 1)
    kind: torch.dtype = getattr(torch, dtype)
    config = config_for(converters.llama_config(checkpoint), tp)
    with quiet():
        model = _empty(config, dtype)
        if mesh:
            model = distribute(model, mesh)
        devices, on_disk = _device_map(model, placement, tied=checkpoint.tied)
        with TensorReader(checkpoint, rank, tp, exact=mesh is not None) as reader:
            homes = _homes(model, _of_stage(model, reader.tensors, mesh), {**devices, **on_disk})
            held = {name: device for name, device in homes.items() if not _is_in(name, on_disk)}
            _assign(model, read_weights(reader, held, kind, mapped=mmap))
        if checkpoint.tied:
            # The head is the embedding's own tensor again, which `_assign` replaced, where both are.
            model.tie_weights(recompute_mapping=False)
        _make_rotary(model, placement.first_device)
        _check_complete(model, homes)
        if on_disk:
            read_from_disk(model, checkpoint, on_disk, kind, mapped=mmap)
        return _dispatch(model.eval(), placement, devices, on_disk)


def _empty(config: dict[str, Any], dtype: str) -> PreTrainedModel:
    """The model on torch's meta device: shapes and no memory."""
    import torch
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    (name,) = config["architectures"]
    if name not in _CLASSES:
        raise UnsupportedError(f"{name} is not a stock Llama class", "architectures")
    pad, rows = config.get("pad_token_id"), config["vocab_size"]
    if isinstance(pad, int) and not -rows <= pad < rows:  # torch counts negative ones from the end
        raise UnsupportedError(f"it is {pad}, and the embedding has {rows} rows", "pad_token_id")
    try:
        with torch.device("meta"):
            model = getattr(transformers, name)(transformers.LlamaConfig(**config | {"dtype": dtype}))
    except (ArithmeticError, KeyError, RuntimeError, TypeError, ValueError, StrictDataclassError) as error:
        raise UnsupportedError(f"transformers makes no Llama of this config: {error}", "config") from error
    return model.requires_grad_(False)


def _device_map(
    model: PreTrainedModel, placement: Placement, *, tied: bool
) -> tuple[dict[str, str], dict[str, str]]:
    """Module name -> device name, of the modules that are held, and of those that stay on disk, the device
    that computes them. A stage that has not the embedding has a head of its own that is one."""
    from internlm_zoo.loading.offload import EMBEDDING, modules_of

    (head,) = (name for name, _ in model.named_children() if name != "model")
    held, on_disk = dict[str, str](), dict[str, str]()
    if tied and not any(part.embedding for part in placement.parts):
        tied, held[EMBEDDING] = False, placement.parts[-1].computes
    for part in placement.parts:
        found = on_disk if part is placement.on_disk else held
        found |= dict.fromkeys(modules_of(part, head, tied=tied), part.computes)
    return {"model.rotary_emb": placement.first_device, **held}, on_disk


def _of_stage(
    model: PreTrainedModel, tensors: Sequence[LlamaTensor], mesh: DeviceMesh | None
) -> Sequence[LlamaTensor]:
    """The model of one of several stages has no places for the tensors of others."""
    if mesh is None or mesh["pp"].size() == 1:
        return tensors
    places = {name for name, _ in model.named_parameters()}
    return [tensor for tensor in tensors if tensor.name in places]


def _homes(model: PreTrainedModel, tensors: Sequence[LlamaTensor], devices: dict[str, str]) -> dict[str, str]:
    """The device of every tensor that is stored, which has a place in the model and its shape."""
    from internlm_zoo.loading.sharing import local_shape

    waiting = dict(model.named_parameters())
    for tensor in tensors:
        if tensor.name not in waiting:
            what = "the model has no place for this tensor, or was given it twice"
            raise IntegrityError(what, tensor.name)
        if tensor.shape != local_shape(waiting.pop(tensor.name)):
            raise IntegrityError(f"shape {list(tensor.shape)} is not what the config says", tensor.name)
    return {tensor.name: _device_of(tensor.name, devices) for tensor in tensors}


def _assign(model: PreTrainedModel, tensors: Mapping[str, torch.Tensor]) -> None:
    """A parameter on meta has no memory to copy into."""
    from internlm_zoo.loading.sharing import filled

    for name, value in tensors.items():
        module, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(module), leaf, filled(model.get_parameter(name), value))


def _device_of(name: str, devices: Mapping[str, str]) -> str:
    return next(device for module, device in devices.items() if _is_in(name, [module]))


def _is_in(name: str, modules: Iterable[str]) -> bool:
    """Whether a tensor is of one of them."""
    return any(name.startswith(f"{module}.") for module in modules)


def _make_rotary(model: PreTrainedModel, device: str) -> None:
    """Rotary frequencies are computed, not stored: make the module again, this time with memory."""
    rotary = type(model.model.rotary_emb)(model.config)
    model.model.rotary_emb = rotary.to(device)


def _check_complete(model: PreTrainedModel, stored: Collection[str]) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_meta and name not in stored:
            raise IntegrityError("the checkpoint has no such tensor", name)


def _dispatch(
    model: PreTrainedModel, placement: Placement, devices: dict[str, str], on_disk: Mapping[str, str]
) -> PreTrainedModel:
    """Hooks that carry the activations from device to device, also between two that are both the CPU."""
    if len(placement.parts) == 1:
        return model
    if on_disk:
        from internlm_zoo.loading.offload import carry

        carry(model, devices, on_disk, placement.first_device)
        return model
    from accelerate import dispatch_model

    # With a CPU among them, accelerate would run its layers elsewhere; they run where they were placed.
    main = "cpu" if "cpu" in devices.values() else None
    return dispatch_model(model, devices, main_device=main, force_hooks=True)

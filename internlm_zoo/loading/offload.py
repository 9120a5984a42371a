"""Layers that stay on disk: read for every forward pass, and let go after it.

The checkpoint itself is where they lie, and nothing is copied. On the CPU what lies in a file as it is needed
is mapped, which the system may drop and read again as it likes; all else is gathered anew.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module, attach_align_device_hook_on_blocks
from accelerate.utils import send_to_device

from converters import Checkpoint
from converters.sinks.tensor_reader import TensorReader
from internlm_zoo.loading.placement import DISK, DevicePart
from internlm_zoo.loading.weights import read_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EMBEDDING, NORM = "model.embed_tokens", "model.norm"


def modules_of(part: DevicePart, head: str, *, tied: bool) -> Iterator[str]:
    """Names of the modules of a part, in the order they run. A head that is the embedding lies with it."""
    if part.embedding:
        yield EMBEDDING
    yield from (f"model.layers.{layer}" for layer in part.layers)
    if part.head:
        yield NORM
    if part.embedding if tied else part.head:
        yield head


def read_from_disk(
    model: PreTrainedModel,
    checkpoint: Checkpoint,
    devices: Mapping[str, str],
    dtype: torch.dtype,
    *,
    mapped: bool,
) -> None:
    """Have these modules, which have no memory, filled before they run and emptied after it. devices: where
    each is computed. mapped: whether files may be mapped.

    A pass raises IntegrityError for a file that changed since the checkpoint was opened.
    """
    opened = ExitStack()
    reader = opened.enter_context(TensorReader(checkpoint, confirmed=False))
    weakref.finalize(model, opened.close)
    for name, device in devices.items():
        module = model.get_submodule(name).to(dtype)
        stored = EMBEDDING if checkpoint.tied and not name.startswith("model.") else name
        names = {f"{stored}.{leaf}": leaf for leaf, _ in module.named_parameters()}
        store = _Store(reader, checkpoint.folder.confirm, names, device, dtype, mapped)
        add_hook_to_module(module, FromDisk(store))


def carry(model: PreTrainedModel, held: Mapping[str, str], on_disk: Mapping[str, str], first: str) -> None:
    """Hooks that carry activations to the device of each module that is held; those that are read have their
    own. first: the device of the first."""
    places = {"": first, **held}
    attach_align_device_hook_on_blocks(model, execution_device=places, offload=dict.fromkeys(held, False))
    model.hf_device_map = {**held, **dict.fromkeys(on_disk, DISK)}  # as accelerate calls it


@dataclass(frozen=True)
class _Store:
    """names: tensor -> parameter of the module. confirm: raises for a file that changed."""

    reader: TensorReader
    confirm: Callable[[], None]
    names: Mapping[str, str]
    device: str
    dtype: torch.dtype
    mapped: bool

    def read(self) -> dict[str, torch.Tensor]:
        homes = dict.fromkeys(self.names, self.device)
        with torch.inference_mode(False):  # which is of one thread, and others fill these
            found = read_weights(self.reader, homes, self.dtype, mapped=self.mapped)
        self.confirm()
        return {self.names[name]: tensor for name, tensor in found.items()}


class FromDisk(ModelHook):  # type: ignore[misc]  # accelerate has no types
    """Gives a module its weights for as long as it runs, and its inputs where it does."""

    def __init__(self, store: _Store) -> None:
        self._store = store
        self._empty: dict[str, torch.nn.Parameter] = {}

    def init_hook(self, module: torch.nn.Module) -> torch.nn.Module:
        self._empty = dict(module.named_parameters())
        return module

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        for name, tensor in self._store.read().items():
            _put(module, name, torch.nn.Parameter(tensor, requires_grad=False))
        device = self._store.device
        return send_to_device(args, device), send_to_device(kwargs, device)

    def post_forward(self, module: torch.nn.Module, output: Any) -> Any:
        for name, parameter in self._empty.items():
            _put(module, name, parameter)
        return output


def _put(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(path), leaf, parameter)

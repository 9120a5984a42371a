"""Reads checkpoints for `torch.distributed.checkpoint`: every rank of a training job asks for the slices that
it holds, and reads these from the files, whatever grid or format they are in.

Facts: torch/distributed/checkpoint/storage.py (StorageReader), planner.py (LoadPlan, ReadItem) and
default_planner.py, which asks a checkpoint for what a state dict has and passes over the rest of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch.distributed.checkpoint import LoadPlan, LoadPlanner, StorageReader
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import ReadItem
from torch.futures import Future

import converters
from converters import Checkpoint
from converters.sinks.slices import SlicedTensor, SliceReader, tensors_of
from internlm_zoo.errors import NotFoundError, UsageError
from internlm_zoo.loading.slices import Slice, read_slices, stored_type

_MODEL_FIX = "make the model of the reader's `config`"
_NAMES_FIX = (
    f"{_MODEL_FIX}; get_model_state_dict of torch.distributed.checkpoint.state_dict leaves out what wrappers "
    "add to names"
)


class CheckpointReader(StorageReader):  # type: ignore[misc]
    """Give it to `torch.distributed.checkpoint.load` as `storage_reader`.

    tensors: by name. partial: whether tensors may be left out. What goes wrong while `load` runs it raises as
    a CheckpointException, whose `failures` have the error of each rank.
    """

    def __init__(self, checkpoint: Checkpoint, names: str = "llama", *, partial: bool = False) -> None:
        self._source = checkpoint
        self._partial = partial
        self._coordinator = True
        self._needed = {tensor.name for tensor in tensors_of(checkpoint, names)}
        self.tensors: Mapping[str, SlicedTensor] = {
            tensor.name: tensor for tensor in tensors_of(checkpoint, names, tied_head=True)
        }

    @property
    def checkpoint_id(self) -> str:
        return self._source.folder.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """What transformers' LlamaConfig takes for this model; `architectures` names the class.

        Raises what converting to Llama raises before it writes.
        """
        return converters.llama_config(self._source)

    def check(self, state_dict: Mapping[str, Any]) -> None:
        """Before `load`: raises NotFoundError for a tensor that the checkpoint does not have, UsageError for
        one of another shape.

        state_dict: of the model, with torch's tensors of any kind.
        """
        absent = [name for name in state_dict if name not in self.tensors]
        if absent:
            what = f"the model has {_some(absent)}, and the checkpoint does not"
            raise NotFoundError(what, self.checkpoint_id, _NAMES_FIX)
        for name, value in state_dict.items():
            if tuple(value.shape) != self.tensors[name].shape:
                what = f"shape {list(value.shape)} in the model is {list(self.tensors[name].shape)} here"
                raise UsageError(what, name, _MODEL_FIX)

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Called by `load` with its own `checkpoint_id`. Raises UsageError if that is not this one."""
        if checkpoint_id is not None and os.fspath(checkpoint_id) != self.checkpoint_id:
            what = f"this reader is of {self.checkpoint_id}"
            raise UsageError(what, os.fspath(checkpoint_id), "leave `checkpoint_id` out")

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """torch makes no reader of this class by itself: which model it is has to be found out first."""
        return False

    def read_metadata(self) -> Metadata:
        """Every tensor as one chunk, of which any slice may be read."""
        return Metadata(
            {name: _described(tensor) for name, tensor in self.tensors.items()},
            planner_data={name: (name,) for name in self.tensors},
        )

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        self._coordinator = is_coordinator

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Raises UsageError for tensors that no rank asks for, unless they may be left out."""
        asked = {item.storage_index.fqn for plan in plans for item in plan.items}
        left_out = [name for name in self.tensors if name in self._needed - asked]
        if left_out and not self._partial:
            what = f"the checkpoint has {_some(left_out)}, and the model has no place for it"
            raise UsageError(what, self.checkpoint_id, f"{_MODEL_FIX}; `partial=True` leaves tensors out")
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Every slice of this rank, straight into its memory where that is the host's. What several files
        hold alike is compared by one rank."""
        slices = [self._slice(item, planner) for item in plan.items]
        some = any(part.region != part.tensor.whole for part in slices)
        with SliceReader(self._source, exact=some) as reader:
            if self._coordinator:
                reader.check_replicas()
            read_slices(reader, slices)
        for item, part in zip(plan.items, slices, strict=True):
            planner.commit_tensor(item, part.target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _slice(self, item: ReadItem, planner: LoadPlanner) -> Slice:
        sides = zip(item.storage_offsets, item.lengths, strict=True)
        region = tuple((start, start + length) for start, length in sides)
        target = planner.resolve_tensor(item).detach()
        return Slice(self.tensors[item.storage_index.fqn], region, target)


def _described(tensor: SlicedTensor) -> TensorStorageMetadata:
    size = torch.Size(tensor.shape)
    chunk = ChunkStorageMetadata(torch.Size([0] * len(size)), size)
    return TensorStorageMetadata(TensorProperties(dtype=stored_type(tensor)), size, [chunk])


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"

"""A model that several ranks share: transformers' own plan says who holds what of it, and how they compute.

The model is distributed while it has no memory yet, which makes a DTensor of every parameter that the plan
cuts; what a rank reads is the local part of it. Of fewer key/value heads than ranks each is on several of
them, so that the model has as many as there are ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from internlm_zoo.errors import UnsupportedError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from transformers import PreTrainedModel

_KV_HEADS = "num_key_value_heads"


def config_for(config: Mapping[str, Any], tp: int) -> dict[str, Any]:
    """Of the model of which every rank has whole key/value heads."""
    return {**config, _KV_HEADS: max(config[_KV_HEADS], tp)}


def distribute(model: PreTrainedModel, mesh: DeviceMesh) -> PreTrainedModel:
    """The model, still without memory, by transformers' plan. Raises UnsupportedError for a version of
    transformers that does this otherwise."""
    grid = {f"{name}_size": mesh[name].size() for name in ("pp", "tp")}
    if mesh.size() == 1:
        return model
    try:
        from transformers.distributed import DistributedConfig
        from transformers.distributed.utils import TransformersDeviceMesh

        make = type(model).maybe_distribute_model
    except (ImportError, AttributeError) as error:
        raise _other_version(f"cannot distribute a model that is to be filled: {error}") from error
    _untie(model)
    for (
        name,
        size,
    ) in grid.items():  # by stages first: in one go the plan would be of layers that are elsewhere
        model = make(model, DistributedConfig(**{name: size}), TransformersDeviceMesh(mesh, mesh))
        model.tp_plan = {rule: style for rule, style in model.tp_plan.items() if _is_here(model, rule)}
    model.config.distributed_config = DistributedConfig(**grid)
    embedding = getattr(model.get_input_embeddings(), "weight", None)
    if grid["tp_size"] > 1 and embedding is not None and not _is_distributed(embedding):
        raise _other_version("gives every rank the whole embedding")
    return model


def local_shape(parameter: torch.Tensor) -> tuple[int, ...]:
    """Of what this rank holds of it."""
    return tuple(_local(parameter).shape)


def filled(parameter: torch.Tensor, local: torch.Tensor) -> torch.nn.Parameter:
    """The parameter with this rank's part of it."""
    if not _is_distributed(parameter):
        return torch.nn.Parameter(local, requires_grad=False)
    from torch.distributed.tensor import DTensor

    mesh, placements = parameter.device_mesh, parameter.placements
    whole = {"shape": parameter.shape, "stride": parameter.stride()}
    shared = DTensor.from_local(local, mesh, placements, run_check=False, **whole)
    return torch.nn.Parameter(shared, requires_grad=False)


def _untie(model: PreTrainedModel) -> None:
    """A head that is the embedding becomes one of its own, which has no memory either: by the plan each is
    cut by itself, and they are tied again when the model is filled."""
    head = model.get_output_embeddings()
    if head is not None and head.weight is model.get_input_embeddings().weight:
        head.weight = torch.nn.Parameter(torch.empty_like(head.weight), requires_grad=False)


def _is_here(model: PreTrainedModel, rule: str) -> bool:
    """Whether a rule of the plan is for what this stage has: in the place of another's head is nothing."""
    return "*" in rule or not isinstance(model.get_submodule(rule), torch.nn.Identity)


def _local(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.to_local() if _is_distributed(parameter) else parameter


def _is_distributed(parameter: torch.Tensor) -> bool:
    return hasattr(parameter, "to_local")


def _other_version(does: str) -> UnsupportedError:
    import transformers

    what = f"transformers {transformers.__version__} {does}"
    return UnsupportedError(what, "`parallel`", "install transformers 5.24")

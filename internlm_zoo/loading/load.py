"""From a name or a directory to a model that runs, and its tokenizer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.config.facts import dtype_name
from internlm_zoo.checkpoints.facts import naming_models
from internlm_zoo.errors import UnsupportedError, UsageError
from internlm_zoo.fitting.memory import check_count
from internlm_zoo.fitting.network import ITEMSIZE, network_of
from internlm_zoo.loading.directory import LoadRequest, MaxMemory, ModelDirectory, open_directory
from internlm_zoo.loading.placement import Placement
from internlm_zoo.loading.room import Need, find_room, limited, memory_limits
from internlm_zoo.loading.runtime import require_torch
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from internlm_zoo.loading.sandbox.tokenizer import ConfinedTokenizer


@dataclass(frozen=True)
class LoadPlan:
    """What loading would do. dtype: what the weights are held and computed in, as torch names it. context:
    tokens of one text that there is room for. note: what a person should know of the placement.
    mmap: whether files may be mapped into memory."""

    directory: ModelDirectory
    placement: Placement
    dtype: str
    parameters: int
    context: int
    note: str | None = None
    mmap: bool = True


@dataclass(frozen=True)
class Loaded:
    """A model that runs. tokenizer: None where the directory holds none, or none that has an exact
    counterpart. seconds: wall time of the load."""

    model: PreTrainedModel
    tokenizer: ConfinedTokenizer | None
    plan: LoadPlan
    seconds: float


def plan_load(
    request: LoadRequest, *, settings: Settings, progress: Progress | None = None, fetch: bool = True
) -> LoadPlan:
    """Where every layer would go, from the headers alone. fetch: whether a model that is not here is
    downloaded; else its headers are read at a hub, and the plan is one to look at.

    Raises UnsupportedError if it does not fit or `parallel` is not "layers", UsageError for wrong names.
    """
    if request.parallel != "layers":
        what = f"{request.parallel} placement is not supported: layers is"
        raise UnsupportedError(what, "`parallel`")
    require_torch()
    directory = open_directory(request, settings=settings, progress=progress, fetch=fetch)
    plan = plan_directory(
        directory,
        devices=request.devices,
        dtype=request.dtype,
        context=request.context,
        max_memory=request.max_memory,
        mmap=request.mmap,
    )
    told = progress or Progress()
    if len(directory.checkpoint.dtypes) > 1:
        told.note(f"all of it is held and computed in {plan.dtype}")
    if plan.note:
        told.note(plan.note)
    return plan


def plan_directory(
    directory: ModelDirectory,
    *,
    devices: Sequence[str] | None = None,
    dtype: str | None = None,
    context: int | None = None,
    max_memory: MaxMemory = None,
    mmap: bool = True,
) -> LoadPlan:
    """The same for a directory that is open already."""
    require_torch()
    from internlm_zoo.loading.memory import default_ways, devices_here

    if dtype not in (None, *ITEMSIZE):
        raise UsageError(f"'{dtype}' is not a dtype to load in", "`dtype`", fix=", ".join(ITEMSIZE))
    check_count("context", context)
    network = network_of(directory.checkpoint, directory.model)
    need = Need(network, dtype or dtype_name(directory.checkpoint.dtype))
    most = memory_limits(max_memory)
    ways = [limited(devices_here(names), most) for names in ([devices] if devices else default_ways())]
    room = find_room(need, ways, context)
    sized = need.dtype, network.parameters, room.context, room.note
    return LoadPlan(directory, room.placement, *sized, mmap)


def execute(plan: LoadPlan) -> Loaded:
    """Read the weights onto the devices of the plan, and the tokenizer beside them.

    Raises UnsupportedError for a device that is not here, IntegrityError for a tensor missing or too many.
    """
    from internlm_zoo.loading.build import build_model
    from internlm_zoo.loading.memory import check_present
    from internlm_zoo.loading.sandbox.process import warm_up
    from internlm_zoo.loading.tokenizer import find_tokenizer, has_tokenizer

    start = time.perf_counter()
    check_present([part.device for part in plan.placement.parts])
    directory = plan.directory
    if has_tokenizer(directory):
        warm_up()  # it imports for half a second, meanwhile the model is built
    with naming_models(directory.registry, directory.model, lambda: directory.checkpoint):
        model = build_model(directory.checkpoint, plan.placement, plan.dtype, mmap=plan.mmap)
    return Loaded(model, find_tokenizer(directory), plan, time.perf_counter() - start)


def load_model(request: LoadRequest, *, settings: Settings, progress: Progress | None = None) -> Loaded:
    """`plan_load`, then `execute`: same arguments, same errors."""
    return execute(plan_load(request, settings=settings, progress=progress))

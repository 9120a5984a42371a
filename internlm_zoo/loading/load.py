"""From a name or a directory to a model that runs, and its tokenizer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.config.facts import dtype_name
from internlm_zoo.checkpoints.facts import naming_models
from internlm_zoo.errors import UnsupportedError, UsageError
from internlm_zoo.fitting.memory import check_count
from internlm_zoo.fitting.network import ITEMSIZE, network_of
from internlm_zoo.loading.directory import LoadRequest, MaxMemory, ModelDirectory, open_directory
from internlm_zoo.loading.placement import Device, Placement
from internlm_zoo.loading.ranks import LAYERS, PARALLEL, TENSOR, Ranks, agreed, join, told
from internlm_zoo.loading.room import Need, Room, find_room, limited, memory_limits
from internlm_zoo.loading.runtime import require_torch
from internlm_zoo.loading.same_model import check_same_model, check_same_weights
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from transformers import PreTrainedModel

    from internlm_zoo.loading.sandbox.tokenizer import ConfinedTokenizer


@dataclass(frozen=True)
class LoadPlan:
    """What loading would do. dtype: what the weights are held and computed in, as torch names it. context:
    tokens of one text that there is room for. note: what a person should know of the placement. mmap:
    whether files may be mapped into memory. ranks: the processes that share it, each of which has the part of
    the placement that has its number; None for one process, which has all parts."""

    directory: ModelDirectory
    placement: Placement
    dtype: str
    parameters: int
    context: int
    note: str | None = None
    mmap: bool = True
    ranks: Ranks | None = None

    @property
    def here(self) -> Placement:
        """What this process has."""
        return Placement((self.placement.parts[self.ranks.rank],)) if self.ranks else self.placement


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

    Raises UnsupportedError if it does not fit, or cannot be shared so, UsageError for wrong names, and for
    ranks without a process group, IntegrityError for ranks of which one has another model than the first.
    """
    ranks = ranks_for(request, settings)
    directory = agreed(
        ranks, lambda: open_directory(request, settings=settings, progress=progress, fetch=fetch)
    )
    if ranks:
        with naming_models(directory.registry, directory.model, lambda: directory.checkpoint):
            check_same_model(ranks, directory.checkpoint)
    plan = plan_directory(
        directory,
        ranks=ranks,
        devices=request.devices,
        dtype=request.dtype,
        context=request.context,
        max_memory=request.max_memory,
        mmap=request.mmap,
    )
    listener = progress or Progress()
    if len(directory.checkpoint.dtypes) > 1:
        listener.note(f"all of it is held and computed in {plan.dtype}")
    if plan.note:
        listener.note(plan.note)
    return plan


def ranks_for(request: LoadRequest, settings: Settings) -> Ranks | None:
    """Who shares the model; None where one process has it. Raises what `join` does, UnsupportedError for what
    there is not."""
    if request.parallel not in PARALLEL:
        what = f"{request.parallel} placement is not supported: {' and '.join(PARALLEL)} are"
        raise UnsupportedError(what, "`parallel`")
    if request.parallel != LAYERS:
        return join(request.devices, settings.environ, request.pp)
    if request.pp != 1:
        raise UsageError("only ranks are divided into stages", "`pp`", f"`parallel={TENSOR!r}`")
    return None


def plan_directory(
    directory: ModelDirectory,
    *,
    devices: Sequence[str] | None = None,
    dtype: str | None = None,
    context: int | None = None,
    max_memory: MaxMemory = None,
    mmap: bool = True,
    ranks: Ranks | None = None,
) -> LoadPlan:
    """The same for a directory that is open already. ranks: that share it, whose devices are theirs."""
    require_torch()
    if dtype not in (None, *ITEMSIZE):
        raise UsageError(f"'{dtype}' is not a dtype to load in", "`dtype`", fix=", ".join(ITEMSIZE))
    check_count("context", context)
    network = network_of(directory.checkpoint, directory.model)
    tp, held = (ranks.tp, ranks.held(network.layers)) if ranks else (1, None)
    need = Need(network, dtype or dtype_name(directory.checkpoint.dtype), tp, held)
    shared, most = need.check_shared(), memory_limits(max_memory)
    ways = agreed(ranks, lambda: _ways(devices, most, ranks))
    room = agreed(ranks, lambda: find_room(need, ways, context))
    if ranks:
        room = _room_of_all(ranks, need, ways, room)
    note = "; ".join(text for text in (shared, room.note) if text) or None
    sized = need.dtype, network.parameters, room.context, note
    return LoadPlan(directory, room.placement, *sized, mmap, ranks)


def _ways(
    devices: Sequence[str] | None, most: int | Mapping[str, int] | None, ranks: Ranks | None
) -> list[tuple[Device, ...]]:
    """Rows of devices to try, one after the other; a rank has one, and its part of the machine's memory."""
    from internlm_zoo.loading.memory import default_ways, devices_here, limits_here

    most = limits_here(most)
    if ranks is None:
        return [limited(devices_here(names), most) for names in ([devices] if devices else default_ways())]
    (device,) = devices_here([ranks.device])
    if device.name == "cpu" and device.memory is not None:
        device = Device(device.name, device.memory // ranks.beside)
    return [limited([device], most)]


def _room_of_all(ranks: Ranks, need: Need, ways: Sequence[Sequence[Device]], room: Room) -> Room:
    """With a part of each rank, and a context that all of them have room for."""
    least = min(told(ranks, room), key=lambda one: one.context)
    rooms = told(ranks, find_room(need, ways, least.context))
    parts = tuple(part for one in rooms for part in one.placement.parts)
    return Room(Placement(parts), least.context, least.note)


def execute(plan: LoadPlan, *, tokenizer: bool = True) -> Loaded:
    """Read the weights onto the devices of the plan, and the tokenizer beside them, if it is wanted.

    Raises UnsupportedError for a device that is not here, IntegrityError for a tensor missing or too many,
    and for ranks of which one has other weights than the first.
    """
    start = time.perf_counter()
    mesh = None
    if plan.ranks:
        check_same_weights(plan.ranks, plan.directory.checkpoint)
        mesh = plan.ranks.mesh()
    model, found = agreed(plan.ranks, lambda: _read(plan, mesh, tokenizer=tokenizer))
    return Loaded(model, found, plan, time.perf_counter() - start)


def _read(
    plan: LoadPlan, mesh: DeviceMesh | None, *, tokenizer: bool
) -> tuple[PreTrainedModel, ConfinedTokenizer | None]:
    from internlm_zoo.loading.build import build_model
    from internlm_zoo.loading.memory import check_present
    from internlm_zoo.loading.sandbox.process import warm_up
    from internlm_zoo.loading.tokenizer import find_tokenizer, has_tokenizer

    check_present([part.computes for part in plan.here.parts])
    directory = plan.directory
    if tokenizer and has_tokenizer(directory):
        warm_up()  # it imports for half a second, meanwhile the model is built
    with naming_models(directory.registry, directory.model, lambda: directory.checkpoint):
        model = build_model(directory.checkpoint, plan.here, plan.dtype, mmap=plan.mmap, mesh=mesh)
    return model, find_tokenizer(directory) if tokenizer else None


def load_model(request: LoadRequest, *, settings: Settings, progress: Progress | None = None) -> Loaded:
    """`plan_load`, then `execute`: same arguments, same errors."""
    return execute(plan_load(request, settings=settings, progress=progress))

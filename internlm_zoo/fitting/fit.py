"""Whether a model fits, and on what: from facts of the registry, or from headers. No weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import converters
from converters.formats.access import is_directory
from converters.formats.shards import parse_size
from internlm_zoo.checkpoints.facts import known_facts, naming_models
from internlm_zoo.checkpoints.identity import recorded_model
from internlm_zoo.checkpoints.inspection import opened
from internlm_zoo.checkpoints.quantised import refuse_quantised
from internlm_zoo.errors import UsageError
from internlm_zoo.fitting.cards import Card, common_cards
from internlm_zoo.fitting.memory import Workload, check_count
from internlm_zoo.fitting.network import (
    CACHE_ITEMSIZE,
    ITEMSIZE,
    Network,
    dtype_taken,
    network_in,
    network_of,
)
from internlm_zoo.fitting.offload import Offload, offload
from internlm_zoo.fitting.ranks import RankGrid, RankMemory, grids, longest_context, most, rank_memory
from internlm_zoo.progress import Progress
from internlm_zoo.registry import Registry, load_registry
from internlm_zoo.settings import Settings
from internlm_zoo.store.locate import whole_releases

REGISTRY = "registry"


@dataclass(frozen=True)
class FitRequest:
    """model: a registry name, a directory, `hub:repo[@revision]` or a URL. context: tokens of each text,
    prompt and answer; None for as many as it was trained on. batch: texts at once. dtype: of weights and
    activations; None for the stored one. cache_dtype: of keys and values; None for the same. tp, pp: ranks
    that share each stage, and stages. gpu_mem: of one GPU, bytes or a size such as "24GB"; None for a table
    of common cards. host_mem: of the machine, for what one GPU is too small for; None for none of it.
    known_as: the registry model that a directory holds. given: facts that its config does not state. weights:
    which of several sets."""

    model: str | Path
    context: int | None = None
    batch: int = 1
    dtype: str | None = None
    cache_dtype: str | None = None
    tp: int = 1
    pp: int = 1
    gpu_mem: str | int | None = None
    host_mem: str | int | None = None
    known_as: str | None = None
    given: Mapping[str, Any] | None = None
    weights: str | None = None


@dataclass(frozen=True)
class CardVerdict:
    """card: its name. memory: bytes that it has, room: those for a model. fits: whether every rank of the
    grid asked about does. longest_context: tokens of each text that do, 0 if not even the weights. smallest:
    the fewest ranks that hold the context asked about, None beyond 64. offload: how one such GPU runs it that
    is too small, None where it is not, cannot, or where more than one rank was asked about."""

    card: str
    memory: int
    room: int
    fits: bool
    longest_context: int
    smallest: RankGrid | None
    offload: Offload | None = None


@dataclass(frozen=True)
class Fit:
    """source: "registry", or the name of what the headers were read of. trained: tokens that the model was
    trained on, None if nothing says it. stages: what each rank of a pipeline stage holds. need: bytes of the
    fullest rank."""

    model: str
    source: str
    parameters: int
    dtype: str
    cache_dtype: str
    context: int
    batch: int
    trained: int | None
    tp: int
    pp: int
    need: int
    stages: tuple[RankMemory, ...]
    verdicts: tuple[CardVerdict, ...]

    @property
    def ok(self) -> bool:
        """Whether it fits on the GPU asked about, or on one of the common cards."""
        return any(verdict.fits for verdict in self.verdicts)


def fit(request: FitRequest, *, settings: Settings, progress: Progress | None = None) -> Fit:
    """A directory is read by its headers, and so is a release in the store; of another model the registry's
    facts do, and where it has none the headers are fetched, by ranges.

    Raises UsageError for what cannot be shared so, and for an unknown context or element type; what reading
    headers raises.
    """
    _check(request)
    registry = load_registry(settings)
    network, source = _network(request, registry, settings, progress or Progress())
    dtype = dtype_taken(network, request.dtype)
    work = Workload(_context(request, network), request.batch, dtype, request.cache_dtype or dtype)
    stages = rank_memory(network, work, request.tp, request.pp)
    return Fit(
        str(request.model),
        source,
        network.parameters,
        dtype,
        work.cache_dtype,
        work.context,
        work.batch,
        network.trained,
        request.tp,
        request.pp,
        most(stages),
        stages,
        _verdicts(network, work, request, most(stages)),
    )


def _check(request: FitRequest) -> None:
    for name, value, known in (
        ("dtype", request.dtype, ITEMSIZE),
        ("cache_dtype", request.cache_dtype, CACHE_ITEMSIZE),
    ):
        if value not in (None, *known):
            raise UsageError(f"{value!r} is no element type to plan for", f"`{name}`", ", ".join(known))
    for name in ("context", "batch", "tp", "pp"):
        check_count(name, getattr(request, name))


def _network(
    request: FitRequest, registry: Registry, settings: Settings, progress: Progress
) -> tuple[Network, str]:
    entry = registry.model(request.known_as) if request.known_as else None
    target = str(request.model)
    if target in registry.models and not is_directory(target) and not whole_releases(target, settings):
        model = registry.models[target]
        network = None if request.given or request.weights else network_in(registry, entry or model)
        if network is not None:
            return network, REGISTRY
    with opened(target, registry, settings, progress.note) as (folder, found, release):
        refuse_quantised(release, registry)
        entry = entry or found or recorded_model(folder, registry)
        known = known_facts(entry, registry)

        def read() -> converters.Checkpoint:
            return converters.open_checkpoint(folder, request.given, known, request.weights)

        with naming_models(registry, entry, read):
            checkpoint = read()
        for note in checkpoint.notes:
            progress.note(note)
        return network_of(checkpoint, entry), folder.name


def _context(request: FitRequest, network: Network) -> int:
    context = request.context or network.trained
    if context is None:
        what = "nothing says how many tokens the model was trained on"
        raise UsageError(what, str(request.model), "`context=32768`, say")
    return context


def _verdicts(network: Network, work: Workload, request: FitRequest, need: int) -> tuple[CardVerdict, ...]:
    asked = None if request.gpu_mem is None else parse_size(request.gpu_mem)
    cards = common_cards() if asked is None else (Card("GPU asked about", asked),)
    ordered = grids(network, work)
    host = 0 if request.host_mem is None else parse_size(request.host_mem)

    def offloaded(card: Card) -> Offload | None:
        alone = request.tp * request.pp == 1
        return offload(network, work, card.room, host) if alone and need > card.room else None

    return tuple(
        CardVerdict(
            card.name,
            card.memory,
            card.room,
            need <= card.room,
            longest_context(network, work, card.room, (request.tp, request.pp)),
            next((grid for grid in ordered if grid.need <= card.room), None),
            offloaded(card),
        )
        for card in cards
    )

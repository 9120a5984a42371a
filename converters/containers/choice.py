"""Which sets of weights the names in a folder stand for, and which of them is meant.

Where a folder holds several for transformers, the one is taken that `from_pretrained` loads: one file before
an index, safetensors before pickles. That order is the same in transformers 4.30 (if safetensors is there),
4.37, 4.57 and 5.24 (modeling_utils.py, `_get_resolved_checkpoint_files` in the newer ones). Where versions
differ, and where nothing tells what was intended, the user says which.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from converters.containers.container import Container, WeightSet, WeightSetChoice
from converters.containers.foreign import foreign
from converters.containers.gguf_file import GGUF
from converters.containers.names import ADAPTER_CONFIG, CONFIG, MODEL_CONFIG
from converters.containers.safetensors_shards import SAFETENSORS_SHARDS
from converters.containers.shard_files import shard_groups
from converters.containers.torch_grid import TORCH_GRID
from converters.errors import NotFoundError, UnsupportedError, UsageError, ZooError, parameter

CONTAINERS: tuple[Container, ...] = (TORCH_GRID, SAFETENSORS_SHARDS, GGUF)

_WEIGHTS = re.compile(r".+\.(safetensors|bin|pt|pth|ckpt)")
_TRAINING = re.compile(
    r"(optimizer|schedul\w*|sampler|batch_sampler|context|rng_state|random_states|training_args|scaler"
    r"|model_config|zero_pp_rank).*|.*_optim_states\.pt"
)
"""What training leaves beside weights."""


def weight_sets(names: Sequence[str]) -> tuple[WeightSet, ...]:
    """All sets of weights that names stand for: those of each container in the order in which it looks for
    them, then files of other names."""
    sets = [one for container in CONTAINERS for one in container.sets(names)]
    taken = {name for one in sets for name in one.files}
    loose = TORCH_GRID if MODEL_CONFIG in names and CONFIG not in names else SAFETENSORS_SHARDS
    for name in names:
        if name not in taken and _may_be_weights(name):
            sets.append(WeightSet(name, loose, (name,), standard=False))
    return tuple(sets)


def choose(
    names: Sequence[str],
    where: str,
    asked: str | None = None,
    configured: Callable[[], object] = lambda: None,
) -> WeightSetChoice:
    """The set that is meant.

    asked: `original`, `hf` or a file of the set. configured: gives the `transformers_weights` of config.json.
    Raises NotFoundError if there are no weights, or none of the name that was asked for; UnsupportedError if
    there are weights of other programs alone; UsageError, naming both, where two are meant as well.
    """
    sets = weight_sets(names)
    taken = _asked_for(sets, asked, where) if asked else _meant(sets, names, where, configured)
    return WeightSetChoice(taken, tuple(one for one in sets if one is not taken), asked is not None)


def _may_be_weights(name: str) -> bool:
    return bool(_WEIGHTS.fullmatch(name)) and not (_TRAINING.fullmatch(name) or foreign([name]))


def _asked_for(sets: Sequence[WeightSet], asked: str, where: str) -> WeightSet:
    if any(asked == container.name for container in CONTAINERS):
        fitting = [one for one in sets if one.container.name == asked]
    else:
        fitting = [one for one in sets if asked == one.name] or list(_holding(sets, asked))
    if fitting:
        return fitting[0]
    what = f"there are no weights {asked!r} in it"
    fix = f"`weights` takes one of: {', '.join(one.name for one in sets)}" if sets else None
    raise NotFoundError(what, where, fix)


def _holding(sets: Sequence[WeightSet], asked: str) -> Iterator[WeightSet]:
    """The set of a file; of a shard, those of its number, whatever an index says."""
    for one in sets:
        groups = [group for group in shard_groups(one.files) if asked in group]
        if groups:
            yield WeightSet(groups[0][0], one.container, groups[0])
        elif asked in one.files:
            yield one


def _meant(
    sets: Sequence[WeightSet], names: Sequence[str], where: str, configured: Callable[[], object]
) -> WeightSet:
    known = [one for one in sets if one.standard]
    if known and known[0].container == TORCH_GRID:
        return _original_alone(known, where)
    wish = configured()
    named = next((one for one in sets if wish in (one.name, *one.files)), None)
    first = next(iter(known), named)
    if first and first.container == GGUF and len(known) > 1:
        raise _undecided("it holds several GGUF files", where, *((one, one.name) for one in known))
    if first is None:
        raise _none(sets, names, where)
    if named and named is not first:
        raise _undecided(
            f"its config names {wish} as its weights, which transformers takes since 4.57; older versions "
            f"take {first.name}",
            where,
            (named, named.name),
            (first, first.name),
        )
    if ADAPTER_CONFIG in names:
        raise UsageError(
            f"it holds a LoRA adapter ({ADAPTER_CONFIG}) beside whole weights ({first.spoken}), and what "
            "from_pretrained makes of both depends on the versions of transformers and peft",
            where,
            f"{parameter('weights', first.name)} takes the weights without the adapter; with it, merge it "
            "by peft (merge_and_unload) first",
        )
    return first


def _original_alone(known: Sequence[WeightSet], where: str) -> WeightSet:
    rival = next((one for one in known if one.container == SAFETENSORS_SHARDS and one.files), None)
    if rival is None:
        return known[0]
    raise _undecided(
        f"it holds two checkpoints: an original one ({known[0].spoken}) and one for transformers "
        f"({rival.spoken})",
        where,
        (known[0], known[0].container.name),
        (rival, rival.container.name),
    )


def _undecided(what: str, where: str, *ways: tuple[WeightSet, str]) -> UsageError:
    options = ", ".join(f"{parameter('weights', name)} for {one.spoken}" for one, name in ways)
    return UsageError(what, where, f"say which is meant: {options}")


def _none(sets: Sequence[WeightSet], names: Sequence[str], where: str) -> ZooError:
    """Why nothing in it is taken without being asked for."""
    if others := foreign(names):
        name, kind = others[0]
        return UnsupportedError(f"{name} holds {kind.what}; that is not supported", where, kind.fix)
    if sets:
        return NotFoundError(
            f"no weights in it have a name that says how to read them: {', '.join(one.name for one in sets)}",
            where,
            f"name the file: {parameter('weights', sets[0].name)}",
        )
    if CONFIG in names or MODEL_CONFIG in names:
        return NotFoundError(
            "it holds a config and no weights",
            where,
            "expected: model.safetensors or pytorch_model.bin, or an index; model_tp0_pp0.pt beside "
            f"{MODEL_CONFIG}",
        )
    what = f"it holds no checkpoint: neither {CONFIG} nor model_tp0_pp0.pt is there"
    return NotFoundError(what, where, "name a directory in original, hf, llama or gguf format")

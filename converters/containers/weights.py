"""Which sets of weights the names in a folder stand for, and which of them is meant.

Where a folder holds several for transformers, the one is taken that `from_pretrained` loads: one file before
an index, safetensors before pickles. That order is the same in transformers 4.30 (if safetensors is there),
4.37, 4.57 and 5.24 (modeling_utils.py, `_get_resolved_checkpoint_files` in the newer ones). Where versions
differ, and where nothing tells what was intended, the user says which.
File names of the original format: InternLM/InternEvo c628a8c internlm/checkpoint/components.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from converters.containers.names import ADAPTER_CONFIG, CONFIG, MODEL_CONFIG
from converters.errors import NotFoundError, UnsupportedError, UsageError, ZooError

ORIGINAL, HF, GGUF = "original", "hf", "gguf"

_COUNT = r"(?:0|[1-9][0-9]{0,5})"  # as programs write a number of ranks or stages
CELL = re.compile(rf"model_tp({_COUNT})_pp({_COUNT})\.pt")
UNSUPPORTED = {
    "weight parallelism (tensor mode isp)": re.compile(r"model_(tp\d+_)?wp\d+(_pp\d+)?.*\.pt"),
    "sharding by FSDP": re.compile(r"model_tp\d+_pp\d+_dp\d+\.pt"),
    "mixture of experts": re.compile(r"model_moe_layer\d+_expert\d+.*\.pt"),
}
_GRID = re.compile(r"model_(.*_)?((tp|pp|wp|dp)\d+|moe_layer\d+).*\.pt")
"""What is of a grid, or may be."""

SHARD = re.compile(
    r"(?P<base>.+)-(?P<number>[0-9]{1,9})-of-(?P<count>[0-9]{1,9})\.(?P<suffix>safetensors|bin|pt|pth)"
)
SPARSE = 64
"""Files that names may stand for, for each that is there: what a name says costs no more than this."""
_CONTAINERS = (("model", "safetensors"), ("pytorch_model", "bin"))
INDEX = ".index.json"
GGUF_SUFFIX = ".gguf"

_WEIGHTS = re.compile(r".+\.(safetensors|bin|pt|pth|ckpt)")
_TRAINING = re.compile(
    r"(optimizer|schedul\w*|sampler|batch_sampler|context|rng_state|random_states|training_args|scaler"
    r"|model_config|zero_pp_rank).*|.*_optim_states\.pt"
)
"""What training leaves beside weights."""


@dataclass(frozen=True)
class ForeignFile:
    """What is recognised by its name, and not read. pattern: of the name of a file, of an architecture or of
    a tensor. fix: the way out."""

    pattern: re.Pattern[str]
    what: str
    fix: str


MERGE = (
    "merge it into its base with peft, PeftModel.from_pretrained(base, DIR).merge_and_unload(), save the "
    "result with save_pretrained, and convert that"
)
_FULL = "save the model's full weights with save_pretrained, and convert those"
FOREIGN = (
    ForeignFile(
        re.compile(r"adapter_(model|config)\..+"),
        "a LoRA adapter, which is not a whole model",
        MERGE,
    ),
    ForeignFile(
        re.compile(r"consolidated.*\.(pth|safetensors)"),
        "weights in the layout of Meta's or Mistral's own code",
        "convert them with transformers' convert_llama_weights_to_hf.py, and convert the result",
    ),
    ForeignFile(
        re.compile(r"ggml-.+\.bin"),
        "weights for old versions of llama.cpp, mostly quantised",
        "take the release in hf format that they were made from",
    ),
    ForeignFile(
        re.compile(r"gptq_model-.+\.(safetensors|bin|pt)"),
        "weights quantised by GPTQ",
        "take the release in 16 bits that they were made from",
    ),
    ForeignFile(
        re.compile(r"(tf_model.*\.h5|flax_model.*\.msgpack)"), "weights for TensorFlow or Flax", _FULL
    ),
    ForeignFile(
        re.compile(r"(zero_pp_)?(mp_|bf16_zero_pp_mp_)?rank_.+_(model|optim)_states\.pt"),
        "a training state of DeepSpeed",
        "run the zero_to_fp32.py beside it, and convert what it writes",
    ),
    ForeignFile(
        re.compile(r".+\.distcp"),
        "a distributed checkpoint of torch",
        "run python -m torch.distributed.checkpoint.format_utils dcp_to_torch, and convert what it writes",
    ),
    ForeignFile(re.compile(r"model_optim_rng\.pt"), "a checkpoint of Megatron-LM", _FULL),
)


@dataclass(frozen=True)
class WeightSet:
    """One set of weights. name: what asks for it, a file or `original`. form: original, hf or gguf. files: of
    its weights, as far as names show; an index may name others. indexed: whether `name` is one. standard:
    whether its names say that it is meant to be read."""

    name: str
    form: str
    files: tuple[str, ...]
    indexed: bool = False
    standard: bool = True

    @property
    def spoken(self) -> str:
        """How a sentence names it."""
        if self.indexed:
            return f"{self.name} and its shards" if self.files else self.name
        more = f" and {len(self.files) - 1} more" if len(self.files) > 1 else ""
        return f"{self.files[0]}{more}"


@dataclass(frozen=True)
class WeightSetChoice:
    """taken: the set that is read. others: the sets that are there too. asked: whether it was asked for."""

    taken: WeightSet
    others: tuple[WeightSet, ...]
    asked: bool = False


def weight_sets(names: Sequence[str]) -> tuple[WeightSet, ...]:
    """All sets of weights that names stand for: the original one, those that `from_pretrained` knows in the
    order in which it looks for them, shards that no index names, and files of other names."""
    sets = list(_original(names))
    for base, suffix in _CONTAINERS:
        single, index = f"{base}.{suffix}", f"{base}.{suffix}{INDEX}"
        if single in names:
            sets.append(WeightSet(single, HF, (single,)))
        if index in names:
            sets.append(WeightSet(index, HF, tuple(_shards(names, base, suffix)), indexed=True))
    taken = {name for one in sets for name in one.files}
    for group in _groups(name for name in names if name not in taken):
        sets.append(WeightSet(group[0], HF, group, standard=_of_a_container(group[0])))
        taken.update(group)
    sets += [WeightSet(name, GGUF, (name,)) for name in names if name.endswith(GGUF_SUFFIX)]
    loose = HF if CONFIG in names or MODEL_CONFIG not in names else ORIGINAL
    for name in names:
        if name not in taken and _may_be_weights(name):
            sets.append(WeightSet(name, loose, (name,), standard=False))
    return tuple(sets)


def foreign(names: Iterable[str]) -> tuple[tuple[str, ForeignFile], ...]:
    """Files of weights of other programs, each with what it is."""
    return tuple((name, kind) for name in names for kind in FOREIGN if kind.pattern.fullmatch(name))


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


def _original(names: Sequence[str]) -> Iterable[WeightSet]:
    grid = tuple(name for name in names if _GRID.fullmatch(name))
    if grid:
        yield WeightSet(ORIGINAL, ORIGINAL, grid)


def _shards(names: Iterable[str], base: str, suffix: str) -> Iterable[str]:
    return (n for n in names if (m := SHARD.fullmatch(n)) and (m["base"], m["suffix"]) == (base, suffix))


def _groups(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Shards that say that they are of the same number, together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        if match := SHARD.fullmatch(name):
            groups.setdefault((match["base"], match["count"], match["suffix"]), []).append(name)
    return [tuple(group) for group in groups.values()]


def _of_a_container(shard: str) -> bool:
    match = SHARD.fullmatch(shard)
    return match is not None and (match["base"], match["suffix"]) in _CONTAINERS


def _may_be_weights(name: str) -> bool:
    return bool(_WEIGHTS.fullmatch(name)) and not (_TRAINING.fullmatch(name) or foreign([name]))


def _asked_for(sets: Sequence[WeightSet], asked: str, where: str) -> WeightSet:
    if asked in (ORIGINAL, HF, GGUF):
        fitting = [one for one in sets if one.form == asked]
    else:
        fitting = [one for one in sets if asked == one.name] or list(_holding(sets, asked))
    if fitting:
        return fitting[0]
    raise NotFoundError(
        f"there are no weights {asked!r} in it",
        where,
        f"--weights takes one of: {', '.join(one.name for one in sets)}" if sets else None,
    )


def _holding(sets: Sequence[WeightSet], asked: str) -> Iterator[WeightSet]:
    """The set of a file; of a shard, those of its number, whatever an index says."""
    for one in sets:
        groups = [group for group in _groups(one.files) if asked in group]
        if groups:
            yield WeightSet(groups[0][0], one.form, groups[0])
        elif asked in one.files:
            yield one


def _meant(
    sets: Sequence[WeightSet], names: Sequence[str], where: str, configured: Callable[[], object]
) -> WeightSet:
    known = [one for one in sets if one.standard]
    if known and known[0].form == ORIGINAL:
        return _original_alone(known, where)
    wish = configured()
    named = next((one for one in sets if wish in (one.name, *one.files)), None)
    first = next(iter(known), named)
    if first and first.form == GGUF and len(known) > 1:
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
            f"--weights {first.name} takes the weights without the adapter; with it, merge it by peft "
            "(merge_and_unload) first",
        )
    return first


def _original_alone(known: Sequence[WeightSet], where: str) -> WeightSet:
    rival = next((one for one in known if one.form == HF and one.files), None)
    if rival is None:
        return known[0]
    raise _undecided(
        f"it holds two checkpoints: an original one ({known[0].spoken}) and one for transformers "
        f"({rival.spoken})",
        where,
        (known[0], ORIGINAL),
        (rival, HF),
    )


def _undecided(what: str, where: str, *ways: tuple[WeightSet, str]) -> UsageError:
    options = ", ".join(f"--weights {name} for {one.spoken}" for one, name in ways)
    return UsageError(what, where, f"say which is meant: {options}")


def _none(sets: Sequence[WeightSet], names: Sequence[str], where: str) -> ZooError:
    """Why nothing in it is taken without being asked for."""
    if strangers := foreign(names):
        name, kind = strangers[0]
        return UnsupportedError(f"{name} holds {kind.what}; that is not supported", where, kind.fix)
    if sets:
        return NotFoundError(
            f"no weights in it have a name that says how to read them: {', '.join(one.name for one in sets)}",
            where,
            f"name the file: --weights {sets[0].name}",
        )
    if CONFIG in names or MODEL_CONFIG in names:
        return NotFoundError(
            "it holds a config and no weights",
            where,
            "expected: model.safetensors or pytorch_model.bin, or an index; model_tp0_pp0.pt beside "
            f"{MODEL_CONFIG}",
        )
    return NotFoundError(
        f"it holds no checkpoint: neither {CONFIG} nor model_tp0_pp0.pt is there",
        where,
        "name a directory in original, hf, llama or gguf format",
    )

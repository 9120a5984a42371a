"""Source layout + target layout -> which stored bytes make up which target bytes: pure data, from headers.

A plan is complete or it is not made: every logical tensor of the source is written exactly once, every target
tensor has a source, and what a target's format cannot say is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from converters.auxiliary.code import code_entries
from converters.config import facts as fact_tables
from converters.config.facts import GIVEN, TOKEN_IDS, Fact, Facts, given_facts
from converters.config.rope import DYNAMIC, kind_of
from converters.config.unread import overlaid
from converters.containers.gguf_header import pairs_of
from converters.containers.names import RECORD
from converters.errors import UnsupportedError, UsageError
from converters.formats.gguf_blocks import is_quantised
from converters.formats.shards import Shard
from converters.formats.tensors import DType, Span, nbytes
from converters.geometry.batches import Place
from converters.geometry.cells import Grid, cells, check_divisible, uniform_stages
from converters.layouts.llama import REWARD_READS, TIED
from converters.layouts.table import GGUF, Layout
from converters.options import KEEP, ConversionOptions
from converters.planning.targets import TargetFile, files_of, spec_of
from converters.source.checkpoint import Checkpoint
from converters.source.tied import HEAD, is_tied
from converters.source.vocabulary import UNPADDED, padded
from converters.tokenizer.gguf import gguf_tokenizer

FORMATS = ("hf", "llama", "original", "gguf")
Q8_0 = "q8_0"
LEFT_OUT = "left out"
DTYPES = (KEEP, "float32", "float16", "bfloat16", Q8_0)
# What a config names of code that came with it, and of the version that wrote it.
_NOT_CARRIED = ("auto_map", "transformers_version", "_name_or_path")


@dataclass(frozen=True)
class Plan:
    """dtype: code of the element type that all is rounded to; None: every tensor keeps its own. elements: of
    those logical tensors that pass as another type than they are stored in. normalised: logical tensors whose
    rows are divided by their length on the way (norm_head). lossy: logical tensors that do not come back as
    they were. options: what was asked for."""

    source: Checkpoint
    supply: Checkpoint
    layout: Layout
    grid: Grid
    choices: Mapping[str, object]
    facts: Facts
    files: tuple[TargetFile, ...]
    shards: tuple[Shard, ...]
    config: Mapping[str, Any]
    dtype: str | None
    elements: Mapping[str, str]
    normalised: frozenset[str]
    lossy: frozenset[str]
    options: ConversionOptions

    @property
    def places(self) -> Iterator[Place]:
        """Every target tensor, file by file in the order of its bytes."""
        return (
            Place(file.name, file.cells[span.name], span) for file in self.files for span in file.layout.spans
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the weight files to be written."""
        return sum(file.layout.size for file in self.files)

    @property
    def quantised(self) -> frozenset[str]:
        """Logical tensors that are stored in blocks of small integers, and are not read back."""
        return frozenset(
            slab.logical
            for file in self.files
            if file.layout.encode
            for span in file.layout.spans
            if is_quantised(span)
            for slab in file.cells[span.name].slabs
        )


def plan_conversion(
    source: Checkpoint, options: ConversionOptions, held: Mapping[str, bytes] = MappingProxyType({})
) -> Plan:
    """What converting would do. held: files of a tokenizer that is held by the weights' own file.

    Raises UsageError for options that make no sense and facts that must be given, UnsupportedError naming the
    field or the numbers that make the conversion impossible.
    """
    to, tp, pp = options.to, options.tp, options.pp
    if to not in FORMATS:
        raise UsageError(f"{to!r} is not a format", "--to", f"choose one of {', '.join(FORMATS)}")
    layout = source.layout_in(to)
    if min(tp, pp) < 1 or (not layout.grid and (tp, pp) != (1, 1)):
        raise UsageError(f"{to} has no grid of {tp} x {pp} files", "--tp, --pp", "both are for --to original")
    _, stated = overlaid(source.config, options.given, source.layout)
    known = {**_as_before(source, layout), **source.facts, **given_facts(stated, layout, source.layout)}
    code = _code(options.dtype, layout)
    if code not in (None, source.dtype):
        known["dtype"] = Fact(options.dtype, GIVEN)
    choices = _choose(layout, source, known)
    lossy = _lossy(source, choices)
    if lossy and not options.accept_lossy:
        raise UnsupportedError(
            "the lengths of the head's rows are not stored in this checkpoint and cannot be brought back",
            "norm_head",
            "--accept-lossy writes the head with rows of length one",
        )
    known |= {
        name: Fact(value, known[name].origin if name in known else "layout")
        for name, value in choices.items()
    }
    if options.accept_lossy and layout.container == GGUF:
        known |= _without_dynamic(known)
    _check_tied(choices, source)
    _check_expressible(layout, choices, source)
    supply = padded(source, options.pad_vocab_to_multiple)
    if supply is not source:
        known |= {
            "vocab_size": Fact(supply.sizes["vocab"], GIVEN),
            UNPADDED: Fact(source.sizes["vocab"], known["vocab_size"].origin),
        }
    check_divisible(layout, choices, supply.sizes, tp, "--tp", padding=True)
    grid = Grid(tp, uniform_stages(source.sizes["layers"], pp))
    elements = _elements(supply, layout, code)
    config = {**_config(layout, source, known), **code_entries(options)}
    files, parts = files_of(
        layout,
        choices,
        supply,
        grid,
        elements,
        max_shard_size=options.max_shard_size,
        header=pairs_of(config) | gguf_tokenizer(held, supply.sizes["vocab"])
        if layout.container == GGUF
        else {},
        quantise=code == Q8_0.upper(),
    )
    return Plan(
        source,
        supply,
        layout,
        grid,
        choices,
        known,
        files,
        parts,
        config,
        code,
        elements,
        normalised(source, choices),
        lossy,
        options,
    )


def _without_dynamic(known: Facts) -> dict[str, Fact]:
    """Dynamic scaling begins beyond max_position_embeddings tokens: up to there it changes nothing."""
    scaling = known["rope_scaling"].value if "rope_scaling" in known else None
    return {"rope_scaling": Fact(None, LEFT_OUT)} if scaling and kind_of(scaling) == DYNAMIC else {}


def normalised(source: Checkpoint, choices: Mapping[str, object]) -> frozenset[str]:
    """A norm_head checkpoint's head counts with normalised rows everywhere but in another norm_head one."""
    wanted = source.choices.get("norm_head") and not choices.get("norm_head")
    return frozenset({"head.weight"} if wanted else ())


def _lossy(source: Checkpoint, choices: Mapping[str, object]) -> frozenset[str]:
    """What a norm_head target holds of a head whose rows were normalised long ago."""
    return frozenset(
        {"head.weight"} if choices.get("norm_head") and not source.choices.get("norm_head") else ()
    )


def _code(dtype: str, layout: Layout) -> str | None:
    if dtype not in DTYPES:
        raise UsageError(f"{dtype!r} is not an element type", "--dtype", f"choose one of {', '.join(DTYPES)}")
    if dtype == Q8_0:
        if layout.container != GGUF:
            raise UsageError(f"{layout.format} has no {Q8_0}", "--dtype", "it is for --to gguf")
        return Q8_0.upper()
    return None if dtype == KEEP else DType(dtype).code


def _elements(source: Checkpoint, layout: Layout, code: str | None) -> dict[str, str]:
    """The element type in which each logical tensor that does not keep its own passes. What becomes blocks
    of Q8_0 passes as float32."""
    passing = "F32" if code == Q8_0.upper() else code
    kept = source.dtype_by_name
    wanted = {
        name: (layout.vectors if len(source.tensors[name].shape) == 1 else None) or passing or kept[name]
        for name in source.tensors
    }
    return {name: wanted[name] for name in wanted if wanted[name] != kept[name]}


def _as_before(source: Checkpoint, layout: Layout) -> Facts:
    """How the values lay in the original checkpoint that the source came from."""
    before = source.origin.choices_for(layout) if source.origin else {}
    return {name: Fact(value, RECORD) for name, value in before.items()}


def _choose(layout: Layout, source: Checkpoint, known: Facts) -> dict[str, object]:
    """Given, as in a source of the same layout or in the original it came from, as a fact says, or the first
    that the layout lists."""
    choices: dict[str, object] = {}
    for name, values in layout.choices.items():
        stated = known.get(name)
        same_layout = layout is source.layout
        if stated is not None and (same_layout or stated.origin in (GIVEN, RECORD) or name in source.facts):
            if stated.value not in values:
                raise UnsupportedError(f"{layout.name} cannot have {name} {stated.value!r}", name)
            choices[name] = stated.value
        else:
            choices[name] = values[0]
    return choices


def _check_expressible(layout: Layout, choices: Mapping[str, object], source: Checkpoint) -> None:
    sizes = source.sizes
    if "$num_kv_heads" not in layout.template.values() and sizes["q_per_kv"] != 1:
        raise UnsupportedError(
            f"{layout.name} has as many key/value heads as query heads, not {sizes['kv_heads']} for "
            f"{sizes['kv_heads'] * sizes['q_per_kv']}",
            "num_kv_heads",
        )
    if "$head_dim" not in layout.template.values():
        heads, hidden = sizes["kv_heads"] * sizes["q_per_kv"], sizes["hidden"]
        if heads * sizes["head_dim"] != hidden:
            raise UnsupportedError(
                f"{layout.name} has heads of hidden_size / heads dimensions, not {sizes['head_dim']}",
                "head_dim",
            )
    one = Grid(1, (range(sizes["layers"]),))
    held = {slab.logical for cell in cells(layout, choices, sizes, one) for slab in cell.slabs}
    for name in source.own if is_tied(choices) else source.tensors:
        if name not in held:
            raise UnsupportedError(f"{layout.name} has no place for {name}", source.path)
    for name in sorted(held - source.tensors.keys()):
        raise UnsupportedError(f"{layout.name} needs {name}, which the checkpoint does not have", source.path)


def _check_tied(choices: Mapping[str, object], source: Checkpoint) -> None:
    if not is_tied(choices):
        return
    if normalised(source, choices):
        raise UnsupportedError(
            "a head whose rows are normalised is not the embedding", "norm_head", f"leave out {TIED}"
        )
    if HEAD in source.own:
        raise UsageError(
            "the source has a head of its own, so the target's cannot be the embedding",
            TIED,
            "open the source with the same fact",
        )


def _config(layout: Layout, source: Checkpoint, known: Facts) -> dict[str, Any]:
    """The source's own config where the layout stays, and what was given or settled; else one of facts."""
    told = known.keys() & layout.reads.keys()
    more = {key: known[key].value for key in (UNPADDED, *REWARD_READS) if key in told}
    if layout is not source.layout or not source.config:
        return fact_tables.write(layout, known) | more
    kept = {key: value for key, value in source.config.items() if key not in _NOT_CARRIED}
    settled = (
        {name for name, fact in known.items() if fact.origin == GIVEN} | layout.choices.keys() | {"dtype"}
    )
    settled |= {name for name in TOKEN_IDS if name in known and known[name].value != source.config.get(name)}
    written = fact_tables.rewrite(layout, kept, known, settled, settled | {"rope_theta", "rope_scaling"})
    return written | more


def standalone(source: Checkpoint, layout: Layout) -> list[Place]:
    """Every tensor as a layout has it, at offset 0 of a place of its own."""
    choices = _choose(layout, source, source.facts)
    _check_expressible(layout, choices, source)
    one = Grid(1, (range(source.sizes["layers"]),))
    specs = ((cell, spec_of(source, {}, cell)) for cell in cells(layout, choices, source.sizes, one))
    return [
        Place(cell.name, cell, Span(cell.name, spec.dtype, cell.shape, 0, nbytes(spec.dtype, cell.shape)))
        for cell, spec in specs
    ]

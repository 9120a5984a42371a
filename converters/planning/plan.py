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
from converters.config.facts import GIVEN, TOKEN_IDS, Fact, Facts
from converters.containers.container import Extras
from converters.errors import UsageError
from converters.formats.gguf_blocks import is_quantised
from converters.formats.tensors import DType, Span
from converters.geometry.batches import Place
from converters.geometry.cells import Grid, check_divisible, uniform_stages
from converters.geometry.shares import share_of
from converters.layouts import FORMATS
from converters.layouts.llama import REWARD_READS
from converters.layouts.table import Layout
from converters.options import KEEP, ConversionOptions
from converters.planning.choices import chosen, normalised, settled
from converters.planning.expressible import check_expressible, check_tied
from converters.planning.targets import TargetFile, files_of, spec_of
from converters.source.checkpoint import Checkpoint
from converters.source.vocabulary import UNPADDED, padded

Q8_0 = "q8_0"
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
    layout = _layout(source, options)
    code = _code(options.dtype, layout)
    decided = settled(source, layout, options)
    choices = decided.choices
    check_tied(choices, source)
    check_expressible(layout, choices, source)
    supply = padded(source, options.pad_vocab_to_multiple)
    check_divisible(layout, choices, supply.sizes, options.tp, "`tp`", padding=True)
    known = {
        **decided.facts,
        **_of_rounding(source, options, code),
        **_of_padding(decided.facts, source, supply),
    }
    grid = Grid(options.tp, uniform_stages(source.sizes["layers"], options.pp))
    elements = _elements(supply, layout, code)
    config = {**config_of(layout, source, known), **code_entries(options)}
    rows, quantise = supply.sizes["vocab"], code == Q8_0.upper()
    extras = Extras(config, held, rows, options.max_shard_size, quantise)
    return Plan(
        source,
        supply,
        layout,
        grid,
        choices,
        known,
        files_of(layout, choices, supply, grid, elements, extras),
        config,
        code,
        elements,
        normalised(source, choices),
        decided.lossy,
        options,
    )


def llama_config(source: Checkpoint) -> dict[str, Any]:
    """config.json for transformers' LlamaForCausalLM, or LlamaForSequenceClassification for a reward model.

    It holds what the layout's table names and nothing else that a checkpoint's config may say: transformers
    fetches code for some of it, such as an attention implementation.
    Raises UsageError naming a fact that must be given, UnsupportedError for what Llama cannot express.
    """
    plan = plan_conversion(source, ConversionOptions(to="llama"))
    layout = plan.layout
    by_kind = layout.by_kind[str(plan.choices["kind"])]
    named = {*layout.template, *layout.reads, *by_kind}
    return {**by_kind, **{key: value for key, value in plan.config.items() if key in named}}


def _layout(source: Checkpoint, options: ConversionOptions) -> Layout:
    to, tp, pp = options.to, options.tp, options.pp
    if to not in FORMATS:
        raise UsageError(f"{to!r} is not a format", "`to`", f"choose one of {', '.join(FORMATS)}")
    layout = source.layout_in(to)
    if min(tp, pp) < 1 or (not layout.container.parallel and (tp, pp) != (1, 1)):
        what = f"{to} has no grid of {tp} x {pp} files"
        raise UsageError(what, "`tp`, `pp`", "both are for `to='original'`")
    return layout


def _code(dtype: str, layout: Layout) -> str | None:
    if dtype not in DTYPES:
        raise UsageError(f"{dtype!r} is not an element type", "`dtype`", f"choose one of {', '.join(DTYPES)}")
    if dtype == Q8_0:
        if Q8_0 not in layout.container.dtypes:
            raise UsageError(f"{layout.format} has no {Q8_0}", "`dtype`", "it is for `to='gguf'`")
        return Q8_0.upper()
    return None if dtype == KEEP else DType(dtype).code


def _of_rounding(source: Checkpoint, options: ConversionOptions, code: str | None) -> dict[str, Fact]:
    return {} if code in (None, source.dtype) else {"dtype": Fact(options.dtype, GIVEN)}


def _of_padding(known: Facts, source: Checkpoint, supply: Checkpoint) -> dict[str, Fact]:
    if supply is source:
        return {}
    rows = Fact(source.sizes["vocab"], known["vocab_size"].origin)
    return {"vocab_size": Fact(supply.sizes["vocab"], GIVEN), UNPADDED: rows}


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


def config_of(layout: Layout, source: Checkpoint, known: Facts) -> dict[str, Any]:
    """The source's own config where the layout stays, and what was given or settled; else one of facts."""
    read = known.keys() & layout.reads.keys()
    more = {key: known[key].value for key in (UNPADDED, *REWARD_READS) if key in read}
    if layout is not source.layout or not source.config:
        return fact_tables.write(layout, known) | more
    kept = {key: value for key, value in source.config.items() if key not in _NOT_CARRIED}
    settled = (
        {name for name, fact in known.items() if fact.origin == GIVEN} | layout.choices.keys() | {"dtype"}
    )
    settled |= {name for name in TOKEN_IDS if name in known and known[name].value != source.config.get(name)}
    written = fact_tables.rewrite(layout, kept, known, settled, settled | {"rope_theta", "rope_scaling"})
    return written | more


def standalone(source: Checkpoint, layout: Layout, rank: int = 0, tp: int = 1) -> list[Place]:
    """Every tensor as a layout has it, or what one of tp ranks has of it, at offset 0 of a place of its own.

    Raises what `share_of` does.
    """
    choices = chosen(layout, source, source.facts)
    check_expressible(layout, choices, source)
    held = share_of(layout, choices, source.sizes, rank, tp)
    specs = ((cell, spec_of(source, {}, cell)) for cell in held)
    return [Place(cell.name, cell, Span(cell.name, spec.dtype, cell.shape, 0)) for cell, spec in specs]

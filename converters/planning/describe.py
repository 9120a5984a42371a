"""A plan in words: what would be written, of which stored tensors it is made, what a person should know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from converters.config.facts import dtype_name
from converters.containers.names import RECORD
from converters.errors import parameter
from converters.geometry.logical import pattern_of
from converters.layouts.llama import TIED
from converters.planning.choices import LEFT_OUT
from converters.planning.plan import Plan
from converters.source.tied import EMBEDDING, HEAD, is_tied


@dataclass(frozen=True)
class Line:
    """Target tensors that differ only in their layer's number. count: how many. sources: stored names, N for
    the number. files: of how many source files each is made. nbytes: of all of them."""

    target: str
    shape: tuple[int, ...]
    count: int
    sources: tuple[str, ...]
    files: int
    nbytes: int


def describe(plan: Plan) -> tuple[Line, ...]:
    """One line per kind of target tensor, in the order they are first written."""
    lines: dict[tuple[str, tuple[int, ...]], Line] = {}
    for file in plan.files:
        sizes = {span.name: span.nbytes for span in file.layout.spans}
        for cell in file.cells.values():
            key = (pattern_of(cell.name), cell.shape)
            pieces = [piece for slab in cell.slabs for piece in plan.source.tensors[slab.logical].pieces]
            before = lines.get(key)
            lines[key] = Line(
                *key,
                count=(before.count if before else 0) + 1,
                sources=tuple(dict.fromkeys(pattern_of(piece.tensor) for piece in pieces)),
                files=max(before.files if before else 0, len({piece.file for piece in pieces})),
                nbytes=(before.nbytes if before else 0) + sizes[cell.name],
            )
    return tuple(lines.values())


def notes_of(plan: Plan) -> tuple[str, ...]:
    """How the source was read, and what is not in the target what it is in the source."""
    return (*plan.source.notes, *_lost(plan), *_elements(plan), *_readers(plan), *_openers(plan))


def notes_on_head(plan: Plan, digests: Mapping[str, str]) -> Iterator[str]:
    """What the digests of a result's tensors show of its head."""
    same = HEAD in digests and digests[HEAD] == digests.get(EMBEDDING)
    if same and TIED in plan.layout.choices and HEAD in plan.source.own:
        yield f"the head holds the same as the embedding: {parameter('given', {TIED: True})} stores it once"


def _lost(plan: Plan) -> Iterator[str]:
    if plan.source.dropped:
        yield f"{len(plan.source.dropped)} computed buffers (.inv_freq) were left out"
    if plan.source.tied and not is_tied(plan.choices):
        yield f"the head is the embedding, and is written out as a tensor of its own: {_why_untied(plan)}"
    elif is_tied(plan.choices) and plan.source.head_again:
        yield "the stored head, which is the embedding again, was left out"
    if plan.supply is not plan.source:
        rows, longer = plan.source.sizes["vocab"], plan.supply.sizes["vocab"]
        yield (
            f"the vocabulary is padded from {rows} to {longer} rows, whose logits are 0; the way back drops "
            "them as long as they are zeros"
        )
    if plan.normalised:
        yield "the head's rows were normalised, as norm_head says; their lengths cannot be brought back"
    if plan.quantised:
        yield f"lossy: {len(plan.quantised)} matrices are quantised to {plan.dtype}"
    scaling = plan.facts.get("rope_scaling")
    if scaling and scaling.origin == LEFT_OUT:
        yield (
            "lossy: dynamic rotary scaling was left out; up to "
            f"{plan.facts['max_position_embeddings'].value} tokens the model is the same"
        )
    if plan.lossy:
        yield "lossy: the head is written with rows of length one, as norm_head made them"


def _why_untied(plan: Plan) -> str:
    return f"{TIED} is false" if TIED in plan.layout.choices else f"{plan.layout.name} cannot tie them"


def _readers(plan: Plan) -> Iterator[str]:
    for name, by_value in plan.layout.readers.items():
        again = "; so it was in the checkpoint that the source came from"
        yield by_value[str(plan.choices[name])] + again * (plan.facts[name].origin == RECORD)


def _openers(plan: Plan) -> Iterator[str]:
    if plan.options.code:
        yield "the code files go with it as they are: AutoModel runs them with trust_remote_code=True only"
    elif plan.layout.format == "hf":
        yield (
            "transformers' AutoModel opens hf only with the family's code files, which are not part of it: "
            "`to='llama'` needs none, `code=DIR` carries those of a released directory"
        )


def _elements(plan: Plan) -> Iterator[str]:
    source = plan.source
    if plan.dtype and any(tensor.dtype != plan.dtype for tensor in source.tensors.values()):
        yield f"the element type is {plan.dtype}, and was {' and '.join(source.dtypes)}"
    elif not plan.dtype and len(source.dtypes) > 1:
        yield (
            f"every tensor keeps its element type; the config says {dtype_name(source.dtype)}, that of most "
            "bytes, and transformers computes in it (`dtype` makes them one)"
        )

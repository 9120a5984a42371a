"""What a target's layout leaves open, decided: by what was given, by the source, or by the layout's order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from converters.config.facts import GIVEN, Fact, Facts, given_facts
from converters.config.rope import kind_of
from converters.config.unread import overlaid
from converters.containers.names import RECORD
from converters.errors import UnsupportedError
from converters.layouts.table import Layout
from converters.options import ConversionOptions
from converters.source.checkpoint import Checkpoint

LEFT_OUT = "left out"


@dataclass(frozen=True)
class Settled:
    """facts: with the choices among them. lossy: logical tensors that do not come back as they were."""

    facts: Facts
    choices: Mapping[str, object]
    lossy: frozenset[str]


def settled(source: Checkpoint, layout: Layout, options: ConversionOptions) -> Settled:
    """Raises UnsupportedError for what is stated and the layout cannot have, and for a loss that is not
    accepted."""
    _, stated = overlaid(source.config, options.given, source.layout)
    known = {**_as_before(source, layout), **source.facts, **given_facts(stated, layout, source.layout)}
    choices = chosen(layout, source, known)
    lossy = _lossy(source, choices)
    if lossy and not options.accept_lossy:
        what = "the lengths of the head's rows are not stored in this checkpoint and cannot be brought back"
        fix = "`accept_lossy=True` writes the head with rows of length one"
        raise UnsupportedError(what, "norm_head", fix)
    for name, value in choices.items():
        known[name] = Fact(value, known[name].origin if name in known else "layout")
    if options.accept_lossy:
        known |= _without_scaling(layout, known)
    return Settled(known, choices, lossy)


def _without_scaling(layout: Layout, known: Facts) -> dict[str, Fact]:
    """Dynamic scaling begins beyond max_position_embeddings tokens: up to there it changes nothing."""
    scaling = known["rope_scaling"].value if "rope_scaling" in known else None
    return {"rope_scaling": Fact(None, LEFT_OUT)} if scaling and kind_of(scaling) in layout.omits else {}


def normalised(source: Checkpoint, choices: Mapping[str, object]) -> frozenset[str]:
    """A norm_head checkpoint's head counts with normalised rows everywhere but in another norm_head one."""
    wanted = source.choices.get("norm_head") and not choices.get("norm_head")
    return frozenset({"head.weight"} if wanted else ())


def _lossy(source: Checkpoint, choices: Mapping[str, object]) -> frozenset[str]:
    """What a norm_head target holds of a head whose rows were normalised long ago."""
    lost = choices.get("norm_head") and not source.choices.get("norm_head")
    return frozenset({"head.weight"} if lost else ())


def _as_before(source: Checkpoint, layout: Layout) -> Facts:
    """How the values lay in the original checkpoint that the source came from."""
    before = source.origin.choices_for(layout) if source.origin else {}
    return {name: Fact(value, RECORD) for name, value in before.items()}


def chosen(layout: Layout, source: Checkpoint, known: Facts) -> dict[str, object]:
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

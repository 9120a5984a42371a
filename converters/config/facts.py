"""What is known of a checkpoint besides its tensors, each fact with its origin, and configs as tables.

A layout's template maps config keys to literals or `$fact`; `read` and `write` use the same template in both
directions. A fact that is spelt differently from format to format, or twice in one config, has one value:
converters/config/spellings.py translates, and spellings that contradict each other are refused.
Nothing is defaulted here: a fact that nobody states is missing, and whoever needs it asks for it by name.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from converters.config.spellings import UNSTATED, Partly, Stated, spelling
from converters.errors import IntegrityError, MissingFactError, UnsupportedError, UsageError
from converters.formats.tensors import ELEMENT_TYPES
from converters.layouts.table import Layout
from converters.values import shown

GIVEN = "given"
TENSORS = "tensors"
FORMAT = "format"

Value = Any


@dataclass(frozen=True)
class Fact:
    """origin: `tensors`, `given`, `format` (a constant of the layout), `registry`, or the config file."""

    value: Value
    origin: str


Facts = Mapping[str, Fact]
# How much alike a name and a fact are if one is meant to be the other.
_TYPO = 0.85
# The ids that a config shares with generation_config.json.
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")

# What a refusal suggests for a fact that has to be given.
LIKELY: Mapping[str, str] = {
    "max_position_embeddings": "2048, 4096 or 32768",
    "rms_norm_eps": "1e-5 or 1e-6",
    "rope_theta": "10000 or 1000000",
    "rope_scaling": 'null, or {"type": "dynamic", "factor": 2.0}',
    "mlp_order": "up_down (w2 is up, as in the released models) or down_up (w2 is down)",
    "embed_split_hidden": "true or false",
    "num_attention_heads": "32 (7B) or 40 (20B)",
    "family": "internlm, internlm2 or internlm3",
    "adapt_hf": "true or false: whether the rows of q and k are in Hugging Face's order, which shapes do not "
    "show (false is what newer InternEvo calls qk_interleaved true)",
}


class _Known(dict[str, Value]):
    """Facts by name; one that is missing is asked for."""

    def __init__(self, facts: Facts, where: str) -> None:
        super().__init__({name: fact.value for name, fact in facts.items()})
        self._where = where

    def __missing__(self, name: str) -> NoReturn:
        raise missing(name, self._where)


def missing(name: str, where: str) -> MissingFactError:
    """The refusal of whoever needs a fact that nobody states."""
    likely = f"; likely values: {LIKELY[name]}" if name in LIKELY else ""
    return MissingFactError(
        name,
        f"{name} is stated neither by the checkpoint nor by its format, and is not for us to guess",
        where,
        f"give it with `given={{{name!r}: VALUE}}`{likely}",
    )


def read(
    layout: Layout, config: Mapping[str, Value], origin: str, *, given: Facts, known: Mapping[str, Value]
) -> dict[str, Fact]:
    """Facts of a config. given: override it. known: what the registry says, which stands in where it and its
    format are silent.

    Raises UnsupportedError for a key that the layout demands another value of, IntegrityError for a value
    that makes no sense and for two keys that contradict each other.
    """
    _check_demands(layout, config, origin)
    constants = ((name, name, value) for name, value in layout.constants.items())
    entries = ((key, name, config[key]) for key, name in fact_keys(layout) if key in config)
    facts = {**_stated(constants, FORMAT), **_stated(entries, origin, settled=given.keys())}
    stated = {name: fact for name, fact in facts.items() if fact.value is not UNSTATED}
    registry = {name: Fact(value, "registry") for name, value in known.items()}
    return {**registry, **stated, **given}


def fact_keys(layout: Layout) -> Iterator[tuple[str, str]]:
    """The config keys of a layout that say facts, each with the name under which it is spelt."""
    for key, pattern in {**layout.template, **layout.reads}.items():
        if isinstance(pattern, str) and pattern.startswith("$"):
            yield key, pattern[1:]


def unsaid_choices(layout: Layout, facts: Facts) -> set[str]:
    """Choices of the layout that its config has a key for, and that are not among the facts."""
    return {name for _, name in fact_keys(layout) if name in layout.choices and name not in facts}


def _stated(
    entries: Iterable[tuple[str, str, Value]], origin: str, settled: Collection[str] = ()
) -> dict[str, Fact]:
    """The facts that entries (key, spelling, value) say together; UNSTATED where they leave one open.

    settled: facts that need not agree.
    """
    stated: dict[str, dict[str, Value]] = {}
    for key, name, value in entries:
        try:
            meanings = _meant(key, name, value, origin)
        except (IntegrityError, UnsupportedError):
            if not any(fact in settled for fact in spelling(name).says):
                raise
            continue  # what is given takes its place
        for fact, meant in meanings.items():
            stated.setdefault(fact, {})[key] = meant
    open_ones = {fact: keys for fact, keys in stated.items() if fact not in settled}
    return {fact: Fact(_settle(fact, keys, origin), origin) for fact, keys in open_ones.items()}


def _meant(key: str, name: str, value: Value, origin: str) -> Stated:
    try:
        return spelling(name).read(value)
    except UnsupportedError as error:
        raise UnsupportedError(f"{key} is {shown(value)}: {error.what}", origin, error.fix) from None
    except ValueError as error:
        kind = UsageError if origin == GIVEN else IntegrityError
        raise kind(f"{key} is {shown(value)}, of which no sense can be made: {error}", origin) from None


def _settle(fact: str, stated: Mapping[str, Value], origin: str) -> Value:
    """The one value of all that keys say of a fact."""
    whole = {key: value for key, value in stated.items() if not isinstance(value, Partly)}
    key, value = next(iter(whole.items()), (None, None))
    for other, meant in stated.items():
        agrees = key is None or (meant.agrees(value) if isinstance(meant, Partly) else meant == value)
        if not agrees:
            raise (UsageError if origin == GIVEN else IntegrityError)(
                f"{key} and {other} contradict each other about {fact}",
                origin,
                f"say which holds with `given={{{fact!r}: VALUE}}`",
            )
    return value if key is not None else next(iter(stated.values())).alone


def _check_demands(layout: Layout, config: Mapping[str, Value], origin: str) -> None:
    for key, allowed in layout.demands.items():
        if key in config and config[key] not in allowed:
            what = f"{key} is {shown(config[key])}, and only {' or '.join(map(repr, allowed))} is supported"
            raise UnsupportedError(what, origin)
    for key, other in layout.agree:
        if config.get(key) != config.get(other):
            raise UnsupportedError(
                f"{key} is {shown(config.get(key))} but {other} is {shown(config.get(other))}: "
                "stock Llama has one switch for both",
                origin,
            )


def write(layout: Layout, facts: Facts) -> dict[str, Value]:
    """The config of a layout. Raises UsageError naming a fact that is missing."""
    known = _Known(facts, layout.name)
    fields = {key: _value(pattern, known) for key, pattern in layout.template.items()}
    return {**layout.by_kind.get(known["kind"], {}), **fields} if layout.by_kind else fields


def rewrite(
    layout: Layout,
    config: Mapping[str, Value],
    facts: Facts,
    changed: Collection[str],
    added: Collection[str],
) -> dict[str, Value]:
    """A config of a layout in which every key that spells a changed fact says it as it is now.

    added: facts that the template's own keys say as well, if they did not, so that readers which know only
    one of the spellings find it.
    """
    known, own = _Known(facts, layout.name), layout.template.keys()
    rewritten = dict(config)
    for key, name in fact_keys(layout):
        says = spelling(name).says
        wanted = changed if key in config else added if key in own else ()
        if any(fact in wanted for fact in says) and all(fact in facts for fact in says):
            rewritten[key] = spelling(name).write(known)
    return rewritten


def _value(pattern: object, known: _Known) -> Value:
    if isinstance(pattern, str) and pattern.startswith("$"):
        return spelling(pattern[1:]).write(known)
    return pattern


def given_facts(given: Mapping[str, Value], *layouts: Layout) -> dict[str, Fact]:
    """What a user gave, by fact or by the config key of one of the layouts.

    A key that is none and is given as null is one that changes nothing, said of another checkpoint beside
    this one. Raises UsageError for any other, and for what would say nothing.
    """
    names = {"family": "family"}
    for layout in layouts:
        names |= {choice: choice for choice in layout.choices}
        for key, name in fact_keys(layout):
            names |= {key: name, name: name}
    for key, value in given.items():
        if key in names and not _meant(key, names[key], value, GIVEN):
            what = f"{key}={shown(value)} says nothing: leave it out"
            raise UsageError(what, "`given`", "`dtype` changes the element type")
        if key not in names and (value is not None or difflib.get_close_matches(key, names, 1, _TYPO)):
            raise _no_fact(key, names)
    return _stated(((key, names[key], value) for key, value in given.items() if key in names), GIVEN)


def _no_fact(key: str, names: Collection[str]) -> UsageError:
    near = difflib.get_close_matches(key, names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(names))}"
    return UsageError(f"{key} is not a fact of these formats", "`given`", hint)


def dtype_name(code: str) -> str:
    """The torch name of a safetensors code: BF16 is bfloat16."""
    return ELEMENT_TYPES[code].torch

"""What a checkpoint says of itself, held against what the registry says of its model; no weight is read.

Only what is stated counts: what a file leaves open contradicts nothing, and what a user gives is the user's
word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from converters import Checkpoint
from converters.auxiliary.description import describe
from converters.auxiliary.files import FAST, SENTENCEPIECE, SETTINGS, files_in
from converters.auxiliary.generation import GENERATION, stated_generation, token_ids
from converters.config.facts import FORMAT, GIVEN
from converters.config.spellings import spelling
from internlm_zoo.checkpoints.facts import REGISTRY, same_shape, shortened
from internlm_zoo.checkpoints.tokens import tokenizer_facts
from internlm_zoo.registry import Model, Registry
from internlm_zoo.registry.query import SIZES
from internlm_zoo.registry.schema import SpecialToken, takes_turns

_EOS = "eos_token_id"
# Facts of an architecture, and of a released config.json. What its tensors alone decide is not among them.
_ARCHITECTURE = (*SIZES, "rope_theta")
_RELEASED = ("rope_scaling", "rms_norm_eps", "max_position_embeddings", "reward_token_id", "pad_token_id")
# Roles of the ids that a config and generation_config.json state besides eos.
_ROLES = {"bos_token_id": "bos", "pad_token_id": "pad"}
_NO_ID = (None, -1)
# Up to the trained length it is none, and a checkpoint in the original format cannot say it.
_NO_SCALING = {"type": "dynamic", "factor": 1.0}


@dataclass(frozen=True)
class Contradiction:
    """field: as its file or the registry calls it. where: what states the value that was found."""

    field: str
    expected: object
    found: object
    where: str

    def __str__(self) -> str:
        return f"{self.field}: expected {self.expected}, found {self.found} ({self.where})"


@dataclass(frozen=True)
class Expected:
    """What the registry says of a model, as far as it says it. facts: by their names in a checkpoint. tokens:
    special ones by role, with ids. ends: roles of those that end a text. generation: roles of those that
    generation_config.json has to name."""

    facts: Mapping[str, Any]
    tokens: Mapping[str, SpecialToken]
    ends: Sequence[str]
    generation: Sequence[str] = ()

    def ids(self, roles: Sequence[str]) -> list[int]:
        """None at all, if one of them is not known."""
        ids = [self.tokens[role].id for role in roles if role in self.tokens]
        return list(dict.fromkeys(id for id in ids if id is not None)) if None not in ids else []

    def within(self, rows: int) -> Expected:
        """Without the ids of a family that a model of unknown sizes has no rows for: its vocabulary is its
        own."""
        if "vocab_size" in self.facts:
            return self
        beyond = {role for role, token in self.tokens.items() if (token.id or 0) >= rows}
        unknown = {role: self.tokens[role].model_copy(update={"id": None}) for role in beyond}
        return replace(self, tokens={**self.tokens, **unknown})


def expected_of(model: Model, registry: Registry) -> Expected:
    family = registry.family_of(model)
    kind = "reward" if model.kind == "reward" else "causal"
    facts: dict[str, Any] = {"family": family.layout, "kind": kind}
    for fact in _ARCHITECTURE if model.architecture else ():
        facts[fact] = getattr(model.architecture, fact)
    for key, value in model.released_config.items():
        facts |= {fact: said for fact, said in spelling(key).read(value).items() if fact in _RELEASED}
    stated = {fact: value for fact, value in facts.items() if value is not None or fact == "rope_scaling"}
    generation = family.generation_eos if takes_turns(model.kind) else ()
    return Expected(stated, registry.special_tokens_of(model), ("eos", *family.stop_tokens), generation)


def contradictions(checkpoint: Checkpoint, expected: Expected) -> list[Contradiction]:
    """Whatever a checkpoint, its config, its generation_config.json and its tokenizer say otherwise."""
    expected = expected.within(checkpoint.sizes["vocab"])
    return [
        *_of_facts(checkpoint, expected),
        *_of_ids(checkpoint, expected),
        *_of_tokenizer(checkpoint, expected),
    ]


def by_shape(checkpoint: Checkpoint, registry: Registry) -> tuple[str | None, list[Contradiction]]:
    """Which models a checkpoint has the shape of, None if there are none, and what contradicts that one of
    them which fits best."""
    facts = {name: fact.value for name, fact in checkpoint.facts.items()}
    alike = same_shape(facts, registry)
    found = [contradictions(checkpoint, expected_of(model, registry)) for model in alike]
    return (shortened(alike), min(found, key=len)) if alike else (None, [])


def _of_facts(checkpoint: Checkpoint, expected: Expected) -> Iterator[Contradiction]:
    for name, value in expected.facts.items():
        fact = checkpoint.facts.get(name)
        if name in _ROLES or fact is None or fact.origin in (FORMAT, GIVEN, REGISTRY):
            continue
        if _plain(fact.value) != _plain(value):
            yield Contradiction(name, value, fact.value, fact.origin)


def _plain(value: Any) -> Any:
    return None if value == _NO_SCALING else value


def _of_ids(checkpoint: Checkpoint, expected: Expected) -> Iterator[Contradiction]:
    """Ids that config.json and generation_config.json state."""
    generation = stated_generation(checkpoint)
    config = {
        name: (fact.value, fact.origin)
        for name, fact in checkpoint.facts.items()
        if fact.origin not in (FORMAT, GIVEN, REGISTRY)
    }
    for name, role in _ROLES.items():
        id = expected.facts.get(name, next(iter(expected.ids([role])), None))
        for value, where in (config.get(name, (None, "")), (generation.get(name), GENERATION)):
            if id is not None and value not in (*_NO_ID, id):
                yield Contradiction(name, id, value, where)
    ends = expected.ids(expected.ends)
    for value, where in (config.get(_EOS, (None, "")), (generation.get(_EOS), GENERATION)):
        ids = value if isinstance(value, list) else [value]
        if ends and value not in _NO_ID and not {*ids} <= {*ends}:
            yield Contradiction(_EOS, " or ".join(map(str, ends)), value, where)
    yield from _of_turns(generation, expected)


def _of_turns(generation: Mapping[str, Any], expected: Expected) -> Iterator[Contradiction]:
    """Whether all that ends a turn is named; a file that transformers derived from config.json says no more
    than that."""
    wanted, value = expected.ids(expected.generation), generation.get(_EOS)
    ids = value if isinstance(value, list) else [value]
    if value in _NO_ID or generation.get("_from_model_config") or not {*ids} <= {*wanted}:
        return
    if {*ids} != {*wanted}:
        yield Contradiction(_EOS, wanted, value, GENERATION)


def _of_tokenizer(checkpoint: Checkpoint, expected: Expected) -> Iterator[Contradiction]:
    files, rows = files_in(checkpoint.folder), checkpoint.sizes["vocab"]
    if not files.content.keys() & {FAST, SENTENCEPIECE}:
        return
    said, facts = describe(files), tokenizer_facts(None, expected.tokens)
    file, other = (FAST, SENTENCEPIECE) if FAST in files.content else (SENTENCEPIECE, FAST)
    running = {name: content for name, content in files.content.items() if name != other}
    ids = token_ids(replace(files, content=running), said, facts, rows)
    for token in expected.tokens.values():
        found = ids.get(token.token or "", ids.get(token.piece or ""))
        if token.token and token.id is not None and found != token.id:
            yield Contradiction(f"the id of {token.token}", token.id, _or_none(found), file)
    eos = said.roles.get("eos_token")
    ends = expected.ids(expected.ends)
    if eos and ends and ids.get(eos) not in ends:
        texts = [token.token for token in expected.tokens.values() if token.id in ends]
        yield Contradiction("eos_token", " or ".join(dict.fromkeys(filter(None, texts))), eos, SETTINGS)


def _or_none(found: int | None) -> object:
    return "no such token" if found is None else found

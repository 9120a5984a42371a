"""The token ids that a config and generation_config.json share: where each comes from, and the file itself.

generation_config.json is what transformers generates by, so it comes first; then config.json. The original
format has neither key: its eos is that of a text, and so is a config's that says no more, or that of a
generation_config.json which transformers derived from one (`_from_model_config`). A chat model ends its turns
with another token, which the registry names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from converters import values
from converters.auxiliary.description import TokenizerDescription, fast_tokenizer_in
from converters.auxiliary.files import FAST, SENTENCEPIECE, TokenizerFiles
from converters.auxiliary.tokens import TokenizerFacts, settle_tokens
from converters.config.facts import FORMAT, GIVEN, TOKEN_IDS, Fact
from converters.config.spellings import spelling
from converters.containers.files import read_json
from converters.errors import IntegrityError
from converters.source.checkpoint import Checkpoint
from converters.tokenizer.tokenizer_json import dump

GENERATION = "generation_config.json"
REGISTRY = "registry"
_EOS = "eos_token_id"


def stated_generation(source: Checkpoint) -> Mapping[str, Any]:
    """What generation_config.json says; empty if it is not there. Raises IntegrityError if it is damaged, or
    if what it says of the ids is none."""
    if GENERATION not in source.folder.names():
        return {}
    stated = read_json(source.folder, GENERATION)
    for name in TOKEN_IDS:
        try:
            values.of(name, stated.get(name), spelling(name).read)
        except ValueError as error:
            raise IntegrityError(str(error), source.folder.where(GENERATION)) from None
    return stated


def settled_ids(source: Checkpoint, stated: Mapping[str, Any], stops: Mapping[str, int]) -> dict[str, Fact]:
    """bos, eos and pad, each with its origin. stops: the tokens that end a text, eos first."""
    facts = {name: source.facts[name] for name in TOKEN_IDS if name in source.facts}
    for name in TOKEN_IDS:
        if name in stated and not (name in facts and facts[name].origin == GIVEN):
            facts[name] = Fact(stated[name], GENERATION)
    ids = list(dict.fromkeys(stops.values()))
    eos = facts.get(_EOS)
    meant = {GIVEN} if stated.get("_from_model_config") else {GIVEN, GENERATION}
    plain = eos is None or (eos.value in (ids[:1], *ids[:1]) and eos.origin not in meant)
    if len(ids) > 1 and plain and source.choices.get("kind") != "reward":
        facts[_EOS] = Fact(ids, REGISTRY)
    return facts


def generation_file(stated: Mapping[str, Any], ids: Mapping[str, Fact]) -> bytes:
    """What is stated, with these ids."""
    return dump({**stated, **{name: fact.value for name, fact in ids.items()}}, GENERATION)


def stop_ids(
    files: TokenizerFiles, description: TokenizerDescription, facts: TokenizerFacts, rows: int
) -> dict[str, int]:
    """The stop tokens that this tokenizer has, and their ids. rows: of the embedding, which has no other."""
    if not facts.stop_tokens:
        return {}
    ids = token_ids(files, description, facts, rows)
    return {text: ids[text] for text in facts.stop_tokens if ids.get(text, rows) < rows}


def token_ids(
    files: TokenizerFiles, description: TokenizerDescription, facts: TokenizerFacts, rows: int
) -> dict[str, int]:
    """Text -> id of every token that this tokenizer has."""
    ids: dict[str, int] = {}
    if SENTENCEPIECE in files.content:
        model = files.model()
        settled = settle_tokens(model, description, facts, rows).added
        ids |= {**model.ids, **{token.text: id for id, token in settled.items()}}
    if FAST in files.content:
        ids |= {token.text: token.id for token in description.added} | fast_tokenizer_in(files).ids
    return ids


def notes_of(source: Checkpoint, ids: Mapping[str, Fact], stops: Mapping[str, int]) -> tuple[str, ...]:
    """What a person should know of where they come from."""
    notes = []
    if (eos := ids.get(_EOS)) and eos.origin == REGISTRY:
        named = ", ".join(f"{text} is {id}" for text, id in stops.items())
        notes.append(f"{_EOS} is {eos.value}: the registry names the tokens that end a text ({named})")
    for name, fact in ids.items():
        own = source.facts.get(name)
        stated = own is not None and own.origin not in (FORMAT, GIVEN)
        if fact.origin == GENERATION and own and stated and _ids(own.value) != _ids(fact.value):
            notes.append(
                f"{name} is {fact.value}, as {GENERATION} says, which is what generates; "
                f"{own.origin} says {own.value}"
            )
    return tuple(notes)


def _ids(value: Any) -> list[Any]:
    """One id and a list of it say the same."""
    return list(value) if isinstance(value, list) else [value]

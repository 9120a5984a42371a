"""Which tokens a tokenizer has besides the pieces of its sentencepiece model, and under which ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from converters.auxiliary.description import TokenizerDescription
from converters.tokenizer.convert import WHOLE
from converters.tokenizer.model_proto import SentencepieceModel
from converters.tokenizer.tokenizer_json import AddedToken


@dataclass(frozen=True)
class TokenizerFacts:
    """What someone else knows of a tokenizer that its files do not say. special_tokens: the text of each chat
    token -> its id, or the piece that stands for it in a sentencepiece model. stop_tokens: texts of the
    tokens that end what the model writes, eos first."""

    special_tokens: Mapping[str, int | str] = field(default_factory=dict)
    chat_template: str | None = None
    stop_tokens: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tokens:
    """added: by id. renamed: text of a piece -> the token that stands for it. notes: what is odd of them."""

    added: Mapping[int, AddedToken]
    renamed: Mapping[str, str]
    notes: tuple[str, ...] = ()


def settle_tokens(
    model: SentencepieceModel, description: TokenizerDescription, facts: TokenizerFacts, rows: int | None
) -> Tokens:
    """What the files say of a token comes before what the family's models have. A special token without an id
    gets the next one, as transformers gives it. rows: of the embedding, None if that is not known."""
    known = known_ids(model, facts)
    beyond = [token for token in description.added if rows is not None and token.id >= rows]
    moved = [token for token in beyond if known.get(token.text, token.id) < (rows or 0)]
    own = {token.id: token for token in description.added if token not in moved}
    texts = {token.text for token in own.values()}
    added = {id: _special(id, text) for text, id in known.items() if id not in own and text not in texts}
    added |= own
    ids = {**model.ids, **{token.text: id for id, token in added.items()}}
    free = max(len(model.pieces), *(one + 1 for one in ids.values()))
    for text in description.special:
        id = ids.setdefault(text, free)
        free = max(free, id + 1)
        token = added.get(id, _special(id, text))
        if token.text == text:
            added[id] = replace(token, special=True)
    renamed = {model.pieces[id].text: token.text for id, token in added.items() if id < len(model.pieces)}
    return Tokens(added, renamed, tuple(_odd(moved, added.values(), rows)))


def known_ids(model: SentencepieceModel, facts: TokenizerFacts) -> dict[str, int]:
    """Of the family's tokens those that this model has a piece for, or that are given by an id."""
    known = {}
    for text, target in facts.special_tokens.items():
        id = model.ids.get(target) if isinstance(target, str) else target
        if id is None or model.ids.get(text, id) != id:
            continue
        if id >= len(model.pieces) or model.pieces[id].kind in WHOLE:
            known[text] = id
    return known


def _special(id: int, text: str) -> AddedToken:
    return AddedToken(id, text, special=True, normalized=False)


def _odd(moved: Sequence[AddedToken], added: Iterable[AddedToken], rows: int | None) -> Iterator[str]:
    if moved:
        yield (
            f"the tokenizer gives {', '.join(token.text for token in moved)} ids beyond the {rows} rows of "
            "the embedding; they got those of the pieces that the family has for them"
        )
    beyond = [f"{token.text} ({token.id})" for token in added if rows is not None and token.id >= rows]
    if beyond:
        yield (
            f"the embedding has {rows} rows, and none for {', '.join(beyond)}: a text with one of these "
            "cannot be run until the embedding is resized"
        )

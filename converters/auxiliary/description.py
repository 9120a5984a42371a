"""What the files of a tokenizer say together, whichever version of transformers saved them.

Facts: transformers 4.37 to 5.24 `PreTrainedTokenizerBase._from_pretrained`: special_tokens_map.json and
added_tokens.json count where tokenizer_config.json has no added_tokens_decoder; chat_template.jinja comes
before the config's chat_template, which is a text or a list of named ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from converters import values
from converters.auxiliary import files as beside
from converters.auxiliary.files import TokenizerFiles
from converters.containers.files import AGAIN
from converters.errors import IntegrityError
from converters.tokenizer.tokenizer_json import AddedToken

DECODER = "added_tokens_decoder"
EXTRA = ("additional_special_tokens", "extra_special_tokens")
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FLAGS = ("add_bos_token", "add_eos_token")
_SIDES = ("single_word", "lstrip", "rstrip")


@dataclass(frozen=True)
class TokenizerDescription:
    """settings: tokenizer_config.json without tokens and templates. roles: bos_token and the like -> text,
    None for a role that is said to be empty. extra: further special tokens. added: with ids of their own.
    templates: by name."""

    settings: Mapping[str, Any]
    roles: Mapping[str, str | None]
    extra: tuple[str, ...]
    added: tuple[AddedToken, ...]
    templates: Mapping[str, str]

    @property
    def special(self) -> tuple[str, ...]:
        """Texts of all special tokens, in the order in which transformers numbers new ones."""
        return tuple(dict.fromkeys([*(text for text in self.roles.values() if text), *self.extra]))


def describe(files: TokenizerFiles) -> TokenizerDescription:
    """Raises IntegrityError for a file that is damaged or of another form."""
    config = files.json(beside.SETTINGS)
    special = files.json(beside.SPECIAL) if DECODER not in config else {}
    merged = config | special
    roles: dict[str, str | None] = {}
    extra: dict[str, tuple[str, ...]] = {}
    for name, stated in ((beside.SETTINGS, config), (beside.SPECIAL, special)):
        with _making_sense(files, name):
            roles |= {role: values.of(role, stated[role], _text_or_none) for role in ROLES if role in stated}
            extra |= {key: values.of(key, stated[key], _texts) for key in EXTRA if key in stated}
    texts = tuple(dict.fromkeys(text for key in EXTRA for text in extra.get(key, ())))
    with _making_sense(files, beside.SETTINGS):
        decoder = values.of(DECODER, config.get(DECODER, {}), _decoder)
        templates = values.of("chat_template", merged.get("chat_template"), partial(_templates, files))
        for key in _FLAGS:
            values.of(key, config.get(key) or False, values.flag)
    named = {key for key in EXTRA if isinstance(merged.get(key), dict)}  # by a name of the model's own
    away = {DECODER, "chat_template", *ROLES, *EXTRA} - named
    return TokenizerDescription(
        {key: value for key, value in merged.items() if key not in away},
        roles,
        texts,
        _added(files, decoder, {*texts, *roles.values()}),
        templates,
    )


def _added(
    files: TokenizerFiles, decoder: Mapping[int, AddedToken], special: set[str | None]
) -> tuple[AddedToken, ...]:
    """By id; added_tokens.json counts where there is no decoder."""
    added = dict(decoder)
    for text, id in {} if decoder else files.json(beside.ADDED).items():
        with _making_sense(files, beside.ADDED):
            added[id] = AddedToken(values.of(text, id, values.token_id), text, text in special, False)
    return tuple(added[id] for id in sorted(added))


@dataclass(frozen=True)
class FastTokenizerFile:
    """What a tokenizer.json says. pieces: of its model, text -> id. added: tokens, as they are in it."""

    document: Mapping[str, Any]
    pieces: Mapping[str, int]
    added: tuple[AddedToken, ...]

    @property
    def ids(self) -> dict[str, int]:
        """Text -> id of everything in it."""
        return {**self.pieces, **{token.text: token.id for token in self.added}}


def fast_tokenizer_in(files: TokenizerFiles) -> FastTokenizerFile:
    """Raises IntegrityError if it is no tokenizer."""
    document = files.json(beside.FAST)
    with _making_sense(files, beside.FAST, "it is not a tokenizer"):
        model = values.of("model", document.get("model"), values.fields)
        pieces = values.of("vocab", model.get("vocab"), _pieces)
        tokens = values.of("added_tokens", document.get("added_tokens") or [], values.items)
        added = tuple(values.of("a token", one, _fast_token) for one in tokens)
        return FastTokenizerFile(document, pieces, added)


@contextmanager
def _making_sense(
    files: TokenizerFiles, name: str, else_: str = "its tokens make no sense"
) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise IntegrityError(f"{else_}: {error}", files.path(name), AGAIN) from None


def _pieces(vocab: object) -> Mapping[str, int]:
    """Text -> id; a model of unigrams lists them with their scores, in order."""
    if isinstance(vocab, list):
        return {_first(piece): id for id, piece in enumerate(vocab)}
    known = values.fields(vocab)
    if set(map(type, known.values())) - {int}:
        raise ValueError("the id of a piece in it is not a whole number")
    return {piece: values.token_id(id) for piece, id in known.items()}


def _first(piece: object) -> str:
    if not isinstance(piece, list) or not piece:
        raise ValueError("a piece in it is not a text with a score")
    return values.text(piece[0])


def _fast_token(value: object) -> AddedToken:
    token = values.fields(value)
    named = ("special", "normalized", *_SIDES)
    sides = {side: values.of(side, token.get(side), values.flag) for side in named}
    id = values.of("id", token.get("id"), values.token_id)
    return AddedToken(id, values.of("content", token.get("content"), values.text), **sides)


def _texts(tokens: object) -> tuple[str, ...]:
    """Of a list of tokens; a dict names them for the model's own code."""
    if tokens is None or isinstance(tokens, dict):
        return ()
    return tuple(map(_text, values.items(tokens)))


def _text(token: object) -> str:
    return values.text(token.get("content") if isinstance(token, dict) else token)


def _text_or_none(token: object) -> str | None:
    return None if token is None else _text(token)


def _decoder(value: object) -> dict[int, AddedToken]:
    return {
        (at := _spelt_id(id)): _decoded(at, values.of(id, token, values.fields))
        for id, token in values.fields(value).items()
    }


def _spelt_id(id: str) -> int:
    if not (id.isascii() and id.isdecimal() and len(id) <= len(str(values.MAX_ID))):
        raise ValueError(f"{values.shown(id)} is not the id of a token")
    return values.token_id(int(id))


def _decoded(id: int, token: dict[str, Any]) -> AddedToken:
    """Looked for in the text as given, as the classes that read a sentencepiece model do."""
    sides = {side: values.of(side, token.get(side) or False, values.flag) for side in ("special", *_SIDES)}
    text = values.of("content", token.get("content"), values.text)
    return AddedToken(id, text, normalized=False, **sides)


def _templates(files: TokenizerFiles, stated: object) -> dict[str, str]:
    if beside.TEMPLATE in files.content:
        return {beside.DEFAULT: files.text(beside.TEMPLATE)}
    if isinstance(stated, list):
        return dict(map(_named, stated))
    return {} if stated is None else {beside.DEFAULT: values.text(stated)}


def _named(template: object) -> tuple[str, str]:
    fields = values.fields(template)
    return (
        values.of("name", fields.get("name"), values.text),
        values.of("template", fields.get("template"), values.text),
    )

"""What the files of a tokenizer say together, whichever version of transformers saved them.

Facts: transformers 4.37 to 5.24 `PreTrainedTokenizerBase._from_pretrained`: special_tokens_map.json and
added_tokens.json count where tokenizer_config.json has no added_tokens_decoder; chat_template.jinja comes
before the config's chat_template, which is a text or a list of named ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from converters.beside import files as beside
from converters.beside.files import TokenizerFiles
from converters.errors import IntegrityError
from converters.tokenizer.tokenizer_json import AddedToken

DECODER = "added_tokens_decoder"
EXTRA = ("additional_special_tokens", "extra_special_tokens")
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class Described:
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


def describe(files: TokenizerFiles) -> Described:
    """Raises IntegrityError for a file that is damaged or of another form."""
    try:
        return _describe(files)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(
            f"its tokens make no sense: {type(error).__name__}: {error}", files.path(beside.SETTINGS)
        ) from None


def _describe(files: TokenizerFiles) -> Described:
    config = files.json(beside.SETTINGS)
    if DECODER not in config:
        config |= files.json(beside.SPECIAL)
    extra = tuple(_text(token) for key in EXTRA for token in _listed(config.get(key)))
    roles = {role: _text_or_none(config[role]) for role in ROLES if role in config}
    special = {*extra, *roles.values()}
    decoder = {int(id): _added(int(id), token) for id, token in config.get(DECODER, {}).items()}
    legacy = files.json(beside.ADDED).items() if not decoder else ()
    added = {**{id: AddedToken(id, text, text in special, False) for text, id in legacy}, **decoder}
    named = {key for key in EXTRA if isinstance(config.get(key), dict)}  # by a name of the model's own
    away = {DECODER, "chat_template", *ROLES, *EXTRA} - named
    return Described(
        {key: value for key, value in config.items() if key not in away},
        roles,
        tuple(dict.fromkeys(extra)),
        tuple(added[id] for id in sorted(added)),
        _templates(files, config.get("chat_template")),
    )


def fast_ids(files: TokenizerFiles) -> dict[str, int]:
    """Text -> id of everything in tokenizer.json. Raises IntegrityError if it is no tokenizer."""
    document = files.json(beside.FAST)
    try:
        added = {token["content"]: token["id"] for token in document.get("added_tokens", ())}
        return {**piece_ids(document), **added}
    except (AttributeError, KeyError, TypeError) as error:
        raise not_a_tokenizer(files, error) from None


def piece_ids(document: Mapping[str, Any]) -> dict[str, int]:
    """Those of the model in a tokenizer.json; one of unigrams lists them in order."""
    vocab = document["model"]["vocab"]
    return {text: id for id, (text, _) in enumerate(vocab)} if isinstance(vocab, list) else dict(vocab)


def not_a_tokenizer(files: TokenizerFiles, error: Exception) -> IntegrityError:
    what = f"it is not a tokenizer: {type(error).__name__}: {error}"
    return IntegrityError(what, files.path(beside.FAST), beside.AGAIN)


def _listed(tokens: object) -> list[Any]:
    return tokens if isinstance(tokens, list) else []


def _text(token: Any) -> str:
    return token if isinstance(token, str) else _text_of(token, "content")


def _text_of(fields: Any, key: str) -> str:
    text = fields[key]
    if not isinstance(text, str):
        raise TypeError(f"{text!r} is no text")
    return text


def _text_or_none(token: Any) -> str | None:
    return None if token is None else _text(token)


def _added(id: int, token: Any) -> AddedToken:
    """Looked for in the text as given, as the classes that read a sentencepiece model do."""
    sides = {side: bool(token.get(side)) for side in ("single_word", "lstrip", "rstrip")}
    return AddedToken(id, _text(token), bool(token.get("special")), normalized=False, **sides)


def _templates(files: TokenizerFiles, stated: Any) -> dict[str, str]:
    if beside.TEMPLATE in files.content:
        return {beside.DEFAULT: files.text(beside.TEMPLATE)}
    if isinstance(stated, list):
        return {_text_of(one, "name"): _text_of(one, "template") for one in stated}
    return {beside.DEFAULT: stated} if isinstance(stated, str) else {}

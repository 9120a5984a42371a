"""The files of a tokenizer as plain AutoTokenizer of transformers 4 and 5 loads them, without anyone's code.

A tokenizer.json that is there stays the tokenizer, and its config loses what names code. A sentencepiece
model alone is rewritten, with everything that the files beside it say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.auxiliary import files as beside
from converters.auxiliary.description import (
    DECODER,
    FastTokenizerFile,
    TokenizerDescription,
    describe,
    fast_tokenizer_in,
)
from converters.auxiliary.files import TokenizerFiles
from converters.auxiliary.tokens import TokenizerFacts, settle_tokens
from converters.errors import IntegrityError
from converters.tokenizer.convert import fast_tokenizer
from converters.tokenizer.tokenizer_json import (
    STOCK_CLASS,
    AddedToken,
    decoder_of,
    dump,
    framed,
    tokenizer_files,
)
from converters.values import shown

# What a config says to the code that came with it, or of the machine that saved it.
_OF_CODE = (
    "auto_map",
    "tokenizer_class",
    "tokenizer_file",
    "vocab_file",
    "special_tokens_map_file",
    "added_tokens_file",
    "name_or_path",
    "sp_model_kwargs",
    "legacy",
    "use_fast",
    "decode_with_prefix_space",
    "add_prefix_space",
    "backend",
    "is_local",
)
_FIELDS = ("unk", "bos", "eos", "pad")
# The families' names for them, where a tokenizer.json lies alone.
_USUAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}


@dataclass(frozen=True)
class Rewritten:
    """files: name -> content. notes: what a person should know."""

    files: Mapping[str, bytes]
    notes: tuple[str, ...] = ()


def for_transformers(files: TokenizerFiles, facts: TokenizerFacts, rows: int | None = None) -> Rewritten:
    """rows: of the embedding, None if that is not known.

    Raises IntegrityError for a damaged file, UnsupportedError for a sentencepiece model that has no exact
    counterpart.
    """
    description = describe(files)
    if beside.FAST in files.content:
        return Rewritten(_completed(files, description, facts))
    if beside.SENTENCEPIECE in files.content:
        return _from_sentencepiece(files, description, facts, rows)
    return Rewritten(files.content)


def _from_sentencepiece(
    files: TokenizerFiles, description: TokenizerDescription, facts: TokenizerFacts, rows: int | None
) -> Rewritten:
    model = files.model()
    tokens = settle_tokens(model, description, facts, rows)
    roles = {role: text and tokens.renamed.get(text, text) for role, text in description.roles.items()}
    tokenizer = fast_tokenizer(
        model,
        list(tokens.added.values()),
        {field: roles[f"{field}_token"] for field in _FIELDS if f"{field}_token" in roles},
        first=description.settings.get("add_bos_token") is not False,
        last=description.settings.get("add_eos_token") is True,
        where=files.path(beside.SENTENCEPIECE),
    )
    settings = {key: value for key, value in description.settings.items() if key not in _OF_CODE}
    settings |= {**roles, "chat_template": _template(description, facts)}
    own = {beside.SENTENCEPIECE: files.content[beside.SENTENCEPIECE]}
    return Rewritten(own | tokenizer_files(tokenizer, settings), tokens.notes)


def _template(description: TokenizerDescription, facts: TokenizerFacts) -> object:
    """A text, or the list of named ones, as both versions of transformers read it."""
    if not description.templates:
        return facts.chat_template
    if description.templates.keys() == {beside.DEFAULT}:
        return description.templates[beside.DEFAULT]
    return [{"name": name, "template": text} for name, text in description.templates.items()]


def _completed(
    files: TokenizerFiles, description: TokenizerDescription, facts: TokenizerFacts
) -> dict[str, bytes]:
    """The same tokenizer, with a config that names its tokens and no code, where that is not so already."""
    fast, config = fast_tokenizer_in(files), files.json(beside.SETTINGS)
    document, tokens = fast.document, _tokens_of(fast, description)
    framed = _framed(fast, description, files.path(beside.FAST)) if _names_code(config) else document
    whole = _spaced(_whole_config(config, description, tokens, facts), document, files)
    changed = {
        name: dump(new, name)
        for name, old, new in ((beside.FAST, document, framed), (beside.SETTINGS, config, whole))
        if new != old
    }
    return {**files.content, **changed}


def _names_code(config: Mapping[str, Any]) -> bool:
    return "auto_map" in config or str(config.get("tokenizer_class")).startswith("InternLM")


def _tokens_of(fast: FastTokenizerFile, description: TokenizerDescription) -> list[AddedToken]:
    """Those that are listed in a config: special ones, and those that are no pieces of the model."""
    found = {token.id: token for token in fast.added if token.special or token.text not in fast.pieces}
    return list({**{token.id: token for token in description.added}, **found}.values())


def _framed(fast: FastTokenizerFile, description: TokenizerDescription, where: str) -> Mapping[str, Any]:
    """With bos and eos as the config says, which the code that it names would have seen to."""
    if not description.settings.keys() & {"add_bos_token", "add_eos_token"}:
        return fast.document
    bos, eos = (description.roles.get(role, _USUAL[role]) for role in ("bos_token", "eos_token"))
    first = bos if description.settings.get("add_bos_token") is not False else None
    last = eos if description.settings.get("add_eos_token") is True else None
    for token in (first, last):
        if token and token not in fast.ids:
            raise IntegrityError(f"it is not a tokenizer of this config: it has no {shown(token)}", where)
    frame = framed(*((token, fast.ids[token]) if token else None for token in (first, last)))
    return {**fast.document, "post_processor": frame}


def _spaced(config: dict[str, Any], document: Mapping[str, Any], files: TokenizerFiles) -> dict[str, Any]:
    """Whether a space goes first is for programs that read tokenizer.model; here it changes nothing, if there
    is no pre-tokenizer that it could be for."""
    stock = config.get("tokenizer_class") == STOCK_CLASS and document.get("pre_tokenizer") is None
    if not stock or "add_prefix_space" in config or beside.SENTENCEPIECE not in files.content:
        return config
    return {**config, "add_prefix_space": files.model().add_dummy_prefix}


def _whole_config(
    config: Mapping[str, Any],
    description: TokenizerDescription,
    tokens: Sequence[AddedToken],
    facts: TokenizerFacts,
) -> dict[str, Any]:
    whole = dict(config)
    if not config or _names_code(config):
        whole = {key: value for key, value in config.items() if key not in _OF_CODE}
        texts = {token.text for token in tokens}
        usual = {role: text for role, text in _USUAL.items() if text in texts}
        whole = {"tokenizer_class": STOCK_CLASS, **usual, **whole}
        if facts.chat_template and not description.templates:
            whole["chat_template"] = facts.chat_template
    if whole.get("tokenizer_class") == "TokenizersBackend":  # of transformers 5 alone
        whole["tokenizer_class"] = STOCK_CLASS
    if isinstance(whole.get("extra_special_tokens"), list):  # likewise
        whole["additional_special_tokens"] = whole.pop("extra_special_tokens")
    if DECODER not in whole:  # special_tokens_map.json does not count beside one
        extra = {"additional_special_tokens": list(description.extra)} if description.extra else {}
        whole |= {**description.roles, **extra, DECODER: decoder_of(tokens)}
    return whole

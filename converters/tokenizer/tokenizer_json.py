"""The files that plain AutoTokenizer loads: tokenizer.json and tokenizer_config.json.

Facts: the serialized form of huggingface/tokenizers 0.23 (BPE with byte fallback, added tokens, template
post-processor) and what transformers 5 reads of tokenizer_config.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from converters.tokenizer.merges import Pair
from converters.tokenizer.text import check_text

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"


@dataclass(frozen=True)
class AddedToken:
    """Text that becomes one id wherever it stands.

    special: left out by decode(skip_special_tokens=True). normalized: looked for in the normalized text,
    not in the text as given.
    """

    id: int
    text: str
    special: bool
    normalized: bool


@dataclass(frozen=True)
class Roles:
    """The texts of the tokens that transformers knows by role."""

    unk: str
    bos: str
    eos: str
    pad: str


@dataclass(frozen=True)
class FastTokenizer:
    """A byte-fallback BPE that puts bos before every text.

    replaced: text -> stand-in, applied in this order before text is cut. undone: likewise when ids become
    text.
    """

    vocab: Mapping[str, int]
    merges: Sequence[Pair]
    added: Sequence[AddedToken]
    roles: Roles
    replaced: Sequence[Pair] = ()
    undone: Sequence[Pair] = ()


def tokenizer_files(
    tokenizer: FastTokenizer, chat_template: str | None, model_max_length: int | None
) -> dict[str, bytes]:
    """Name -> content of the files. Raises UsageError for a token or template that is not valid Unicode."""
    documents = {
        TOKENIZER_FILE: tokenizer_document(tokenizer),
        CONFIG_FILE: config_document(tokenizer, chat_template, model_max_length),
    }
    return {name: _dump(document, name) for name, document in documents.items()}


def _dump(document: dict[str, object], name: str) -> bytes:
    text = json.dumps(document, ensure_ascii=False)
    check_text(text, name)
    return text.encode() + b"\n"


def tokenizer_document(tokenizer: FastTokenizer) -> dict[str, object]:
    """What tokenizer.json says."""
    bos = tokenizer.roles.bos
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(token) for token in sorted(tokenizer.added, key=lambda token: token.id)],
        "normalizer": _sequence("normalizers", [_replace(*pair) for pair in tokenizer.replaced]),
        "pre_tokenizer": None,
        "post_processor": _bos_first(bos, tokenizer.vocab[bos]),
        "decoder": _sequence(
            "decoders",
            [*(_replace(*pair) for pair in tokenizer.undone), {"type": "ByteFallback"}, {"type": "Fuse"}],
        ),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": tokenizer.roles.unk,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": dict(tokenizer.vocab),
            "merges": tokenizer.merges,
        },
    }


def config_document(
    tokenizer: FastTokenizer, chat_template: str | None, model_max_length: int | None
) -> dict[str, object]:
    """What tokenizer_config.json says; model_max_length is in tokens."""
    roles = tokenizer.roles
    named = set(vars(roles).values())
    optional = {"chat_template": chat_template, "model_max_length": model_max_length}
    return {
        "add_bos_token": True,
        "add_eos_token": False,
        "additional_special_tokens": [t.text for t in tokenizer.added if t.special and t.text not in named],
        "bos_token": roles.bos,
        "clean_up_tokenization_spaces": False,
        "eos_token": roles.eos,
        "pad_token": roles.pad,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": roles.unk,
        **{key: value for key, value in optional.items() if value is not None},
    }


def _added(token: AddedToken) -> dict[str, object]:
    return {
        "id": token.id,
        "content": token.text,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": token.normalized,
        "special": token.special,
    }


def _replace(text: str, stand_in: str) -> dict[str, object]:
    return {"type": "Replace", "pattern": {"String": text}, "content": stand_in}


def _sequence(key: str, members: list[dict[str, object]]) -> dict[str, object] | None:
    return {"type": "Sequence", key: members} if members else None


def _bos_first(bos: str, bos_id: int) -> dict[str, object]:
    """bos, then the text; for a pair of texts, bos before the first alone, as in the released tokenizers."""
    special = {"SpecialToken": {"id": bos, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": kind}} for name, kind in (("A", 0), ("B", 1)))
    return {
        "type": "TemplateProcessing",
        "single": [special, first],
        "pair": [special, first, second],
        "special_tokens": {bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}},
    }

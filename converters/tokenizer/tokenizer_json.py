"""The files that plain AutoTokenizer loads: tokenizer.json and tokenizer_config.json.

Facts: the serialized form of huggingface/tokenizers 0.23 (BPE with byte fallback, added tokens, template
post-processor) and what transformers 5 reads of tokenizer_config.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from converters.errors import UsageError
from converters.tokenizer.merges import Pair

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
# The class that takes a tokenizer.json as it is: its name in transformers 4, which 5 knows too.
STOCK_CLASS = "PreTrainedTokenizerFast"


@dataclass(frozen=True)
class AddedToken:
    """Text that becomes one id wherever it stands.

    special: left out by decode(skip_special_tokens=True). normalized: looked for in the normalized text,
    not in the text as given. single_word: only as a word of its own. lstrip, rstrip: with the blanks beside
    it. listed: in tokenizer_config.json too, where other engines look for tokens.
    """

    id: int
    text: str
    special: bool
    normalized: bool
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    listed: bool = True

    @property
    def fields(self) -> dict[str, object]:
        """As both files spell them."""
        return {
            "content": self.text,
            "single_word": self.single_word,
            "lstrip": self.lstrip,
            "rstrip": self.rstrip,
            "normalized": self.normalized,
            "special": self.special,
        }


@dataclass(frozen=True)
class TokenRoles:
    """The texts of the tokens that transformers knows by role, None for one that is to have none."""

    unk: str | None
    bos: str | None
    eos: str | None
    pad: str | None


@dataclass(frozen=True)
class FastTokenizer:
    """A byte-fallback BPE.

    replaced: text -> stand-in, applied in this order before text is cut. undone: likewise when ids become
    text. prefix: put before every text between added tokens, and one space taken off when ids become text.
    first, last: whether bos is put before every text and eos behind it.
    """

    vocab: Mapping[str, int]
    merges: Sequence[Pair]
    added: Sequence[AddedToken]
    roles: TokenRoles
    replaced: Sequence[Pair] = ()
    undone: Sequence[Pair] = ()
    prefix: str = ""
    first: bool = True
    last: bool = False


def tokenizer_files(tokenizer: FastTokenizer, settings: Mapping[str, object]) -> dict[str, bytes]:
    """Name -> content of the files. settings: what else tokenizer_config.json is to say, None for nothing.

    Raises UsageError for a token or template that is not valid Unicode.
    """
    documents = {
        TOKENIZER_FILE: tokenizer_document(tokenizer),
        CONFIG_FILE: config_document(tokenizer, settings),
    }
    return {name: dump(document, name) for name, document in documents.items()}


def dump(document: Mapping[str, object], name: str) -> bytes:
    """As a file. Raises UsageError for what is not valid Unicode."""
    text = json.dumps(document, ensure_ascii=False)
    check_text(text, name)
    return text.encode() + b"\n"


def check_text(text: str, where: str | None = None) -> None:
    """What a tokenizer takes for text is any string that has a UTF-8 form, which lone surrogates have not.
    Raises UsageError naming the first one, if there is one.

    Such halves of a character come from `errors="surrogateescape"`, cut UTF-16 or JSON escapes; tokenizers
    have no ids for them.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"character {error.start} of the text is U+{ord(text[error.start]):04X}, a lone surrogate, "
            "which is half a character and no text",
            where,
            "decode the text from its bytes again, or replace what does not decode",
        ) from None


def tokenizer_document(tokenizer: FastTokenizer) -> dict[str, object]:
    """What tokenizer.json says."""
    added = sorted(tokenizer.added, key=lambda token: token.id)
    prefix: list[dict[str, object]] = []
    strip: list[dict[str, object]] = []
    if tokenizer.prefix:
        prefix = [{"type": "Prepend", "prepend": tokenizer.prefix}]
        strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    undone = (_replace(*pair) for pair in tokenizer.undone)
    bos, eos = tokenizer.roles.bos, tokenizer.roles.eos
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token.id, **token.fields} for token in added],
        "normalizer": _sequence("normalizers", [*prefix, *(_replace(*pair) for pair in tokenizer.replaced)]),
        "pre_tokenizer": None,
        "post_processor": framed(
            (bos, tokenizer.vocab[bos]) if tokenizer.first and bos else None,
            (eos, tokenizer.vocab[eos]) if tokenizer.last and eos else None,
        ),
        "decoder": _sequence("decoders", [*undone, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]),
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
            "merges": _spelt(tokenizer.merges),
        },
    }


def _spelt(merges: Sequence[Pair]) -> Sequence[str | Pair]:
    """As lines, which every version reads; as pairs, which tokenizers >= 0.20 reads, if a line cannot say
    one: it is cut at spaces, and one that begins like a comment is left out."""
    if any(" " in left + right or left.startswith("#version") for left, right in merges):
        return merges
    return [f"{left} {right}" for left, right in merges]


def config_document(tokenizer: FastTokenizer, settings: Mapping[str, object]) -> dict[str, object]:
    """What tokenizer_config.json says."""
    roles = tokenizer.roles
    named = set(vars(roles).values())
    own = {
        "add_bos_token": tokenizer.first,
        "add_eos_token": tokenizer.last,
        "add_prefix_space": bool(tokenizer.prefix),
        "added_tokens_decoder": decoder_of(tokenizer.added),
        "additional_special_tokens": [t.text for t in tokenizer.added if t.special and t.text not in named],
        "bos_token": roles.bos,
        "clean_up_tokenization_spaces": False,
        "eos_token": roles.eos,
        "pad_token": roles.pad,
        "tokenizer_class": STOCK_CLASS,
        "unk_token": roles.unk,
    }
    return {**own, **{key: value for key, value in settings.items() if value is not None}}


def decoder_of(added: Iterable[AddedToken]) -> dict[str, object]:
    """The `added_tokens_decoder` of tokenizer_config.json: what other engines know of tokens."""
    return {str(t.id): t.fields for t in sorted(added, key=lambda token: token.id) if t.listed}


def _replace(text: str, stand_in: str) -> dict[str, object]:
    return {"type": "Replace", "pattern": {"String": text}, "content": stand_in}


def _sequence(key: str, members: list[dict[str, object]]) -> dict[str, object] | None:
    return {"type": "Sequence", key: members} if members else None


def framed(bos: tuple[str, int] | None, eos: tuple[str, int] | None) -> dict[str, object] | None:
    """Text and id of bos before the text and of eos behind it; for a pair of texts, bos before the first
    alone and eos behind the second, as in the released tokenizers."""
    texts = ([token[0]] if token else [] for token in (bos, eos))
    before, behind = ([{"SpecialToken": {"id": text, "type_id": 0}} for text in one] for one in texts)
    if not before and not behind:
        return None
    first, second = ({"Sequence": {"id": name, "type_id": kind}} for name, kind in (("A", 0), ("B", 1)))
    return {
        "type": "TemplateProcessing",
        "single": [*before, first, *behind],
        "pair": [*before, first, second, *behind],
        "special_tokens": {
            text: {"id": text, "ids": [id], "tokens": [text]} for text, id in filter(None, (bos, eos))
        },
    }

"""A tokenizer by rule for miniatures: every byte is a token, special tokens keep their real ids.

Laid out as the families' sentencepiece models are (`<unk>` 0, `<s>` 1, `</s>` 2, then 256 byte pieces), with
fillers wherever nothing else stands, so that a miniature keeps its model's vocabulary size.
"""

from __future__ import annotations

from collections.abc import Mapping

from converters.errors import UsageError
from converters.tokenizer.tokenizer_json import AddedToken, FastTokenizer, TokenRoles, tokenizer_files

CONTROLS = ("<unk>", "<s>", "</s>")
FIXED = (*CONTROLS, *(f"<0x{byte:02X}>" for byte in range(256)))


def synthetic_tokenizer(
    vocab_size: int,
    special_tokens: Mapping[str, int],
    *,
    chat_template: str | None = None,
    model_max_length: int | None = None,
) -> dict[str, bytes]:
    """File name -> content of the files that plain AutoTokenizer loads, for `vocab_size` ids.

    special_tokens: text -> id. Any text without lone surrogates survives encode and decode. model_max_length:
    in tokens.
    Raises UsageError if a special token's id is outside the vocabulary or taken.
    """
    texts = dict(enumerate(FIXED))
    for text, id in special_tokens.items():
        elsewhere = text in FIXED and FIXED.index(text) != id
        if elsewhere or not 0 <= id < vocab_size or texts.setdefault(id, text) != text:
            raise UsageError(f"{text} cannot have the id {id} in a synthetic vocabulary of {vocab_size}")
    if vocab_size < len(FIXED):
        what = f"a synthetic vocabulary of {vocab_size} has no room for its {len(FIXED)} fixed pieces"
        raise UsageError(what)
    unk, bos, eos = CONTROLS
    specials = dict(zip(CONTROLS, range(len(CONTROLS)), strict=True)) | dict(special_tokens)
    tokenizer = FastTokenizer(
        vocab={texts.get(id, f"<filler_{id}>"): id for id in range(vocab_size)},
        merges=(),
        added=[AddedToken(id, text, special=True, normalized=False) for text, id in specials.items()],
        roles=TokenRoles(unk=unk, bos=bos, eos=eos, pad=eos),
    )
    return tokenizer_files(tokenizer, {"chat_template": chat_template, "model_max_length": model_max_length})

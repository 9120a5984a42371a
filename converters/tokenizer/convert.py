"""sentencepiece `tokenizer.model` -> tokenizer.json and tokenizer_config.json, id for id.

The result gives, for every text, bos and then the ids of the sentencepiece model, with the texts of control
and chat tokens cut out as their single ids first, as the released tokenizers do. What cannot be carried over
exactly is refused. Facts: sentencepiece/src/{bpe_model,normalizer,model_interface}.cc, and InternLM's
tokenization_internlm2.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from converters.errors import UnsupportedError, UsageError
from converters.tokenizer import model_proto
from converters.tokenizer.merges import ranked_merges
from converters.tokenizer.model_proto import SentencepieceModel, read_model
from converters.tokenizer.tokenizer_json import AddedToken, FastTokenizer, Roles, write_tokenizer

SPACE = "▁"

# sentencepiece since 0.2.1 leaves a NUL piece unused and cuts NUL as a byte; either id still reads as NUL.
NUL, NUL_BYTE = "\0", "<0x00>"
WHOLE = (model_proto.UNKNOWN, model_proto.CONTROL, model_proto.USER_DEFINED)


def convert_tokenizer(
    model_path: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    special_tokens: Mapping[str, int | str],
    chat_template: str | None,
) -> list[Path]:
    """Write the tokenizer files for `model_path` into `out_dir` and return their paths.

    special_tokens: the text of each chat token -> its id, or the piece that stands for it in the model
    (internlm2 calls `<|im_start|>` `[UNUSED_TOKEN_146]` there). An id beyond the model's pieces is added.
    Raises IntegrityError if the file is no sentencepiece model, UnsupportedError naming the setting that has
    no exact counterpart, UsageError for a special token that the model has no whole piece for.
    """
    model = read_model(model_path)
    _check_exact(model, os.fspath(model_path))
    names = _names(model, special_tokens, os.fspath(model_path))
    return write_tokenizer(out_dir, _tokenizer(model, names), chat_template)


def _check_exact(model: SentencepieceModel, where: str) -> None:
    kinds = {piece.kind for piece in model.pieces}
    exact = {
        "trainer_spec.model_type": model.model_type == model_proto.BPE,
        "trainer_spec.byte_fallback": model.byte_fallback,
        "trainer_spec.treat_whitespace_as_suffix": not model.whitespace_as_suffix,
        "normalizer_spec.precompiled_charsmap": not model.charsmap,
        "denormalizer_spec.precompiled_charsmap": not model.denormalizer_charsmap,
        "normalizer_spec.add_dummy_prefix": not model.add_dummy_prefix,
        "normalizer_spec.remove_extra_whitespaces": not model.remove_extra_whitespaces,
        "normalizer_spec.escape_whitespaces": model.escape_whitespaces,
        "pieces of type UNUSED": model_proto.UNUSED not in kinds,
    }
    for field, fine in exact.items():
        if not fine:
            raise UnsupportedError(
                f"{field} of this sentencepiece model is set as in none of the families, "
                "and a tokenizer.json could not reproduce it exactly",
                where,
            )


def _names(model: SentencepieceModel, special_tokens: Mapping[str, int | str], where: str) -> dict[int, str]:
    """Id -> text for every special token."""
    ids = {piece.text: id for id, piece in enumerate(model.pieces)}
    names: dict[int, str] = {}
    for text, target in special_tokens.items():
        id = ids.get(target, -1) if isinstance(target, str) else target
        known = model.pieces[id] if 0 <= id < len(model.pieces) else None
        if id < 0 or (known and known.kind not in WHOLE) or names.setdefault(id, text) != text:
            raise UsageError(
                f"{text} cannot stand for {target!r}, which is no whole piece of this model", where
            )
        if ids.get(text, id) != id:
            raise UsageError(f"{text} is given as {target!r}, but is piece {ids[text]} of this model", where)
    return names


def _tokenizer(model: SentencepieceModel, names: Mapping[int, str]) -> FastTokenizer:
    texts = {id: piece.text for id, piece in enumerate(model.pieces)} | dict(names)
    vocab = {text: id for id, text in texts.items()}
    if NUL in vocab:
        vocab[NUL], vocab[NUL_BYTE] = vocab[NUL_BYTE], vocab[NUL]
    renamed = [(piece.text, texts[id]) for id, piece in enumerate(model.pieces) if piece.text != texts[id]]
    scores = {piece.text: piece.score for piece in model.pieces if piece.kind == model_proto.NORMAL}
    eos = texts[model.eos_id]
    return FastTokenizer(
        vocab=vocab,
        merges=ranked_merges(scores),
        added=_added(model, names),
        roles=Roles(unk=texts[model.unk_id], bos=texts[model.bos_id], eos=eos, pad=eos),
        replaced=((" ", SPACE), *renamed),
        undone=((SPACE, " "),),
    )


def _added(model: SentencepieceModel, names: Mapping[int, str]) -> list[AddedToken]:
    """Control pieces are cut out of the text as given, user-defined ones of the escaped text."""
    kinds = {id: piece.kind for id, piece in enumerate(model.pieces) if piece.kind in WHOLE}
    kinds |= {id: model_proto.USER_DEFINED for id in names if id not in kinds}
    return [
        AddedToken(
            id,
            names[id] if id in names else model.pieces[id].text,
            special=id in names or kind != model_proto.USER_DEFINED,
            normalized=kind == model_proto.USER_DEFINED,
        )
        for id, kind in kinds.items()
    ]

"""sentencepiece `tokenizer.model` -> tokenizer.json and tokenizer_config.json, id for id.

The result gives, for every text, bos and then the ids of the sentencepiece model, with the texts of control
and chat tokens cut out as their single ids first, as the released tokenizers do. What cannot be carried over
exactly is refused. Facts: sentencepiece/src/{bpe_model,normalizer,model_interface}.cc, and InternLM's
tokenization_internlm2.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from converters.errors import UnsupportedError
from converters.tokenizer import model_proto
from converters.tokenizer.merges import ranked_merges
from converters.tokenizer.model_proto import SentencepieceModel
from converters.tokenizer.tokenizer_json import AddedToken, FastTokenizer, TokenRoles

SPACE = "▁"
BYTES = {f"<0x{byte:02X}>" for byte in range(256)}

# sentencepiece since 0.2.1 leaves a NUL piece unused and cuts NUL as a byte; either id still reads as NUL.
NUL, NUL_BYTE = "\0", "<0x00>"
# What the families reserve for later.
PLACEHOLDER = re.compile(r"\[UNUSED_TOKEN_\d+\]|<TOKENS_UNUSED_\d+>")
WHOLE = (model_proto.UNKNOWN, model_proto.CONTROL, model_proto.USER_DEFINED)

NO_ROLES: Mapping[str, str | None] = MappingProxyType({})


def fast_tokenizer(
    model: SentencepieceModel,
    tokens: Sequence[AddedToken],
    roles: Mapping[str, str | None] = NO_ROLES,
    *,
    first: bool = True,
    last: bool = False,
    where: str | None = None,
) -> FastTokenizer:
    """The tokenizer that cuts text as the model does. tokens: what is a token besides the model's own control
    and user-defined pieces, instead of the piece of its id. roles: fields of TokenRoles that are not as the
    model has them: bos, eos and unk its own, pad its eos. first, last: whether bos goes before a text and eos
    behind it.

    Raises UnsupportedError for a model, or a token, that has no exact counterpart.
    """
    names = {token.id: token.text for token in tokens}
    _check_exact(model, where)
    _check_prefix(model, names, where)
    _check_tokens(model, tokens, where)
    texts = {id: piece.text for id, piece in enumerate(model.pieces)}
    shown = {text: names.get(id, text) for id, text in texts.items()}
    vocab = {text: id for id, text in (texts | names).items()}
    if NUL in vocab:
        vocab[NUL], vocab[NUL_BYTE] = vocab[NUL_BYTE], vocab[NUL]
    return FastTokenizer(
        vocab=vocab,
        merges=ranked_merges({piece.text: piece.score for piece in _of(model, model_proto.NORMAL)}),
        added=[*(_placed(model, token) for token in tokens), *_whole_pieces(model, names)],
        roles=replace(_roles(model, shown), **roles),
        replaced=((" ", SPACE), *((old, new) for old, new in shown.items() if old != new)),
        undone=((SPACE, " "),),
        prefix=SPACE if model.add_dummy_prefix else "",
        first=first,
        last=last,
    )


def _roles(model: SentencepieceModel, shown: Mapping[str, str]) -> TokenRoles:
    (unk,) = (shown[piece.text] for piece in _of(model, model_proto.UNKNOWN))
    eos = shown[model.eos_piece]
    return TokenRoles(unk=unk, bos=shown[model.bos_piece], eos=eos, pad=eos)


def _check_exact(model: SentencepieceModel, where: str | None) -> None:
    """What the rest relies on: settings as all families have them, so that text is cut by pieces alone."""
    kinds = [piece.kind for piece in model.pieces]
    exact = {
        "trainer_spec.model_type": model.model_type == model_proto.BPE,
        "trainer_spec.byte_fallback": model.byte_fallback,
        "trainer_spec.treat_whitespace_as_suffix": not model.whitespace_as_suffix,
        "trainer_spec.bos_piece": _kind(model, model.bos_piece) == model_proto.CONTROL,
        "trainer_spec.eos_piece": _kind(model, model.eos_piece) == model_proto.CONTROL,
        "normalizer_spec.precompiled_charsmap": not model.charsmap,
        "denormalizer_spec.precompiled_charsmap": not model.denormalizer_charsmap,
        "normalizer_spec.remove_extra_whitespaces": not model.remove_extra_whitespaces,
        "normalizer_spec.escape_whitespaces": model.escape_whitespaces,
        "pieces of type UNKNOWN": kinds.count(model_proto.UNKNOWN) == 1,
        "pieces of type UNUSED": model_proto.UNUSED not in kinds,
        "pieces of type BYTE": {p.text for p in _of(model, model_proto.BYTE)} == BYTES,
        "pieces of type USER_DEFINED": not any(" " in p.text for p in _of(model, model_proto.USER_DEFINED)),
        "characters of pieces": _spelled(model),
        "scores of pieces": all(math.isfinite(piece.score) for piece in model.pieces),
    }
    for field, fine in exact.items():
        if not fine:
            raise UnsupportedError(
                f"{field} of this sentencepiece model is set as in none of the families, "
                "and a tokenizer.json could not reproduce it exactly",
                where,
            )


def _of(model: SentencepieceModel, kind: int) -> Iterable[model_proto.VocabularyPiece]:
    return (piece for piece in model.pieces if piece.kind == kind)


def _kind(model: SentencepieceModel, text: str) -> int | None:
    return next((piece.kind for piece in model.pieces if piece.text == text), None)


def _spelled(model: SentencepieceModel) -> bool:
    """Whether every character of a piece is a piece: a merge by ranks starts from pieces only."""
    texts = {piece.text for piece in model.pieces}
    return all(texts.issuperset(piece.text) for piece in _of(model, model_proto.NORMAL))


def _check_prefix(model: SentencepieceModel, names: Mapping[int, str], where: str | None) -> None:
    """sentencepiece puts the prefix before a user-defined piece too, and none behind it; a tokenizer.json
    cannot. Placeholders are written in no text."""
    for id, piece in enumerate(model.pieces):
        whole = piece.kind == model_proto.USER_DEFINED and id not in names
        if model.add_dummy_prefix and whole and not PLACEHOLDER.fullmatch(piece.text):
            raise UnsupportedError(
                f"normalizer_spec.add_dummy_prefix beside the user-defined piece {piece.text!r} has no exact "
                "counterpart in a tokenizer.json",
                where,
            )


def _check_tokens(model: SentencepieceModel, tokens: Sequence[AddedToken], where: str | None) -> None:
    """A token may stand for a whole piece, or be a piece; text that is cut to pieces has one id each."""
    for token in tokens:
        piece = model.pieces[token.id] if token.id < len(model.pieces) else None
        renamed = piece is not None and piece.kind not in WHOLE and piece.text != token.text
        if renamed or model.ids.get(token.text, token.id) != token.id:
            raise UnsupportedError(
                f"the token {token.text!r} has the id {token.id}, and the sentencepiece model knows the text "
                "or the id as another piece",
                where,
            )


def _placed(model: SentencepieceModel, token: AddedToken) -> AddedToken:
    """Looked for in the escaped text where its id stands for a user-defined piece or for none, so that the
    text of the piece is found as well; not where each part of a text gets a prefix of its own."""
    piece = model.pieces[token.id].kind if token.id < len(model.pieces) else model_proto.USER_DEFINED
    plain = not (token.lstrip or token.rstrip or token.single_word or model.add_dummy_prefix)
    return replace(token, normalized=plain and piece == model_proto.USER_DEFINED)


def _whole_pieces(model: SentencepieceModel, names: Mapping[int, str]) -> Iterator[AddedToken]:
    """Control pieces are cut out of the text as given, user-defined ones of the escaped text."""
    for id, piece in enumerate(model.pieces):
        if piece.kind in WHOLE and id not in names:
            control = piece.kind != model_proto.USER_DEFINED
            escaped = not (control or model.add_dummy_prefix)
            yield AddedToken(id, piece.text, special=control, normalized=escaped, listed=control)

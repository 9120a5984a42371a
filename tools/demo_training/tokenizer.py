"""Small sentencepiece tokenizers with the settings and the special pieces of the two families' own.

Facts read from InternEvo's tools/tokenizer_internlm.model and tokenizer_internlm2.model: BPE with byte
fallback and split digits; nothing normalised, prefixed or stripped; `<unk>` 0, `<s>` 1, `</s>` 2;
special pieces last, typed USER_DEFINED with score 0. internlm2's file calls its six chat tokens
`[UNUSED_TOKEN_141]` to `[UNUSED_TOKEN_146]`.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

BOS, EOS = 1, 2

# Special text -> the piece that stores it.
INTERNLM_SPECIALS = {"<eoh>": "<eoh>", "<eoa>": "<eoa>"}
INTERNLM2_SPECIALS = {
    "<|plugin|>": "[UNUSED_TOKEN_141]",
    "<|interpreter|>": "[UNUSED_TOKEN_142]",
    "<|action_end|>": "[UNUSED_TOKEN_143]",
    "<|action_start|>": "[UNUSED_TOKEN_144]",
    "<|im_end|>": "[UNUSED_TOKEN_145]",
    "<|im_start|>": "[UNUSED_TOKEN_146]",
}

USER_DEFINED = 4
PIECES_FIELD = 0x0A  # protobuf tag of ModelProto.pieces: field 1, length-delimited


@dataclass(frozen=True)
class Tokenizer:
    """Encodes plain text with sentencepiece and special tokens by id."""

    processor: sentencepiece.SentencePieceProcessor
    specials: Mapping[str, int]

    @classmethod
    def load(cls, path: Path, specials: Mapping[str, str]) -> Tokenizer:
        processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        return cls(processor, {text: processor.piece_to_id(piece) for text, piece in specials.items()})

    def encode(self, text: str) -> list[int]:
        """bos, then the tokens of `text`; a special token's text becomes its id."""
        ids = [BOS]
        for part in re.split("(" + "|".join(map(re.escape, self.specials)) + ")", text):
            ids += [self.specials[part]] if part in self.specials else self.processor.encode(part)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` without bos, eos and special tokens."""
        hidden = {BOS, EOS, *self.specials.values()}
        return self.processor.decode([i for i in ids if i not in hidden])


def train(texts: Iterable[str], vocab: int, specials: Mapping[str, str]) -> bytes:
    """A tokenizer.model of exactly `vocab` pieces, the special ones last."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab - len(specials),
        character_coverage=0.98,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        max_sentence_length=1 << 20,
        minloglevel=2,
    )
    return append_pieces(model.getvalue(), specials.values())


def append_pieces(model: bytes, pieces: Iterable[str]) -> bytes:
    """Put user-defined pieces behind the last piece of a serialized sentencepiece ModelProto."""
    end = 0
    while model[end] == PIECES_FIELD:
        length, start = varint(model, end + 1)
        end = start + length
    return model[:end] + b"".join(map(user_defined, pieces)) + model[end:]


def user_defined(piece: str) -> bytes:
    """One serialized SentencePiece {piece, score: 0, type: USER_DEFINED}, with its tag and length."""
    name, score = piece.encode(), struct.pack("<f", 0.0)
    message = b"\x0a" + bytes([len(name)]) + name + b"\x15" + score + bytes([0x18, USER_DEFINED])
    return bytes([PIECES_FIELD, len(message)]) + message


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A protobuf varint at `at`, and where it ends."""
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1

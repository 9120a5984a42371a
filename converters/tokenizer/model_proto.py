"""Reads a sentencepiece `.model` file: its pieces and the settings that decide how text is cut.

A `.model` is one protobuf message, ModelProto. The few fields needed are read from the wire format here, so
that neither sentencepiece nor protobuf has to be installed. Facts: sentencepiece_model.proto (field numbers
and defaults) and the protobuf wire format (varint, 64-bit, length-delimited, 32-bit).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from converters.errors import IntegrityError
from converters.formats.bytesource import ByteSource
from converters.formats.folder import Folder
from converters.formats.placeholders import refuse_placeholder

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # of ModelProto.SentencePiece.Type
BPE = 2  # of TrainerSpec.ModelType
MAX_BYTES = 16 << 20
"""Of a file. The largest in use has 4 MB."""
MOST_FIELDS = 1 << 20
"""Of one message: pieces, above all. The largest vocabularies that there are have 256,000."""
AGAIN = "fetch tokenizer.model again"

Field: TypeAlias = "int | bytes"


@dataclass(frozen=True)
class VocabularyPiece:
    """One entry of the vocabulary; its id is its position. kind: NORMAL .. BYTE."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class SentencepieceModel:
    """What a ModelProto says, defaults filled in."""

    pieces: tuple[VocabularyPiece, ...]
    model_type: int
    byte_fallback: bool
    whitespace_as_suffix: bool
    bos_piece: str
    eos_piece: str
    charsmap: bytes
    denormalizer_charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    escape_whitespaces: bool

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """Of the pieces, by their texts."""
        return {piece.text: id for id, piece in enumerate(self.pieces)}


def read_model(file: ByteSource) -> SentencepieceModel:
    """Raises IntegrityError if it is not a sentencepiece model or a damaged one."""
    refuse_placeholder(file)
    if file.size > MAX_BYTES:
        raise IntegrityError("this is larger than any sentencepiece model", file.name)
    try:
        model = _model(file.read(0, file.size))
    except (ValueError, LookupError, struct.error):
        raise IntegrityError("this is not a sentencepiece model", file.name, AGAIN) from None
    if not model.pieces or len(model.ids) < len(model.pieces):
        raise IntegrityError("this sentencepiece model has no pieces, or one twice", file.name, AGAIN)
    return model


def count_pieces(folder: Folder, name: str) -> int:
    """Of the model in a file of a folder. Raises as `read_model`."""
    with closing(folder.open(name)) as file:
        return len(read_model(file).pieces)


def _model(data: bytes) -> SentencepieceModel:
    fields = list(_fields(data))  # numbers as in sentencepiece_model.proto
    trainer = dict(_fields(_last(fields, 2)))
    normalizer = dict(_fields(_last(fields, 3)))
    denormalizer = dict(_fields(_last(fields, 5)))
    return SentencepieceModel(
        pieces=tuple(_piece(value) for number, value in fields if number == 1),
        model_type=_number(trainer.get(3, 1)),
        byte_fallback=bool(trainer.get(35, 0)),
        whitespace_as_suffix=bool(trainer.get(24, 0)),
        bos_piece=_bytes(trainer.get(46, b"<s>")).decode(),
        eos_piece=_bytes(trainer.get(47, b"</s>")).decode(),
        charsmap=_bytes(normalizer.get(2, b"")),
        denormalizer_charsmap=_bytes(denormalizer.get(2, b"")),
        add_dummy_prefix=bool(normalizer.get(3, 1)),
        remove_extra_whitespaces=bool(normalizer.get(4, 1)),
        escape_whitespaces=bool(normalizer.get(5, 1)),
    )


def _piece(data: Field) -> VocabularyPiece:
    fields = dict(_fields(_bytes(data)))
    (score,) = struct.unpack("<f", _bytes(fields.get(2, bytes(4))))
    return VocabularyPiece(_bytes(fields[1]).decode(), score, _number(fields.get(3, NORMAL)))


def _last(fields: list[tuple[int, Field]], wanted: int) -> bytes:
    values = [value for number, value in fields if number == wanted]
    return _bytes(values[-1]) if values else b""


def _number(value: Field) -> int:
    if not isinstance(value, int):
        raise ValueError("bytes where a number should be")
    return value - (1 << 64) if value >> 63 else value  # a varint has negative numbers in 64 bits


def _bytes(value: Field) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number where bytes should be")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, Field]]:
    """Field number and value: an int for a varint, the bytes of any other wire type."""
    at = count = 0
    while at < len(data):
        count += 1
        if count > MOST_FIELDS:
            raise ValueError("more fields than any such message has")
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        else:
            size = {1: 8, 5: 4}.get(kind, -1)
        if size < 0 or at + size > len(data):
            raise ValueError("a field reaches beyond its message")
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise ValueError("a number without end")

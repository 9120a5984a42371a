"""The sentencepiece models that the tests hold conversions against, and small ones made by hand."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import sentencepiece

from converters.auxiliary.files import TokenizerFiles
from converters.auxiliary.rewrite import for_transformers
from converters.auxiliary.tokens import TokenizerFacts

ROOT = Path(__file__).parents[3]
SHARED = ROOT.parent / "shared" / "data"
DEMO = ROOT / "internlm_zoo" / "demo" / "models"

CONTROLS = {"<unk>": 0, "<s>": 1, "</s>": 2}
CHATML = ("<|plugin|>", "<|interpreter|>", "<|action_end|>", "<|action_start|>", "<|im_end|>", "<|im_start|>")
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


@dataclass(frozen=True)
class Released:
    """A `.model` file and the tokens that its family writes in texts, by id."""

    path: Path
    chat: dict[str, int]


MODELS = {
    "internlm": Released(SHARED / "tokenizer_internlm.model", {"<eoh>": 103027, "<eoa>": 103028}),
    "internlm2": Released(
        SHARED / "tokenizer_internlm2.model", {text: 92538 + at for at, text in enumerate(CHATML)}
    ),
    "demo-internlm": Released(
        DEMO / "demo-internlm-base" / "tokenizer.model", {"<eoh>": 1790, "<eoa>": 1791}
    ),
    "demo-internlm2": Released(
        DEMO / "demo-internlm2-chat" / "tokenizer.model", {text: 2042 + at for at, text in enumerate(CHATML)}
    ),
}


def convert_tokenizer(
    model: Path | bytes,
    *,
    special_tokens: Mapping[str, int | str] | None = None,
    chat_template: str | None = None,
    **settings: object,
) -> dict[str, bytes]:
    """The files that a conversion makes of a lone model. settings: of its tokenizer_config.json."""
    where, content = ("", model) if isinstance(model, bytes) else (str(model.parent), model.read_bytes())
    files = {"tokenizer.model": content, "tokenizer_config.json": json.dumps(settings).encode()}
    facts = TokenizerFacts(special_tokens or {}, chat_template)
    return dict(for_transformers(TokenizerFiles(where, files), facts).files)


class Reference:
    """What the tokenizer must give: bos, the ids of sentencepiece, and single ids for tokens in the text."""

    def __init__(self, path: Path, tokens: dict[str, int]) -> None:
        self.sp = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.tokens = {**CONTROLS, **tokens}
        self._split = re.compile("(" + "|".join(map(re.escape, self.tokens)) + ")")
        self.pieces = [
            self.sp.id_to_piece(id)
            for id in range(self.sp.vocab_size())
            if not (self.sp.is_control(id) or self.sp.is_unknown(id) or self.sp.is_byte(id))
        ]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        parts = [self._split.split(text) for text in texts]
        plain = iter(self.sp.encode([part for split in parts for part in split[::2]]))
        return [
            [self.sp.bos_id()]
            + [id for at, part in enumerate(split) for id in (self._token(part) if at % 2 else next(plain))]
            for split in parts
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids without bos, tokens of the family by the text they are written as."""
        names = {id: text for text, id in self.tokens.items()}
        runs = groupby(ids, key=lambda id: id in names)
        return "".join(
            "".join(names[id] for id in run) if named else self.sp.decode(list(run)) for named, run in runs
        )

    def _token(self, text: str) -> list[int]:
        return [self.tokens[text]]


def write_model(
    path: Path,
    scores: Iterable[tuple[str, float]],
    *,
    extra: Iterable[tuple[str, float, int]] = (),
    byte_fallback: bool = True,
    model_type: int = 2,
    bos_piece: str = "<s>",
    normalizer: bytes = b"\x18\x00\x20\x00",
) -> Path:
    """A `.model` by hand: controls, 256 bytes, the scored pieces, then `extra` (text, score, type).

    normalizer: an encoded NormalizerSpec; by default no dummy prefix and no removal of whitespace.
    """
    pieces = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    pieces += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)] if byte_fallback else []
    pieces += [(text, score, NORMAL) for text, score in scores]
    pieces += extra
    trainer = b"\x18" + bytes([model_type]) + b"\x98\x02" + bytes([byte_fallback])
    trainer += b"\xf2\x02" + _sized(bos_piece.encode())
    body = b"".join(b"\x0a" + _sized(_piece(*piece)) for piece in pieces)
    path.write_bytes(body + b"\x12" + _sized(trainer) + b"\x1a" + _sized(normalizer))
    return path


def _piece(text: str, score: float, kind: int) -> bytes:
    return b"\x0a" + _sized(text.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])


def _sized(data: bytes) -> bytes:
    """A length-delimited value below 16 KiB."""
    size = len(data)
    return (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])) + data

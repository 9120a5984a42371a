"""The files of a tokenizer, as plain transformers loads them, as the tokenizer in a GGUF header.

llama.cpp cuts text by the scores of pieces, as sentencepiece does, once control tokens are cut out. Facts:
llama.cpp conversion/base.py and internlm.py (what its converter writes), src/llama-vocab.cpp (`llama` is
sentencepiece's BPE; kinds of tokens are its numbers; a text that holds NUL ends there), gguf-py vocab.py
(templates).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from converters.formats.bytesource import MemoryFile
from converters.tokenizer import model_proto as proto
from converters.tokenizer.model_proto import SentencepieceModel, read_model
from converters.tokenizer.tokenizer_json import CONFIG_FILE, TOKENIZER_FILE

MODEL_FILE = "tokenizer.model"
NO_TOKENIZER: Mapping[str, Any] = {"tokenizer.ggml.model": "no_vocab"}
_NUL, _STAND_IN = "\0", "[NUL]"
# Below that of any piece: such tokens are cut out of the text, and nothing is merged to them.
_LOWEST = -1000.0
_TEMPLATE, _TEMPLATES, _DEFAULT = "tokenizer.chat_template", "tokenizer.chat_templates", "default"


def gguf_tokenizer(files: Mapping[str, bytes], rows: int) -> dict[str, Any]:
    """Key-value pairs; None is left out. files: name -> content. rows: of the embedding, each of which gets
    a text. Without a sentencepiece model there are no scores, and so no tokenizer: a model that is fed with
    ids.

    Raises IntegrityError for a damaged model.
    """
    if MODEL_FILE not in files:
        return dict(NO_TOKENIZER)
    model = read_model(MemoryFile(MODEL_FILE, files[MODEL_FILE]))
    settings = json.loads(files.get(CONFIG_FILE, b"{}"))
    added = json.loads(files.get(TOKENIZER_FILE, b"{}")).get("added_tokens") or ()
    texts, scores, kinds = _pieces(model, rows)
    for token in added:
        id, text = token["id"], token["content"]
        if id < rows and kinds[id] != proto.UNKNOWN and (texts[id], kinds[id]) != (text, proto.CONTROL):
            texts[id], scores[id] = text, _LOWEST
            kinds[id] = proto.CONTROL if token["special"] else proto.USER_DEFINED
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.unknown_token_id": kinds.index(proto.UNKNOWN) if proto.UNKNOWN in kinds else None,
        "tokenizer.ggml.add_bos_token": settings.get("add_bos_token", True),
        "tokenizer.ggml.add_eos_token": settings.get("add_eos_token", False),
        "tokenizer.ggml.add_space_prefix": model.add_dummy_prefix,
        **dict(_templates(settings.get("chat_template"))),
    }


def _pieces(model: SentencepieceModel, rows: int) -> tuple[list[str], list[float], list[int]]:
    """Text, score and kind of every row; rows beyond the pieces are named, and never used."""
    texts = [_STAND_IN if piece.text == _NUL else piece.text for piece in model.pieces]
    scores, kinds = [piece.score for piece in model.pieces], [piece.kind for piece in model.pieces]
    beyond = range(len(texts), rows)
    texts += [f"[PAD{id}]" for id in beyond]
    scores += [_LOWEST for _ in beyond]
    kinds += [proto.UNUSED for _ in beyond]
    return texts[:rows], scores[:rows], kinds[:rows]


def _templates(stated: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(stated, str):
        yield _TEMPLATE, stated
    elif isinstance(stated, list):
        named = {one["name"]: one["template"] for one in stated}
        yield _TEMPLATE, named.pop(_DEFAULT, None)
        yield from ((f"{_TEMPLATE}.{name}", template) for name, template in named.items())
        yield _TEMPLATES, list(named) or None

"""How many tokens the tokenizer of a folder knows, by its files alone."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass

from converters.errors import IntegrityError
from converters.formats.folder import Folder, read_whole
from converters.tokenizer.model_proto import read_model

_FAST, _SENTENCEPIECE = "tokenizer.json", "tokenizer.model"


@dataclass(frozen=True)
class TokenizerFile:
    """size: the highest id it gives, and one."""

    name: str
    size: int


def tokenizer_files(folder: Folder) -> tuple[TokenizerFile, ...]:
    """tokenizer.json and tokenizer.model, where they are there. Raises IntegrityError for a damaged one."""
    found = []
    names = folder.names()
    if _FAST in names:
        found.append(TokenizerFile(_FAST, _fast_size(folder)))
    if _SENTENCEPIECE in names:
        with closing(folder.open(_SENTENCEPIECE)) as file:
            found.append(TokenizerFile(_SENTENCEPIECE, len(read_model(file).pieces)))
    return tuple(found)


def _fast_size(folder: Folder) -> int:
    try:
        content = json.loads(read_whole(folder, _FAST))
        ids = [
            *content["model"]["vocab"].values(),
            *(token["id"] for token in content.get("added_tokens", ())),
        ]
        return int(max(ids)) + 1
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(
            f"it is not a tokenizer: {type(error).__name__}: {error}", folder.where(_FAST), "fetch it again"
        ) from None

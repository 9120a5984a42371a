"""The files of a checkpoint that hold no weights: tokenizer and generation settings, carried both ways.

The original format knows one tokenizer file, tokenizer.model. Hugging Face formats get a tokenizer.json made
from it, because the class that the released tokenizer_config.json files name is code that came with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from converters.checkpoint import Checkpoint
from converters.discover import TOKENIZER_FILES
from converters.errors import NotFoundError
from converters.formats.folder import Folder, LocalFolder, read_whole

SENTENCEPIECE = "tokenizer.model"
FAST = "tokenizer.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_GENERATION = "generation_config.json"


@dataclass(frozen=True)
class TokenizerFacts:
    """What a sentencepiece model does not say of itself.

    special_tokens: the text of each chat token -> its id, or the piece that stands for it."""

    special_tokens: Mapping[str, int | str] = field(default_factory=dict)
    chat_template: str | None = None


def carry(
    source: Checkpoint, target: Path, format: str, tokenizer: Path | None, facts: TokenizerFacts
) -> tuple[str, ...]:
    """Put the tokenizer files into `target`; returns what a person should know.

    tokenizer: a tokenizer.model, or a directory with tokenizer files, instead of the source's own.
    Raises NotFoundError if it holds none, and what converting a sentencepiece model raises.
    """
    folder, names = _files_of(tokenizer) if tokenizer else (source.folder, source.tokenizer_files)
    files = {name: read_whole(folder, name) for name in names}
    if format == "original":
        wanted = {name: files[name] for name in files if name == SENTENCEPIECE} or files
    elif SENTENCEPIECE in files and not _plain(files):
        wanted = {SENTENCEPIECE: files[SENTENCEPIECE], **_made_fast(folder, files, facts)}
    else:
        wanted = files
    if _GENERATION in source.folder.names() and format != "original":
        wanted[_GENERATION] = read_whole(source.folder, _GENERATION)
    for name, content in wanted.items():
        (target / name).write_bytes(content)
    if files:
        return ()
    return ("the source holds no tokenizer, so the result has none: --tokenizer FILE adds one",)


def _files_of(tokenizer: Path) -> tuple[Folder, Sequence[str]]:
    if tokenizer.is_file():
        return LocalFolder(tokenizer.parent), [tokenizer.name]
    found = [name for name in TOKENIZER_FILES if (tokenizer / name).is_file()]
    if not found:
        raise NotFoundError(
            "there is no tokenizer here", tokenizer, f"name a {SENTENCEPIECE} or a directory with one"
        )
    return LocalFolder(tokenizer), found


def _plain(files: Mapping[str, bytes]) -> bool:
    """Whether they already load without anyone's code."""
    return FAST in files and "auto_map" not in _config_of(files)


def _config_of(files: Mapping[str, bytes]) -> Mapping[str, object]:
    config = json.loads(files.get(_TOKENIZER_CONFIG, b"{}"))
    return config if isinstance(config, dict) else {}


def _made_fast(folder: Folder, files: Mapping[str, bytes], facts: TokenizerFacts) -> Mapping[str, bytes]:
    from converters.tokenizer.convert import convert_tokenizer

    template = _config_of(files).get("chat_template")
    with closing(folder.open(SENTENCEPIECE)) as model:
        return convert_tokenizer(
            model,
            special_tokens=facts.special_tokens,
            chat_template=template if isinstance(template, str) else facts.chat_template,
        )

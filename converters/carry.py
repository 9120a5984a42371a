"""The files of a checkpoint that hold no weights: tokenizer and generation settings, carried both ways.

The original format knows one tokenizer file, tokenizer.model. Hugging Face formats get a tokenizer.json made
from it, because the class that the released tokenizer_config.json files name is code that came with them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from converters.checkpoint import Checkpoint
from converters.errors import NotFoundError

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
    files = _files_of(tokenizer) if tokenizer else [source.path / name for name in source.tokenizer_files]
    generation = source.path / _GENERATION
    if generation.is_file() and format != "original":
        shutil.copyfile(generation, target / _GENERATION)
    if not files:
        return ("the source holds no tokenizer, so the result has none: --tokenizer FILE adds one",)
    by_name = {file.name: file for file in files}
    if format == "original":
        wanted = [by_name[SENTENCEPIECE]] if SENTENCEPIECE in by_name else files
    elif SENTENCEPIECE in by_name and not _plain(by_name):
        wanted = [by_name[SENTENCEPIECE]]
        _make_fast(by_name, target, facts)
    else:
        wanted = files
    for file in wanted:
        shutil.copyfile(file, target / file.name)
    return ()


def _files_of(tokenizer: Path) -> list[Path]:
    from converters.discover import TOKENIZER_FILES

    if tokenizer.is_file():
        return [tokenizer]
    found = [tokenizer / name for name in TOKENIZER_FILES if (tokenizer / name).is_file()]
    if not found:
        raise NotFoundError(
            "there is no tokenizer here", tokenizer, f"name a {SENTENCEPIECE} or a directory with one"
        )
    return found


def _plain(files: Mapping[str, Path]) -> bool:
    """Whether they already load without anyone's code."""
    return FAST in files and "auto_map" not in _config_of(files)


def _config_of(files: Mapping[str, Path]) -> Mapping[str, object]:
    if _TOKENIZER_CONFIG not in files:
        return {}
    config = json.loads(files[_TOKENIZER_CONFIG].read_bytes())
    return config if isinstance(config, dict) else {}


def _make_fast(files: Mapping[str, Path], target: Path, facts: TokenizerFacts) -> None:
    from converters.tokenizer.convert import convert_tokenizer

    template = _config_of(files).get("chat_template")
    made = convert_tokenizer(
        files[SENTENCEPIECE],
        special_tokens=facts.special_tokens,
        chat_template=template if isinstance(template, str) else facts.chat_template,
    )
    for name, content in made.items():
        (target / name).write_bytes(content)

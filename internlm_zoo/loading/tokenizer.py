"""The tokenizer of a model directory: its tokenizer.json, or its tokenizer.model turned into one.

Only the class that reads tokenizer.json is used, whatever class or code the directory's own config asks for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from converters.beside.files import FAST, SENTENCEPIECE, files_in
from converters.beside.rewrite import for_transformers
from converters.filesystem import scratch
from converters.formats.folder import LocalFolder
from internlm_zoo.conversion import tokenizer_facts
from internlm_zoo.errors import IntegrityError, UnsupportedError
from internlm_zoo.loading.directory import ModelDirectory
from internlm_zoo.loading.runtime import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def find_tokenizer(directory: ModelDirectory) -> PreTrainedTokenizerFast | None:
    """`read_tokenizer`, but None too for a sentencepiece model that has no exact counterpart: the model runs
    without. Raises IntegrityError for damaged files."""
    try:
        return read_tokenizer(directory)
    except UnsupportedError:
        return None


def read_tokenizer(directory: ModelDirectory) -> PreTrainedTokenizerFast | None:
    """The directory's tokenizer as a conversion would write it, None if it has none; with the model's chat
    template if it lacks its own.

    Raises IntegrityError for damaged files, and what converting a sentencepiece model raises.
    """
    files = files_in(LocalFolder(directory.path))
    if not files.content.keys() & {FAST, SENTENCEPIECE}:
        return None
    facts = tokenizer_facts(directory.chat_template, directory.special_tokens)
    made = for_transformers(files, facts, directory.checkpoint.sizes["vocab"])
    with scratch() as folder:
        for name, content in made.files.items():
            (folder / name).write_bytes(content)
        return _read(folder, directory)


def _read(folder: Path, directory: ModelDirectory) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    try:
        with quiet():
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a damaged file: the tokenizers library raises nothing more specific
        raise IntegrityError(
            f"its tokenizer files cannot be read: {type(error).__name__}: {error}",
            directory.path,
            "fetch them again, or make them anew from tokenizer.model",
        ) from error
    if tokenizer.chat_template is None:
        tokenizer.chat_template = directory.chat_template
    return tokenizer

"""The tokenizer of a model directory: its tokenizer.json, or its tokenizer.model turned into one.

Only the class that reads tokenizer.json is used, whatever class or code the directory's own config asks for.
It runs in a process of its own, within limits (`confined/`); `stock` makes one for Python callers.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from converters.auxiliary.files import FAST, SENTENCEPIECE, SETTINGS, TEMPLATE, TokenizerFiles, files_in
from converters.auxiliary.rewrite import for_transformers
from converters.formats.folder import LocalFolder
from converters.system.filesystem import scratch
from internlm_zoo.checkpoints.tokens import tokenizer_facts
from internlm_zoo.errors import IntegrityError, UnsupportedError
from internlm_zoo.loading.directory import ModelDirectory
from internlm_zoo.loading.runtime import quiet
from internlm_zoo.loading.sandbox.tokenizer import AGAIN, ConfinedTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Letters, digits and signs, words and runs: a tokenizer that grows or hangs is likely to do so at these.
_ANY_TEXT = f"{string.printable} a text of words 中文 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa {string.printable}"


def has_tokenizer(directory: ModelDirectory) -> bool:
    """Whether there are files to read one from."""
    return any(name == FAST or name.endswith(".model") for name in LocalFolder(directory.path).names())


def find_tokenizer(directory: ModelDirectory) -> ConfinedTokenizer | None:
    """`read_tokenizer`, but None too for a sentencepiece model that has no exact counterpart: the model runs
    without. Raises IntegrityError for damaged files."""
    try:
        return read_tokenizer(directory)
    except UnsupportedError:
        return None


def read_tokenizer(directory: ModelDirectory) -> ConfinedTokenizer | None:
    """The directory's tokenizer as a conversion would write it, None if it has none; with the model's chat
    template if it lacks its own.

    Raises IntegrityError for damaged files, and what converting a sentencepiece model raises.
    """
    files = files_in(LocalFolder(directory.path))
    if not files.content.keys() & {FAST, SENTENCEPIECE}:
        return None
    facts = tokenizer_facts(directory.chat_template, directory.special_tokens)
    made = for_transformers(files, facts, directory.checkpoint.sizes["vocab"])
    tokenizer = ConfinedTokenizer(
        made.files, str(directory.path), _template_file(files, directory), directory.chat_template
    )
    tokenizer.open()
    return tokenizer


def stock(tokenizer: ConfinedTokenizer) -> PreTrainedTokenizerFast:
    """The same in this process, without limits: for Python callers, whose it is then. The other process has
    built it before, and has read a text with it. Raises IntegrityError for one that fails at that."""
    from transformers import PreTrainedTokenizerFast

    tokenizer.decode(tokenizer.encode(_ANY_TEXT))
    with scratch() as folder:
        for name, content in tokenizer.files.items():
            (folder / name).write_bytes(content)
        try:
            with quiet():
                made = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # a damaged file: the tokenizers library raises nothing more specific
            what = f"its tokenizer files cannot be read: {type(error).__name__}: {error}"
            raise IntegrityError(what, tokenizer.where, AGAIN) from error
    if made.chat_template is None:
        made.chat_template = tokenizer.fallback
    return made


def _template_file(files: TokenizerFiles, directory: ModelDirectory) -> str:
    """Where a person finds the chat template: a file, or the model of the registry that has one."""
    if TEMPLATE in files.content:
        return files.path(TEMPLATE)
    stated = files.json(SETTINGS).get("chat_template")
    return directory.title if stated is None else files.path(SETTINGS)

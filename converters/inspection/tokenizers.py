"""How many tokens the tokenizer of a folder knows, by its files alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from converters.discover import TOKENIZER_FILES, read_json
from converters.errors import IntegrityError
from converters.formats.folder import Folder
from converters.inspection.finding import Finding, noting
from converters.tokenizer.model_proto import read_model

_FAST, _SENTENCEPIECE = "tokenizer.json", "tokenizer.model"

PADDING = 1024
"""As many rows more than tokens an embedding may have: so many are added to make it divisible."""


@dataclass(frozen=True)
class TokenizerFile:
    """size: the highest id it gives, and one."""

    name: str
    size: int


def tokenizer_files(folder: Folder) -> tuple[tuple[TokenizerFile, ...], list[Finding]]:
    """tokenizer.json and tokenizer.model, where they are there, and what is wrong with these and the files
    beside them.
    """
    findings: list[Finding] = []
    sizes: dict[str, int | None] = {}
    here = [name for name in TOKENIZER_FILES if name in folder.names()]
    for name in here:
        if name == _SENTENCEPIECE:
            sizes[name] = noting(findings, partial(_pieces, folder))
        elif name == _FAST:
            sizes[name] = noting(findings, partial(_fast_size, folder))
        else:
            noting(findings, partial(read_json, folder, name))
    if not sizes:
        findings.append(
            Finding("there is no tokenizer", folder.name, "put the family's tokenizer.model there")
        )
    return tuple(TokenizerFile(name, size) for name, size in sizes.items() if size is not None), findings


def against_rows(folder: Folder, files: tuple[TokenizerFile, ...], rows: int) -> Iterator[Finding]:
    """rows: of the embedding."""
    for file in files:
        if not rows - PADDING < file.size <= rows:
            yield Finding(
                f"it gives ids up to {file.size - 1}, and the embedding has {rows} rows",
                folder.where(file.name),
                "it belongs to another model",
            )


def _pieces(folder: Folder) -> int:
    with closing(folder.open(_SENTENCEPIECE)) as file:
        return len(read_model(file).pieces)


def _fast_size(folder: Folder) -> int:
    content = read_json(folder, _FAST)
    try:
        vocab = content["model"]["vocab"]
        ids = range(len(vocab)) if isinstance(vocab, list) else vocab.values()  # a list is of unigrams
        return int(max(*ids, *(token["id"] for token in content.get("added_tokens", ())))) + 1
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"it is not a tokenizer: {type(error).__name__}: {error}", folder.where(_FAST), "fetch it again"
        ) from None

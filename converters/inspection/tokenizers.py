"""How many tokens the tokenizer of a folder knows, by its files alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from converters.auxiliary.description import fast_tokenizer_in
from converters.auxiliary.files import FAST, SENTENCEPIECE, TokenizerFiles, files_in, names_in
from converters.auxiliary.generation import GENERATION
from converters.auxiliary.prepare import made_for
from converters.auxiliary.tokens import TokenizerFacts
from converters.containers.files import AGAIN, read_json
from converters.errors import IntegrityError
from converters.formats.folder import Folder, read_whole
from converters.inspection.finding import Finding, noting
from converters.tokenizer.model_proto import count_pieces

_JSON = ".json"

PADDING = 1024
"""As many rows more than tokens an embedding may have: so many are added to make it divisible."""


@dataclass(frozen=True)
class TokenizerFile:
    """size: the highest id it gives, and one."""

    name: str
    size: int


def tokenizer_files(folder: Folder) -> tuple[tuple[TokenizerFile, ...], list[Finding]]:
    """tokenizer.json and tokenizer.model, where they are there, and what is wrong with these and the files
    beside them."""
    findings: list[Finding] = []
    sizes: dict[str, int | None] = {}
    here = names_in(folder)
    generation = [GENERATION] if GENERATION in folder.names() else []
    for name, stored in here.items():
        if name == SENTENCEPIECE:
            sizes[stored] = noting(findings, partial(count_pieces, folder, stored))
        elif name == FAST:
            sizes[stored] = noting(findings, partial(_fast_size, folder))
    for name in (*here.values(), *generation):
        if name.endswith(_JSON) and name not in sizes:
            noting(findings, partial(read_json, folder, name))
    if not sizes:
        fix = "put the family's tokenizer.model there"
        findings.append(Finding("there is no tokenizer", folder.name, fix))
    return tuple(TokenizerFile(name, size) for name, size in sizes.items() if size is not None), findings


def known_tokens(files: Iterable[TokenizerFile]) -> int | None:
    """How many ids a tokenizer gives, None without one."""
    return max((file.size for file in files), default=None)


def tokenizer_notes(folder: Folder, rows: int | None) -> tuple[tuple[str, ...], list[Finding]]:
    """What a conversion to a Hugging Face format would say of its tokenizer, and what is wrong with the files
    together. rows: of the embedding, None if that is not known."""
    findings: list[Finding] = []
    made = noting(findings, lambda: made_for("llama", files_in(folder), TokenizerFacts(), rows))
    return (made.notes if made else ()), findings


def against_rows(folder: Folder, files: tuple[TokenizerFile, ...], rows: int) -> Iterator[Finding]:
    """rows: of the embedding."""
    for file in files:
        if not rows - PADDING < file.size <= rows:
            what = f"it gives ids up to {file.size - 1}, and the embedding has {rows} rows"
            yield Finding(what, folder.where(file.name), "it belongs to another model")


def _fast_size(folder: Folder) -> int:
    ids = fast_tokenizer_in(TokenizerFiles(folder.name, {FAST: read_whole(folder, FAST)})).ids
    if not ids:
        raise IntegrityError("it is not a tokenizer: it has no pieces", folder.where(FAST), AGAIN)
    return max(ids.values()) + 1

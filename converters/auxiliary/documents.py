"""What people read beside the weights: licences, model cards, notices. Carried in every direction.

No code, no weights, no settings, and nothing that a link fetches from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from converters.formats.folder import Folder, LocalFolder, read_whole
from converters.formats.links import is_enclosed

_TEXT = r"(\.(md|txt|rst|html|pdf))?"
# By name, whatever its case. LICENSE, LICENSE.txt, LICENSE-MODEL, MODEL_LICENSE.md, Apache-2.0.txt
DOCUMENTS = tuple(
    re.compile(pattern + _TEXT, re.IGNORECASE)
    for pattern in (
        r"([\w-]+[_-])?(un)?licen[cs]es?([_.-][\w.-]+?)?",
        r"copying([_.-][\w-]+?)?",
        r"(third[_-]?party[_-]?)?notices?",
        r"readme([_.-][\w-]+?)?",
        r"(model|data)[_-]?card",
        r"(acceptable[_-])?use[_-]policy",
        r"(apache|mit|bsd|gpl|cc-by)([-_][\w.-]+?)?",
        r"(authors|contributors|citation|changelog|security|disclaimer)(\.(cff|bib))?",
    )
)
_NO_DOCUMENT = re.compile(r".*\.(py|sh|json|ya?ml|bin|pth?|safetensors|gguf|model|jinja|md5)", re.IGNORECASE)
LARGEST = 4 << 20
TOGETHER = 64 << 20
"""Bytes of all, which are held until they are written."""


def is_document(name: str) -> bool:
    """By its name alone."""
    return not _NO_DOCUMENT.fullmatch(name) and any(known.fullmatch(name) for known in DOCUMENTS)


@dataclass(frozen=True)
class Documents:
    """files: name -> content. notes: what a person should know of those that are left out."""

    files: Mapping[str, bytes]
    notes: tuple[str, ...]


def documents_in(source: Folder) -> Documents:
    """Those of a folder."""
    files: dict[str, bytes] = {}
    notes: list[str] = []
    room = TOGETHER
    for name in filter(is_document, source.names()):
        reason = _reason_against(source, name, room)
        if reason is None:
            files[name] = read_whole(source, name)
            room -= len(files[name])
        else:
            notes.append(f"{name} was left out: {reason}")
    return Documents(files, tuple(notes))


def _reason_against(source: Folder, name: str, room: int) -> str | None:
    if isinstance(source, LocalFolder) and not is_enclosed(source.path, name):
        return "it is a link that leads out of the directory"
    with closing(source.open(name)) as file:
        if file.size > LARGEST:
            return f"it has {file.size:,} bytes, more than a text for people has"
        if file.size > room:
            return f"with the others it has more than {TOGETHER:,} bytes"
    return None

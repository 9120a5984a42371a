"""What public sources quote of a release's files, held against what the hub or the disk says of them.

A quotation is never taken for the file's digest, and one that differs is told and stops nothing: it may be of
another revision, or wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from internlm_zoo.files import Digests, File
from internlm_zoo.registry.release import QuotedFile


@dataclass(frozen=True)
class QuotedFact:
    """One file of which a source quotes something that is known. field: the strongest fact that both state,
    or the first that differs."""

    path: str
    source: str
    agrees: bool
    field: str
    quoted: str
    found: str


def quoted_facts(quoted: Mapping[str, QuotedFile], files: Iterable[File]) -> tuple[QuotedFact, ...]:
    """By path. Nothing for files of which no quoted fact is known."""
    listed = sorted((file for file in files if file.path in quoted), key=lambda file: file.path)
    found = (_quoted_fact(file, quoted[file.path]) for file in listed)
    return tuple(fact for fact in found if fact)


def sentences(found: Iterable[QuotedFact]) -> list[str]:
    """What a person should know: those that agree together by source, each that does not alone."""
    agreeing: dict[str, list[str]] = {}
    contradicted = []
    for fact in found:
        if fact.agrees:
            agreeing.setdefault(fact.source, []).append(f"{fact.path} ({fact.field})")
        else:
            contradicted.append(
                f"{fact.path} contradicts what {fact.source} quoted: its {fact.field} is "
                f"{fact.found}, quoted was {fact.quoted}; a quotation decides nothing"
            )
    agreed = [f"agrees with what {source} quoted: {', '.join(paths)}" for source, paths in agreeing.items()]
    return agreed + contradicted


def _quoted_fact(file: File, quoted: QuotedFile) -> QuotedFact | None:
    quoted_file = File(file.path, quoted.bytes, Digests(quoted.sha256, git_sha1=quoted.git_sha1))
    facts = quoted_file.compared(file)
    if not facts:
        return None
    fact = quoted_file.conflict(file) or facts[0]
    return QuotedFact(file.path, quoted.source, fact.agrees, fact.name, str(fact.expected), str(fact.found))

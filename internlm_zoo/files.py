"""A file of a release as anybody describes it: a hub, the lock, a record, or whoever has read its bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Algorithm:
    """begin: a hash for a file of so many bytes. needs_size: whether the size goes into it."""

    begin: Callable[[int], hashlib._Hash]
    needs_size: bool = False

    @cached_property
    def of_nothing(self) -> str:
        """The digest of no bytes."""
        return self.begin(0).hexdigest()

    @property
    def digits(self) -> int:
        return len(self.of_nothing)

    @cached_property
    def form(self) -> re.Pattern[str]:
        """What its digests look like."""
        return re.compile(f"[0-9a-f]{{{self.digits}}}")


ALGORITHMS: Mapping[str, Algorithm] = {
    "sha256": Algorithm(lambda size: hashlib.sha256()),
    # As `git hash-object` has it.
    "git_sha1": Algorithm(
        lambda size: hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False), needs_size=True
    ),
}
"""The checksums that there are, the strongest first: `Digests` has a field for each."""


def spoken(name: str) -> str:
    """An algorithm, or another fact, as sentences call it."""
    return name.replace("_", " ")


class Fact(NamedTuple):
    """What two descriptions of a file both state. name: `size`, or an algorithm's."""

    name: str
    expected: str | int
    found: str | int

    @property
    def agrees(self) -> bool:
        return self.expected == self.found

    def __str__(self) -> str:
        return f"expected {spoken(self.name)} {self.expected}, found {self.found}"


def _both_state(names: Iterable[str], expected: Iterable[Any], found: Iterable[Any]) -> Iterable[Fact]:
    facts = zip(names, expected, found, strict=True)
    return (Fact(*fact) for fact in facts if fact[1] is not None and fact[2] is not None)


class Digests(NamedTuple):
    """Of a file's bytes, in lower-case hex; None where it is unknown."""

    sha256: str | None = None
    git_sha1: str | None = None

    def conflict(self, found: Digests) -> Fact | None:
        """The strongest of those that both have and that differ."""
        facts = _both_state(self._fields, self, found)
        return next((fact for fact in facts if not fact.agrees), None)

    def agree(self, other: Digests) -> bool:
        """Whether what both have says that the bytes are the same, and they have one."""
        facts = [fact.agrees for fact in _both_state(self._fields, self, other)]
        return bool(facts) and all(facts)

    @property
    def are_sound(self) -> bool:
        """Whether each has the form of its algorithm. Raises TypeError for what is no text."""
        pairs = zip(ALGORITHMS.values(), self, strict=True)
        return all(digest is None or algorithm.form.fullmatch(digest) for algorithm, digest in pairs)

    def completed_by(self, other: Digests) -> Digests:
        """With those of the other that this lacks."""
        return Digests(*(mine or theirs for mine, theirs in zip(self, other, strict=True)))


UNKNOWN = Digests()


@dataclass(frozen=True, slots=True)
class File:
    """size in bytes; None where it is unknown."""

    path: str
    size: int | None = None
    digests: Digests = UNKNOWN

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> File:
        """From what `facts` gives."""
        return cls(facts["path"], facts["size"], Digests(*map(facts.get, Digests._fields)))

    @property
    def facts(self) -> dict[str, Any]:
        """As it is written: the digests beside path and size."""
        return {"path": self.path, "size": self.size, **self.digests._asdict()}

    @property
    def sha256(self) -> str | None:
        return self.digests.sha256

    @property
    def git_sha1(self) -> str | None:
        return self.digests.git_sha1

    @property
    def strongest(self) -> str | None:
        """The algorithm to tell its bytes from others by; None if nothing does."""
        for (name, algorithm), digest in zip(ALGORITHMS.items(), self.digests, strict=True):
            if digest is not None and not (algorithm.needs_size and self.size is None):
                return name
        return None

    @property
    def algorithms(self) -> tuple[str, ...]:
        """What to hash its bytes by: sha256, which the store goes by, and what they can be checked by."""
        return ("sha256",) if self.strongest in ("sha256", None) else ("sha256", self.strongest)

    @property
    def identified(self) -> bool:
        """Whether its bytes can be told from others."""
        return self.strongest is not None

    def compared(self, found: File) -> list[Fact]:
        """What both state, the strongest first."""
        names = (*Digests._fields, "size")
        return list(_both_state(names, (*self.digests, self.size), (*found.digests, found.size)))

    def conflict(self, found: File) -> Fact | None:
        """What two descriptions of a file disagree in, the size before any digest, as people see that first;
        None if they can be of the same bytes."""
        differing = [fact for fact in self.compared(found) if not fact.agrees]
        return min(differing, key=lambda fact: fact.name != "size", default=None)

    def as_found(self, size: int, sha256: str | None) -> File:
        """With what its bytes turned out to be."""
        return replace(self, size=size, digests=self.digests._replace(sha256=sha256))

    def completed_by(self, other: File) -> File:
        """With what the other says and this lacks. They must be of the same bytes."""
        size = other.size if self.size is None else self.size
        return replace(self, size=size, digests=self.digests.completed_by(other.digests))


class FilesByPath:
    """What has files, each of another path."""

    files: tuple[File, ...]

    def file(self, path: str) -> File | None:
        return self._by_path.get(path)

    @cached_property
    def _by_path(self) -> Mapping[str, File]:
        return {file.path: file for file in self.files}

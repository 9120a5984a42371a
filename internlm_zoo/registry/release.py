"""Releases: in which formats a model is published, and what public sources say of a release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, PositiveInt

from internlm_zoo.registry.entry import GitSha1, RegistryEntry, Sha256, Text

Format = Literal["hf", "original", "gguf", "awq", "gptq", "fp8"]

# Formats whose weights are not those of the model but rounded from them: fetched and served like any
# other, never converted, loaded, or taken where none was asked for.
QUANTISED: frozenset[Format] = frozenset({"gguf", "awq", "gptq", "fp8"})

# Which format is taken first where several will do.
FORMAT_ORDER: Mapping[Format | None, int] = {
    format: place for place, format in enumerate(("hf", "original", None, *sorted(QUANTISED)))
}


class QuotedFile(RegistryEntry):
    """What a public source says that a file of a release is. Held against what a hub says, and never taken
    for it."""

    bytes: PositiveInt | None = None
    sha256: Sha256 | None = None
    git_sha1: GitSha1 | None = None
    """The id of the file as a git blob."""
    source: Text


class Release(RegistryEntry):
    """One repository of one hub that holds the model in one format."""

    hub: Text
    repo: Text
    format: Format | None = None
    """null: not stated by a source."""
    revision: str | None = None
    """The revision to fetch; null: the hub's default."""
    also_listed_as: tuple[Text, ...] = ()
    """Other names that published pages use for it, tried after `repo`, in this order."""
    known_files: tuple[Text, ...] = ()
    """File names a source lists; without digests, so nothing is verified by it."""
    quantisation: Text | None = None
    """Of a quantised release: to what."""
    known_revisions: Mapping[str, str | None] = Field(default_factory=dict)
    """History: revisions that public sources quote, and when they were seen there (null: not stated). None
    was confirmed with the hub, and none is fetched unless asked for."""
    quoted_files: Mapping[str, QuotedFile] = Field(default_factory=dict)
    """File name -> what public sources say it is."""
    evidence: tuple[Text, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.hub}:{self.repo}"

    @property
    def names(self) -> tuple[str, ...]:
        """Of its repository, in the order in which they are tried."""
        return (self.repo, *self.also_listed_as)

    @property
    def quantised(self) -> bool:
        return self.format in QUANTISED

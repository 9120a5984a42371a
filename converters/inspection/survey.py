"""Reads config, index and all headers of a folder, and notes what is wrong with each file instead of stopping
there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from converters.containers.container import FolderContents
from converters.containers.discover import discover
from converters.formats.folder import Folder
from converters.formats.zip_read import ends_with_directory
from converters.inspection.finding import Finding, finding


@dataclass(frozen=True)
class Survey:
    """found: what could be read. findings: why the rest could not."""

    found: FolderContents
    findings: tuple[Finding, ...]

    @property
    def readable(self) -> bool:
        """Whether that is so of the config and of every file of weights that should be there."""
        return self.found.whole and self.found.configured


def survey(folder: Folder, weights: str | None = None) -> Survey:
    """Raises what `discover` does where it is not clear which files are meant."""
    findings: list[Finding] = []

    found = discover(folder, weights, lambda error: findings.append(finding(error)))
    if found.container.parallel and found.config_file not in folder.names():
        what = f"{found.config_file} is missing"
        findings.append(Finding(what, folder.where(found.config_file), "fetch it"))
    return Survey(found, (*findings, *_trailing(found)))


def _trailing(found: FolderContents) -> Iterator[Finding]:
    """torch reads files with more bytes than their directory describes, and nobody writes such files."""
    for file in found.weight_files:
        if not file.name.endswith((".safetensors", ".gguf")):
            with closing(found.folder.open(file.name)) as source:
                if not ends_with_directory(source):
                    yield Finding("more bytes follow the end of its directory", file.where, "fetch it again")

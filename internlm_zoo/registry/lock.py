"""registry.lock: what each release was when it was resolved: revision, files, sizes, digests, none invented.

The package ships one; a user's own (in INTERNLM_ZOO_HOME) lies on top of it and grows with every first
contact. One line per file and a fixed order, so that a change reads well in review.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from yaml.nodes import MappingNode

from converters.errors import LINES
from converters.locking import held
from converters.saved import LOCK
from converters.system.filesystem import write_whole
from internlm_zoo.errors import UsageError
from internlm_zoo.files import File, FilesByPath
from internlm_zoo.fs.ownership import free_name, sweep
from internlm_zoo.registry import document
from internlm_zoo.registry.document import Problem, RegistryError
from internlm_zoo.registry.entry import LINE, FileLine
from internlm_zoo.registry.explain import sentence
from internlm_zoo.registry.load import shipped
from internlm_zoo.registry.release import Format
from internlm_zoo.registry.safe_yaml import YamlLimits
from internlm_zoo.settings import Settings
from internlm_zoo.versions import says_more

NAME = LOCK.file
_LIMITS = YamlLimits(bytes=32 << 20, nodes=1_000_000)  # of which each file takes nine
_OTHERWISE = "use another INTERNLM_ZOO_HOME"
_FIX = "move it elsewhere: `internlm-zoo lock` and downloads write it anew, with what the hubs have then"
_HEADER = "# Written by `internlm-zoo lock` and by first downloads; not meant to be edited by hand.\n"
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class LockedRelease(FilesByPath):
    """One revision of one repository.

    requested: the branch, tag or id that was asked for, None for the hub's default. trust: `hub` if the
    digests are the hub's own, `first-use` if they are of what came from a hub that publishes none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    hub: str
    repo: str
    revision: str
    requested: str | None
    format: Format | None
    trust: Literal["hub", "first-use"]
    files: tuple[FileLine, ...]

    @property
    def id(self) -> str:
        return f"{self.hub}:{self.repo}"

    @property
    def size(self) -> int | None:
        """Bytes of all files, None if one is unknown."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


@dataclass(frozen=True)
class Lock:
    """At most one release per hub, repository and requested revision."""

    releases: tuple[LockedRelease, ...] = ()

    @classmethod
    def load(cls, settings: Settings) -> Lock:
        """The shipped lock with the user's on top. Raises RegistryError for a file that is not a lock."""
        return read(shipped(NAME)).updated(read(user_lock(settings)).releases)

    def find(self, hub: str, repo: str, revision: str | None = None) -> LockedRelease | None:
        """What is recorded for the requested revision, or for the resolved one; None: the hub's default."""
        here = [release for release in self.releases if (release.hub, release.repo) == (hub, repo)]
        asked = [release for release in here if release.requested == revision]
        named = (one for one in (*asked, *here) if revision in (one.requested, one.revision))
        return next(named, None)

    def updated(self, releases: Iterable[LockedRelease]) -> Lock:
        """With these releases in place of what was recorded for the same request."""
        merged = {_key(release): release for release in (*self.releases, *releases)}
        return Lock(tuple(merged[key] for key in sorted(merged)))


def user_lock(settings: Settings) -> Path:
    return settings.home / NAME


def record(settings: Settings, *releases: LockedRelease) -> None:
    """Write releases into the user's lock."""
    record_in(user_lock(settings), *releases)


def record_in(path: Path, *releases: LockedRelease) -> None:
    """Write releases into a lock file; what another process records at the same time is kept."""
    with held(path.with_name(f"{path.name}.guard"), stay=True):
        write(path, read(path).updated(releases))


def read(path: Path) -> Lock:
    """A lock file; an empty lock if there is none, or its folder is closed to this account. Raises
    RegistryError for a damaged one, UnsupportedError for one of a newer version."""
    if not os.path.exists(path):  # noqa: PTH110 - which says no of what cannot be seen
        return Lock()
    tree = _read(path)
    content = document.data(tree)
    if LOCK.is_newer(content):
        raise LOCK.newer(path, _OTHERWISE)
    if not LOCK.reads(content):
        fault = f"schema is not a number from 0 to {LOCK.schema}"
        raise RegistryError([Problem(document.place(tree, ("schema",)), fault)], _FIX)
    try:
        unmarked = {name: value for name, value in content.items() if name != "schema"}
        return Lock(_RELEASES.validate_python(unmarked)["releases"])
    except ValidationError as error:
        if says_more(error):
            raise LOCK.newer(path, _OTHERWISE) from error
        shown = error.errors()[:LINES]
        problems = [Problem(document.place(tree, found["loc"]), sentence(found)) for found in shown]
        raise RegistryError(problems, fix=_FIX) from error
    except KeyError as error:  # emptied, or in UTF-16: for no release there would be a list of none
        raise RegistryError([Problem(document.place(tree, ()), "the lock is cut short")], _FIX) from error


def _read(path: Path) -> MappingNode:
    try:
        return document.read(path, kind="lock", holds="releases", limits=_LIMITS)
    except UsageError as error:
        error.fix = error.fix or _FIX
        raise


def write(path: Path, lock: Lock) -> None:
    """Replace the file in one step: a reader sees the old lock or the new one. Nobody else writes it now."""
    key = path.name.replace(".", "-")
    sweep(path.parent, key)
    write_whole(path, dump(lock).encode(), path.with_name(free_name(key)))


def dump(lock: Lock) -> str:
    """The text of a lock file: sorted, one line per file."""
    releases = [_plain(release) for release in sorted(lock.releases, key=_key)]
    return _HEADER + yaml.dump(
        LOCK.marked({"releases": releases}), Dumper=_Dumper, sort_keys=False, width=10**6, allow_unicode=True
    )


class _Line(dict[str, Any]):
    """A mapping that stands on one line."""


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes lines as lines, everything else in block style."""


_Dumper.add_representer(
    _Line, lambda dumper, line: dumper.represent_mapping("tag:yaml.org,2002:map", line, flow_style=True)
)


def _plain(release: LockedRelease) -> dict[str, Any]:
    files = sorted(release.files, key=lambda file: file.path)
    plain = {field.name: getattr(release, field.name) for field in fields(release)}
    return {**plain, "files": [_line(file) for file in files]}


def _line(file: File) -> _Line:
    return _Line({name: value for name, value in file.facts.items() if value is not None or name in LINE})


def _key(release: LockedRelease) -> tuple[str, str, str]:
    return release.hub, release.repo, release.requested or ""


_RELEASES = TypeAdapter(dict[Literal["releases"], tuple[LockedRelease, ...]])

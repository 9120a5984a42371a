"""Where files of a release may lie on this machine already: other tools' caches, and folders the user names.

Nothing here reads a file: a place is a guess by name and size, and a blob's name in a cache is no proof.
Layouts: huggingface_hub `constants` and `file_download`; modelscope_hub `_download.DownloadManager` and
modelscope `find_reusable_legacy_repo_dir` (in older ones a dot in a repository's name is `___`); openmind_hub
`constants` and `file_download`, which has Hugging Face's.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from converters.system.system_files import walk_files
from internlm_zoo.errors import UsageError
from internlm_zoo.files import File
from internlm_zoo.fs.contained import real
from internlm_zoo.fs.homes import home_of, path_of
from internlm_zoo.settings import Settings
from internlm_zoo.sources.credentials import huggingface_home, user_cache

HUGGINGFACE, MODELSCOPE, OPENMIND = "the Hugging Face cache", "the ModelScope cache", "the openMind cache"

_MODELSCOPE_PLACES = (
    "models/{owner}--{name}/snapshots/*",
    "models/{owner}/{safe}",
    "models/{owner}/{name}",
    "hub/models/{owner}/{safe}",
    "hub/models/{owner}/{name}",
    "hub/{owner}/{safe}",
    "hub/{owner}/{name}",
    "{owner}/{safe}",
    "{owner}/{name}",
)
# Each with the files below it, by name.
Folders = Sequence[tuple[str, Mapping[str, Sequence[Path]]]]
# Git's sha1 or a sha256, as huggingface_hub names its blobs.
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class LocalCopy:
    """A regular file that may be the one. owner: whose it is, in words. size in bytes. device: its disk."""

    path: Path
    owner: str
    size: int
    device: int


@dataclass(frozen=True)
class Caches:
    """home: the store, whose own files are no finds. repos: folders of repositories with blobs named by their
    digests, snapshots: folders with the files of one release; both with their owners. folders: what lies
    below the user's, by name. closed: what could not be looked into, in sentences. contents: files by a
    digest that their owner recorded, with the owner."""

    home: Path
    repos: Sequence[tuple[Path, str]] = ()
    snapshots: Sequence[tuple[Path, str]] = ()
    folders: Folders = ()
    closed: Sequence[str] = ()
    contents: Mapping[str, Sequence[tuple[Path, str]]] = field(default_factory=dict)

    def copies(self, file: File) -> Iterator[LocalCopy]:
        """Where it may be, each place once, in the order in which to look."""
        met = set()
        for path, owner in self._guesses(file):
            real = Path(os.path.realpath(path))
            if real in met or real.is_relative_to(self.home):
                continue
            met.add(real)
            with suppress(OSError):  # most guesses lead nowhere
                status = real.stat()
                if _may_be(real, status, file):
                    yield LocalCopy(real, owner, status.st_size, status.st_dev)

    def _guesses(self, file: File) -> Iterator[tuple[Path, str]]:
        for repo, owner in self.repos:
            for digest in filter(None, file.digests):
                yield repo / "blobs" / digest, owner
        for folder, owner in self.snapshots:
            yield folder / file.path, owner
        for name, below in self.folders:
            for path in below.get(file.path.rsplit("/", 1)[-1], ()):
                yield path, name
        for digest in filter(None, file.digests):
            yield from self.contents.get(digest, ())


def caches_of(settings: Settings, names: Iterable[str], adopt: Iterable[Path] = ()) -> Caches:
    """names: repositories that hold the files, as owner/name. adopt: folders of the user's, searched at any
    depth. Raises UsageError if one is none."""
    hubs = ((huggingface_cache(settings), HUGGINGFACE), (user_cache(settings) / "openmind" / "hub", OPENMIND))
    closed: dict[str, str] = {}
    repos = [(repo, owner) for hub, owner in hubs for repo in _found(hub, "models--*", owner, closed)]
    wanted = dict.fromkeys(name for name in names if name.count("/") == 1)
    snapshots = [
        (folder, owner)
        for hub, owner in hubs
        for name in wanted
        for folder in _found(hub / huggingface_folder(name) / "snapshots", "*", owner, closed)
    ]
    base = _modelscope_cache(settings)
    snapshots += [
        (folder, MODELSCOPE)
        for name in wanted
        for pattern in _modelscope_places(name)
        for folder in _found(base, pattern, MODELSCOPE, closed)
    ]
    return Caches(real(settings.home), repos, snapshots, folders_of(adopt), tuple(closed.values()))


def _found(folder: Path, pattern: str, owner: str, closed: dict[str, str]) -> list[Path]:
    """What matches in a folder of another tool's, sorted. It may be closed to this account: then it holds
    nothing for it, and closed gets a sentence for its owner."""
    try:
        return sorted(folder.glob(pattern)) if folder.is_dir() else []
    except OSError as error:
        closed.setdefault(owner, f"{owner} cannot be looked into: {error.strerror} ({error.filename})")
        return []


def folders_of(folders: Iterable[Path]) -> Folders:
    """What lies below some folders, by name. Raises UsageError if one is none."""
    return tuple((str(folder), _below(folder)) for folder in folders)


def copy_notes(copies: Iterable[LocalCopy | None]) -> list[str]:
    """How many files came from where, in sentences."""
    counts = Counter(copy.owner for copy in copies if copy is not None)
    return [f"{count} of the files are from {owner}" for owner, count in counts.items()]


def huggingface_cache(settings: Settings) -> Path:
    """Where huggingface_hub keeps repositories."""
    named = settings.environ.get("HF_HUB_CACHE") or settings.environ.get("HUGGINGFACE_HUB_CACHE")
    return path_of(named, settings.environ) if named else huggingface_home(settings) / "hub"


def huggingface_folder(repo: str) -> str:
    """The name of a model's folder there."""
    return f"models--{repo.replace('/', '--')}"


def _modelscope_cache(settings: Settings) -> Path:
    named = settings.environ.get("MODELSCOPE_CACHE")
    return path_of(named, settings.environ) if named else home_of(settings.environ) / ".cache" / "modelscope"


def _modelscope_places(repo: str) -> list[str]:
    """Patterns for the folders that may hold a repository there."""
    owner, name = repo.split("/")
    names = {"owner": owner, "name": name, "safe": name.replace(".", "___")}
    return [place.format(**names) for place in _MODELSCOPE_PLACES]


def _below(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise UsageError("there is no such folder to adopt files from", folder)
    found: dict[str, list[Path]] = {}
    for path in walk_files(folder.absolute()):
        found.setdefault(path.name, []).append(path)
    return found


def _may_be(path: Path, status: os.stat_result, file: File) -> bool:
    """By its size, and by a name that is the digest of something else."""
    published = {len(digest): digest for digest in filter(None, file.digests)}.get(len(path.name))
    is_other = _HEX.fullmatch(path.name) and published not in (None, path.name)
    return stat.S_ISREG(status.st_mode) and file.size in (None, status.st_size) and not is_other

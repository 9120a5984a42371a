"""A mirror in a directory.

<root>/mirror.json             the index
<root>/<org>/<name>/...        the releases, as plain files
<root>/.incoming/<org>--<name> releases on their way in; `serve` does not see them
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from converters.filesystem import move, writing
from internlm_zoo.errors import IntegrityError, UsageError
from internlm_zoo.guard import held
from internlm_zoo.integrity.verify import verify
from internlm_zoo.mirror.index import NAME, HeldFile, Index, dump, parse
from internlm_zoo.mirror.planning import Seen
from internlm_zoo.progress import Progress
from internlm_zoo.registry.lock import LockedFile
from internlm_zoo.sources.paths import check_path
from internlm_zoo.store.layout import place_of

_ELSEWHERE = "name another destination, or make this one writable"
_GUARD = ".mirror.guard"
_INCOMING = ".incoming"


class DirectoryDestination:
    """See `Destination`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def guard(self) -> Iterator[None]:
        self._check_root()
        with writing(self._root, _ELSEWHERE), held(self._root / _GUARD, self._taken):
            yield

    def _taken(self) -> None:
        what = "another `mirror apply` is at work there"
        raise UsageError(what, self._root, "wait for it to end")

    def index(self) -> Index:
        self._check_root()
        path = self._root / NAME
        index = parse(path.read_bytes(), str(path)) if path.exists() else Index()
        for release in index.releases:
            self._folder(release.path)
        return index

    def publish(self, index: Index) -> None:
        draft = self._root / f".{NAME}.new"
        draft.write_text(dump(index), encoding="utf-8", newline="\n")
        draft.replace(self._root / NAME)

    def examine(self, path: str, files: Iterable[HeldFile], *, deep: bool, progress: Progress) -> Seen:
        folder, files = self._folder(path), tuple(files)
        if not folder.is_dir():
            return Seen(missing=frozenset(file.path for file in files))
        report = verify(folder, _expected(files), quick=not deep, progress=progress)
        damaged = {wrong.path for wrong in report.wrong}
        unsure = [file for file in files if file.path not in {*damaged, *report.missing}]
        damaged |= {file.path for file in unsure if place_of(folder, file.path).is_symlink()}
        if not deep:
            touched = [file for file in unsure if _stamp(folder / file.path) != file.stamp]
            again = verify(folder, _expected(touched), progress=progress)
            damaged |= {wrong.path for wrong in again.wrong}
        return Seen(frozenset(damaged), frozenset(report.missing), frozenset(report.extra))

    def stage(self, path: str, adopt: Iterable[str]) -> Path:
        folder, stage = self._folder(path), self._stage(path)
        stage.mkdir(parents=True, exist_ok=True)
        for file in adopt:
            here, there = place_of(folder, file), place_of(stage, file)
            if here.is_file() and not here.is_symlink() and not there.exists():
                there.parent.mkdir(parents=True, exist_ok=True)
                with suppress(OSError):  # no hard links here: it is fetched
                    there.hardlink_to(here)
        return stage

    def take_in(self, path: str, files: Iterable[str]) -> Mapping[str, str]:
        folder, stage = self._folder(path), self._stage(path)
        stamps = {}
        for file in files:
            target = place_of(folder, file)
            _check_free(target, folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            move(place_of(stage, file), target)
            stamps[file] = _stamp(target)
        return stamps

    def remove(self, path: str, files: Iterable[str] | None = None) -> None:
        folder = self._folder(path)
        if files is None:
            shutil.rmtree(folder, ignore_errors=True)
        for file in files or ():
            place_of(folder, file).unlink(missing_ok=True)
        _remove_empty(folder, self._root)

    def clear(self, path: str) -> None:
        _remove_stage(self._stage(path))

    def tidy(self, wanted: Collection[str]) -> None:
        incoming = self._root / _INCOMING
        kept = {self._stage(path) for path in wanted}
        for stage in list(incoming.iterdir()) if incoming.is_dir() else []:
            if stage not in kept:
                _remove_stage(stage)

    def _check_root(self) -> None:
        if self._root.exists() and not self._root.is_dir():
            raise UsageError("the destination is a file, not a directory", self._root, "name another one")

    def _folder(self, path: str) -> Path:
        check_path(path, str(self._root))
        folder = self._root / path
        inside = folder.resolve().is_relative_to(self._root.resolve())
        if path.count("/") != 1 or path.startswith(".") or not inside:
            raise IntegrityError(f"refused the release {path!r}: it has no place in the mirror", self._root)
        return folder

    def _stage(self, path: str) -> Path:
        check_path(path, str(self._root))
        return self._root / _INCOMING / path.replace("/", "--")


def _remove_stage(stage: Path) -> None:
    shutil.rmtree(stage, ignore_errors=True)
    with suppress(OSError):  # others are on their way
        stage.parent.rmdir()


def _stamp(file: Path) -> str:
    return str(file.stat().st_mtime_ns)


def _expected(files: Iterable[HeldFile]) -> list[LockedFile]:
    return [LockedFile(file.path, file.size, file.sha256) for file in files]


def _check_free(target: Path, folder: Path) -> None:
    parents = [folder / parent for parent in target.relative_to(folder).parents]
    for path in (target, *parents):
        if path.is_dir() if path == target else path.is_file():
            what = "something that is not part of the release is in the way"
            raise UsageError(what, path, "move it elsewhere; with `prune: true` it is deleted")


def _remove_empty(folder: Path, root: Path) -> None:
    """Folders in which nothing is left, from the innermost out, up to the root."""
    for parent, _, _ in os.walk(folder, topdown=False):
        if not any(Path(parent).iterdir()):
            Path(parent).rmdir()
    while folder.parent != root:
        folder = folder.parent
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

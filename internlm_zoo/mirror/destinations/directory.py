"""A mirror in a directory.

<root>/mirror.json             the index
<root>/<org>/<name>/...        the releases, as plain files
<root>/.incoming/<org>--<name> releases on their way in; `serve` does not see them
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from converters.locking import Holder, take
from converters.saved import METADATA, MIRROR
from converters.system.filesystem import move, write_whole, writing
from converters.system.system_files import LISTED, files_below, walk
from internlm_zoo.errors import IntegrityError, UsageError
from internlm_zoo.files import Digests, File
from internlm_zoo.fs import contained
from internlm_zoo.hashing import hash_shown
from internlm_zoo.integrity.folder import verify_folder
from internlm_zoo.mirror.values import ExistingFile, FileCount, LocalState
from internlm_zoo.progress import Progress
from internlm_zoo.sources.paths import check_path
from internlm_zoo.store.layout import PARTIAL, is_ours, place_of
from internlm_zoo.store.mirror_index import Index, IndexedFile, dump, git_digest, read_index

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
        with writing(self._root, _ELSEWHERE):
            self._root.mkdir(parents=True, exist_ok=True)
            guard = take(self._root / _GUARD)
            if isinstance(guard, Holder):
                what = f"another `mirror apply` is at work there: {guard}"
                raise UsageError(what, self._root, "wait for its end, and run it again")
            try:
                yield
            finally:
                guard.release()

    def closed(self) -> bool:
        return self._root.is_dir() and not os.access(self._root, os.W_OK)

    def index(self) -> Index:
        self._check_root()
        index = read_index(self._root)
        for release in index.releases:
            self.local(release.path)
        return index

    def publish(self, index: Index) -> None:
        write_whole(self._root / MIRROR.file, dump(index).encode())

    def examine(
        self, path: str, files: Iterable[IndexedFile], *, deep: bool, progress: Progress
    ) -> LocalState:
        folder, files = self.local(path), tuple(files)
        if not folder.is_dir():
            return LocalState(missing=frozenset(file.path for file in files))
        existing = dict(_existing(folder, {file.path for file in files} | LISTED))
        report = verify_folder(folder, _expected(files), quick=not deep, progress=progress)
        damaged = {wrong.path for wrong in report.wrong}
        unsure = [file for file in files if file.path not in {*damaged, *report.missing}]
        damaged |= {file.path for file in unsure if (folder / file.path).is_symlink()}
        touched = [file for file in unsure if _stamp(folder / file.path) != file.stamp]
        if touched and not deep:
            again = verify_folder(folder, _expected(touched), progress=progress)
            damaged |= {wrong.path for wrong in again.wrong}
        return LocalState(existing, frozenset(damaged), frozenset(report.missing))

    def recognise(self, path: str, files: Iterable[File], *, progress: Progress) -> Mapping[str, IndexedFile]:
        folder = self.local(path)
        right = {}
        for file in files:
            place = place_of(folder, file.path)
            if place.is_symlink() or not place.is_file() or file.size not in (None, place.stat().st_size):
                continue
            with suppress(OSError):  # what cannot be read cannot be told to be right
                indexed = _recognised(place, file, progress)
                right.update({file.path: indexed} if indexed else {})
        return right

    def local(self, path: str) -> Path:
        check_path(path, str(self._root))
        folder = self._root / path
        is_inside = contained.real(folder).is_relative_to(contained.real(self._root))
        if path.count("/") != 1 or path.startswith(".") or not is_inside:
            raise IntegrityError(f"refused the release {path!r}: it has no place in the mirror", self._root)
        return folder

    def stage(self, path: str) -> Path:
        check_path(path, str(self._root))
        return self._root / _INCOMING / path.replace("/", "--")

    def commit(self, path: str, files: Iterable[str]) -> Mapping[str, str]:
        folder, stage = self.local(path), self.stage(path)
        stamps = {}
        for file in files:
            target = place_of(folder, file)
            _check_free(target, folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            move(place_of(stage, file), target)
            stamps[file] = _stamp(target)
        return stamps

    def remove(self, path: str, files: Mapping[str, str]) -> tuple[str, ...]:
        folder, left = self.local(path), []
        for file, stamp in files.items():
            place = folder / file  # as a walk found it, whatever it is called
            if not os.path.lexists(place):
                continue
            if _stamp(place) == stamp:
                contained.remove(self._root, place)
            else:
                left.append(file)
        _remove_empty(folder, self._root)
        return tuple(left)

    def clear(self, path: str) -> None:
        self._remove_stage(self.stage(path))

    def unfinished(self, wanted: Collection[str]) -> FileCount:
        folders = [place for stage in self._stages(wanted) for place in (stage, stage / METADATA / PARTIAL)]
        sizes = [existing.size for folder in folders for _, existing in _existing(folder)]
        return FileCount(len(sizes), sum(sizes))

    def tidy(self, wanted: Collection[str]) -> None:
        for stage in self._stages(wanted):
            self._remove_stage(stage)

    def warnings(self) -> tuple[str, ...]:
        places = (
            *self._root.parents,
            self._root,
            *contained.real(self._root).parents,
        )  # where links lead, too
        trees = (place for place in places if (place / ".git").exists())
        what = "where `git clean -x` and actions/checkout remove it; name a destination outside"
        return tuple(f"the mirror lies inside the git work tree {tree}, {what}" for tree in islice(trees, 1))

    def _check_root(self) -> None:
        if self._root.exists() and not self._root.is_dir():
            raise UsageError("the destination is a file, not a directory", self._root, "name another one")
        if (self._root / _INCOMING).is_symlink():
            what = "a link is in the way of releases on their way in"
            raise UsageError(what, self._root / _INCOMING, "remove the link, and apply again")

    def _stages(self, wanted: Collection[str]) -> list[Path]:
        """Those of other releases, as far as they are ours."""
        incoming, kept = self._root / _INCOMING, {self.stage(path) for path in wanted}
        found = sorted(incoming.iterdir()) if incoming.is_dir() else []
        return [stage for stage in found if stage not in kept and (stage / METADATA).is_dir()]

    def _remove_stage(self, stage: Path) -> None:
        with suppress(OSError):
            contained.remove(self._root, stage)
        contained.remove_if_empty(self._root, stage.parent)  # unless others are on their way


def _stamp(file: Path) -> str:
    return str(file.lstat().st_mtime_ns)


def _existing(folder: Path, wanted: Collection[str] = ()) -> Iterator[tuple[str, ExistingFile]]:
    """The files in a folder, links among them, by their paths with forward slashes. wanted: see
    files_below."""
    for path in files_below(folder, wanted, links=True):
        with suppress(FileNotFoundError):
            if not is_ours(path):
                status = (folder / path).lstat()
                yield path, ExistingFile(status.st_size, str(status.st_mtime_ns))


def _recognised(place: Path, file: File, progress: Progress) -> IndexedFile | None:
    stamp, size = _stamp(place), place.stat().st_size
    found = hash_shown(place, file.path, progress, file.algorithms)
    if file.digests.conflict(found) is not None:
        return None
    return IndexedFile(file.path, size, str(found.sha256), git_digest(place, size), stamp)


def _expected(files: Iterable[IndexedFile]) -> list[File]:
    return [File(file.path, file.size, Digests(file.sha256)) for file in files]


def _check_free(target: Path, folder: Path) -> None:
    parents = [folder / parent for parent in target.relative_to(folder).parents]
    for path in (target, *parents):
        if path.is_dir() if path == target else path.is_file():
            what = "something that is not part of the release is in the way"
            raise UsageError(what, path, "move it elsewhere, and apply again")


def _remove_empty(folder: Path, root: Path) -> None:
    """Folders in which nothing is left, from the innermost out, up to the root."""
    for parent in reversed([parent for parent, _, _ in walk(folder)]):
        contained.remove_if_empty(root, Path(parent))
    while folder.parent != root:
        folder = folder.parent
        contained.remove_if_empty(root, folder)

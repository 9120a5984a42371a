"""Shows a release of the store in the cache of huggingface_hub, where unmodified clients find it offline.

models--<owner>--<name>/blobs/<digest>            the bytes: sha256 of an LFS file, git's sha1 of another
models--<owner>--<name>/snapshots/<commit>/...    links to them
models--<owner>--<name>/refs/main                 the commit

Every name appears in one step and `refs` last. What is there with other content stays, and is said. Layout:
huggingface_hub `file_download`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from converters.formats.access import content_of, reading
from internlm_zoo.caches.find import huggingface_cache, huggingface_folder
from internlm_zoo.errors import IntegrityError, UnsupportedError
from internlm_zoo.files import File
from internlm_zoo.fs.contained import real
from internlm_zoo.fs.linking import duplicate
from internlm_zoo.fs.ownership import draft
from internlm_zoo.names import is_sha1, is_sha256
from internlm_zoo.registry import Model, Registry, Release, load_registry
from internlm_zoo.registry.lock import Lock, LockedRelease
from internlm_zoo.settings import Settings
from internlm_zoo.sources.paths import check_path
from internlm_zoo.store.hash_cache import HashCache
from internlm_zoo.store.layout import Store, place_of
from internlm_zoo.store.name_clashes import check_twins
from internlm_zoo.store.publish import link_blob

_PROTOCOL, _DEFAULT_REF, _OURS = "huggingface", "main", "internlm-zoo"
_LONGEST_REF = 1024
"""Bytes of what is under refs: a commit."""


@dataclass(frozen=True)
class _CacheAddress:
    """How clients ask for a release. commit: 40 hex digits. ref: the branch or tag. names: per path, what the
    hub calls the content. note: what a person should know of the commit, in one sentence."""

    repo: str
    commit: str
    ref: str
    names: Mapping[str, str]
    note: str | None = None


@dataclass(frozen=True)
class PublishedRelease:
    """Where a release is in the cache, and what became of it, a sentence each."""

    snapshot: Path
    notes: tuple[str, ...]


def home_release(model: Model, registry: Registry) -> Release:
    """The release whose name clients ask for. Raises UnsupportedError if the model has none."""
    own = (release for release in model.releases if not release.quantised)
    home = next((release for release in own if registry.hub(release.hub).protocol == _PROTOCOL), None)
    if home is None:
        raise UnsupportedError(f"{model.name} has no name on Hugging Face", fix="leave out `hf_cache`")
    return home


def publish(
    release: LockedRelease, model: Model, settings: Settings, store: Store, hash_cache: HashCache
) -> PublishedRelease:
    """Put a release into the user's cache. release: whole, in the store, sha256 of all files known.

    Raises UnsupportedError if the model has no name on Hugging Face, IntegrityError where other bytes lie
    under its names."""
    address = _address_of(release, model, settings, store, hash_cache)
    check_path(address.repo)
    folder = huggingface_cache(settings) / huggingface_folder(address.repo)
    cached = _CachedRelease(release, address, folder, store, hash_cache)
    check_twins(cached.snapshot, folder, (file.path for file in release.files))
    for file in release.files:
        cached.add_blob(file)
    if not cached.appears():
        cached.complete()
    place = f"{address.repo} is in the Hugging Face cache: {cached.snapshot}"
    return PublishedRelease(cached.snapshot, tuple(filter(None, (address.note, place, cached.refer()))))


def _address_of(
    release: LockedRelease, model: Model, settings: Settings, store: Store, hash_cache: HashCache
) -> _CacheAddress:
    """A release of another hub, or of a directory in the hub's place, goes by the name that the model has on
    Hugging Face, and by its commit there if the lock says that it is the same."""
    registry = load_registry(settings)
    if registry.hub(release.hub).protocol == _PROTOCOL and is_sha1(release.revision):
        asked = release.requested or _DEFAULT_REF
        ref = _DEFAULT_REF if is_sha1(asked) else asked
        return _CacheAddress(release.repo, release.revision, ref, _names(release, release))
    home = home_release(model, registry)
    twin = Lock.load(settings).find(home.hub, home.repo, home.revision)
    if twin is not None and is_sha1(twin.revision) and _same(release, twin, store, hash_cache):
        return _CacheAddress(home.repo, twin.revision, _DEFAULT_REF, _names(release, twin))
    commit = _derived(release)
    note = f"{release.hub} does not tell the commit on Hugging Face: {commit[:12]}... stands for it"
    return _CacheAddress(home.repo, commit, _DEFAULT_REF, _names(release, release), note)


def _names(release: LockedRelease, listed: LockedRelease) -> dict[str, str]:
    """Hugging Face calls what is not an LFS file by its git sha1, and lists no such digest of one that is."""
    named = {file.path: file.git_sha1 for file in listed.files}
    return {file.path: named.get(file.path) or str(file.sha256) for file in release.files}


def _same(ours: LockedRelease, theirs: LockedRelease, store: Store, hash_cache: HashCache) -> bool:
    def same(one: File) -> bool:
        other = theirs.file(one.path)
        if other is None or one.sha256 is None:
            return False
        blob = store.blob(one.sha256)
        known = one.digests if other.sha256 else hash_cache.digests(blob, other.algorithms).digests
        return known.agree(other.digests)

    return len(ours.files) == len(theirs.files) and all(map(same, ours.files))


def _derived(release: LockedRelease) -> str:
    """The same for the same files: the hub's own commit, or a digest in the form of one."""
    if is_sha1(release.revision):
        return release.revision
    lines = sorted(f"{file.sha256} {file.path}" for file in release.files)
    return hashlib.sha1("\n".join(lines).encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class _CachedRelease:
    """A release on its way into the cache. folder: of its repository there."""

    release: LockedRelease
    address: _CacheAddress
    folder: Path
    store: Store
    hash_cache: HashCache

    @property
    def snapshot(self) -> Path:
        return self.folder / "snapshots" / self.address.commit

    def add_blob(self, file: File) -> None:
        """Raises IntegrityError for a digest that is none, or where other bytes have it as their name."""
        assert file.sha256 is not None
        name, blob = self.address.names[file.path], self.store.blob(file.sha256)
        if not (is_sha1(name) or is_sha256(name)):
            raise IntegrityError(f"refused the digest {name!r} of {file.path}: it is none", self.folder)
        place = self._blob(file)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            with draft(self.folder, _OURS) as made:
                duplicate(blob, made, hard=True)
                made.replace(place)
        elif not place.samefile(blob):
            self._check(place, file)

    def appears(self) -> bool:
        """Shows all files at once; False if there is such a snapshot already."""
        self.snapshot.parent.mkdir(parents=True, exist_ok=True)
        with draft(self.folder, _OURS) as made:
            made.mkdir()
            for file in self.release.files:
                self._link(place_of(made, file.path), file)
            try:
                made.rename(self.snapshot)
            except OSError:
                if not self.snapshot.is_dir():
                    raise
                return False
        return True

    def complete(self) -> None:
        """What clients have put there is right, and what they have not is added."""
        for file in self.release.files:
            place = place_of(self.snapshot, file.path)
            if not place.exists():
                with draft(self.folder, _OURS) as made:
                    self._link(made, file)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    made.replace(place)
            elif not place.samefile(self._blob(file)):
                self._check(place, file)

    def refer(self) -> str | None:
        """Lets the branch or tag lead to the commit; a sentence if it leads elsewhere already."""
        commit, ref = self.address.commit, self.address.ref
        check_path(ref)
        place = self.folder / "refs" / ref
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            with draft(self.folder, _OURS) as made:
                made.write_text(commit, encoding="utf-8")
                made.replace(place)
        there = content_of(place, _LONGEST_REF).decode("utf-8", "replace").strip()
        stays = f"{ref} is {there[:12]}... in that cache and stays so: ask for revision {commit}"
        return None if there == commit else stays

    def _blob(self, file: File) -> Path:
        return self.folder / "blobs" / self.address.names[file.path]

    def _check(self, place: Path, file: File) -> None:
        with reading(place):
            found = self.hash_cache.digests(real(place)).sha256
        if found != file.sha256:
            fix = "move it elsewhere, and run it again"
            raise IntegrityError(f"the Hugging Face cache has other bytes for {file.path}", place, fix)

    def _link(self, link: Path, file: File) -> None:
        """A link to the file's blob that is right once it has its name in the snapshot."""
        link.parent.mkdir(parents=True, exist_ok=True)
        link_blob(self._blob(file), link, place_of(self.snapshot, file.path).parent)

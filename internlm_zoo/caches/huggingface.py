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
from internlm_zoo.registry import Model, Registry, Release
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
class CacheAddress:
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


def address_of(
    release: LockedRelease, model: Model, registry: Registry, lock: Lock, store: Store, hash_cache: HashCache
) -> CacheAddress:
    """release: whole, in the store, sha256 of all files known. A release of another hub, or of a directory in
    the hub's place, goes by the name that the model has on Hugging Face, and by its commit there if the lock
    says that it is the same.

    Raises UnsupportedError if the model has none.
    """
    if registry.hub(release.hub).protocol == _PROTOCOL and is_sha1(release.revision):
        asked = release.requested or _DEFAULT_REF
        ref = _DEFAULT_REF if is_sha1(asked) else asked
        return CacheAddress(release.repo, release.revision, ref, _names(release, release))
    home = home_release(model, registry)
    twin = lock.find(home.hub, home.repo, home.revision)
    if twin is not None and is_sha1(twin.revision) and _same(release, twin, store, hash_cache):
        return CacheAddress(home.repo, twin.revision, _DEFAULT_REF, _names(release, twin))
    commit = _derived(release)
    note = f"{release.hub} does not tell the commit on Hugging Face: {commit[:12]}... stands for it"
    return CacheAddress(home.repo, commit, _DEFAULT_REF, _names(release, release), note)


def publish(
    release: LockedRelease, address: CacheAddress, settings: Settings, store: Store, hash_cache: HashCache
) -> PublishedRelease:
    """Put the release into the user's cache. Raises IntegrityError where other bytes lie under its names."""
    check_path(address.repo)
    folder = huggingface_cache(settings) / huggingface_folder(address.repo)
    snapshot = folder / "snapshots" / address.commit
    check_twins(snapshot, folder, (file.path for file in release.files))
    for file in release.files:
        _blob(folder, address.names[file.path], file, store, hash_cache)
    if not _appears(folder, snapshot, release, address):
        _complete(folder, snapshot, release, address, hash_cache)
    place = f"{address.repo} is in the Hugging Face cache: {snapshot}"
    return PublishedRelease(snapshot, tuple(filter(None, (address.note, place, _refer(folder, address)))))


def _names(release: LockedRelease, listed: LockedRelease) -> dict[str, str]:
    """Hugging Face calls what is not an LFS file by its git sha1, and lists no such digest of one that is."""
    named = {file.path: file.git_sha1 for file in listed.files}
    return {file.path: named.get(file.path) or str(file.sha256) for file in release.files}


def _same(ours: LockedRelease, theirs: LockedRelease, store: Store, hash_cache: HashCache) -> bool:
    def same(one: File) -> bool:
        other = theirs.file(one.path)
        if other is None or one.sha256 is None:
            return False
        known = (
            hash_cache.digests(store.blob(one.sha256), other.algorithms).digests
            if not other.sha256
            else one.digests
        )
        return known.agree(other.digests)

    return len(ours.files) == len(theirs.files) and all(map(same, ours.files))


def _derived(release: LockedRelease) -> str:
    """The same for the same files: the hub's own commit, or a digest in the form of one."""
    if is_sha1(release.revision):
        return release.revision
    lines = sorted(f"{file.sha256} {file.path}" for file in release.files)
    return hashlib.sha1("\n".join(lines).encode(), usedforsecurity=False).hexdigest()


def _blob(folder: Path, name: str, file: File, store: Store, hash_cache: HashCache) -> None:
    assert file.sha256 is not None
    if not (is_sha1(name) or is_sha256(name)):
        raise IntegrityError(f"refused the digest {name!r} of {file.path}: it is none", folder)
    place = folder / "blobs" / name
    blob = store.blob(file.sha256)
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with draft(folder, _OURS) as made:
            duplicate(blob, made, hard=True)
            made.replace(place)
    elif not place.samefile(blob):
        _check(place, file, hash_cache)


def _check(place: Path, file: File, hash_cache: HashCache) -> None:
    with reading(place):
        found = hash_cache.digests(real(place)).sha256
    if found != file.sha256:
        fix = "move it elsewhere, and run it again"
        raise IntegrityError(f"the Hugging Face cache has other bytes for {file.path}", place, fix)


def _appears(folder: Path, snapshot: Path, release: LockedRelease, address: CacheAddress) -> bool:
    """Shows all files at once; False if there is such a snapshot already."""
    snapshot.parent.mkdir(parents=True, exist_ok=True)
    with draft(folder, _OURS) as made:
        made.mkdir()
        for file in release.files:
            _link(folder, place_of(made, file.path), place_of(snapshot, file.path), address.names[file.path])
        try:
            made.rename(snapshot)
        except OSError:
            if not snapshot.is_dir():
                raise
            return False
    return True


def _complete(
    folder: Path, snapshot: Path, release: LockedRelease, address: CacheAddress, hash_cache: HashCache
) -> None:
    """What clients have put there is right, and what they have not is added."""
    for file in release.files:
        place = place_of(snapshot, file.path)
        if not place.exists():
            with draft(folder, _OURS) as made:
                _link(folder, made, place, address.names[file.path])
                place.parent.mkdir(parents=True, exist_ok=True)
                made.replace(place)
        elif not place.samefile(folder / "blobs" / address.names[file.path]):
            _check(place, file, hash_cache)


def _link(folder: Path, link: Path, final: Path, name: str) -> None:
    """A link to a blob that is right once it is called `final`."""
    link.parent.mkdir(parents=True, exist_ok=True)
    link_blob(folder / "blobs" / name, link, final.parent)


def _refer(folder: Path, address: CacheAddress) -> str | None:
    """Lets the branch or tag lead to the commit; a sentence if it leads elsewhere already."""
    check_path(address.ref)
    ref = folder / "refs" / address.ref
    if not ref.exists():
        ref.parent.mkdir(parents=True, exist_ok=True)
        with draft(folder, _OURS) as made:
            made.write_text(address.commit, encoding="utf-8")
            made.replace(ref)
    there = content_of(ref, _LONGEST_REF).decode("utf-8", "replace").strip()
    if there == address.commit:
        return None
    return f"{address.ref} is {there[:12]}... in that cache and stays so: ask for revision {address.commit}"

"""Where things lie in the store.

<home>/blobs/sha256/ab/<sha256>                                the bytes, once, read-only
<home>/releases/<hub>/<org>--<name>/<revision>/<path>          a release: links to blobs
<home>/releases/.../<revision>/.internlm-zoo/release.json      what that release is (see record.py)
<home>/releases/.../<revision>/.internlm-zoo/smoke.json        what its smoke test said (see smoke_record.py)
<home>/blocks/ab/<sha256>.json                                digests of its blocks (see block_digests.py)
<home>/git/ab/<name>.<sha256>                                  other names of blobs (see aliases.py)
<home>/partial/                                                downloads under way
"""

from __future__ import annotations

import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from converters.saved import METADATA, RELEASE, SMOKE
from internlm_zoo.errors import IntegrityError, UsageError
from internlm_zoo.fs.contained import real
from internlm_zoo.names import is_sha256
from internlm_zoo.sources.paths import check_path

PARTIAL, CAME = "partial", "came"
METADATA_NAMES = (PARTIAL, CAME, RELEASE.file, SMOKE.file)


@dataclass(frozen=True)
class Store:
    """The store below one home directory; nothing is created by asking for a path."""

    home: Path

    @property
    def blobs(self) -> Path:
        return self.home / "blobs" / "sha256"

    @property
    def releases(self) -> Path:
        return self.home / "releases"

    @property
    def aliases(self) -> Path:
        return self.home / "git"

    @property
    def partial(self) -> Path:
        return self.home / "partial"

    def part_of(self, path: Path) -> Path:
        """The part of the store in which something lies; it may be a link to another disk. Raises
        IntegrityError for what lies in none."""
        parts = (self.blobs, self.releases, self.home / "blocks", self.aliases, self.partial)
        found = next((part for part in parts if path.is_relative_to(part)), None)
        if found is None:
            raise IntegrityError("it is no part of the store", path)
        return found

    def blob(self, sha256: str) -> Path:
        """Raises IntegrityError for what is no digest."""
        return self.blobs / _prefix(sha256) / sha256

    def blocks(self, sha256: str) -> Path:
        """Raises IntegrityError for what is no digest."""
        return self.home / "blocks" / _prefix(sha256) / f"{sha256}.json"

    def release(self, hub: str, repo: str, revision: str) -> Path:
        """Raises IntegrityError if one of the names would lead elsewhere."""
        parts = (hub, repo.replace("/", "--"), revision)
        for part in parts:
            check_path(part)
            if "/" in part:
                raise IntegrityError(f"refused the name {part!r}: it is not one name")
        return self.releases.joinpath(*parts)


def _prefix(sha256: str) -> str:
    if not is_sha256(sha256):
        raise IntegrityError(f"refused the digest {sha256!r}: a sha256 has 64 digits of 0-9 and a-f")
    return sha256[:2]


def is_blob(path: Path) -> bool:
    """Whether it is a file with the name of one. A link leads out of the store, or to another blob."""
    with suppress(OSError):
        return is_sha256(path.name) and stat.S_ISREG(path.lstat().st_mode)
    return False


def is_ours(path: str) -> bool:
    """Whether a path inside a release is our bookkeeping and not a file of the release."""
    return path.split("/", 1)[0].casefold() == METADATA


def check_metadata(folder: Path) -> None:
    """Raises UsageError where our own folder in it, or what we keep there, is a link: what goes there would
    be written, and removed, elsewhere."""
    for place in (folder / METADATA, *(folder / METADATA / name for name in METADATA_NAMES)):
        if place.is_symlink():
            what = "a link is in the way of what internlm-zoo keeps there"
            raise UsageError(what, place, "remove the link, or choose another folder")


def place_of(folder: Path, path: str) -> Path:
    """Where a file of a release goes in a folder. Raises IntegrityError for a name that is no place for such
    a file, UsageError if a link lies in the way that leads out of the folder."""
    check_path(path)
    if is_ours(path):
        raise IntegrityError(f"refused to write {path!r}: it is not a place for a file of the release")
    target = folder / path
    if not real(target.parent).is_relative_to(real(folder)):
        fix = "remove the link, or choose another folder"
        raise UsageError(f"a link in the way of {path} leads out of the folder", target.parent, fix)
    return target

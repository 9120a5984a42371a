"""`ab/<name>.<sha256>`: what came for a file whose hub does not list its sha256, noted as the file is kept.

<home>/git/ in the store, <folder>/.internlm-zoo/came/ in a folder of the user's. The name is of the content,
where git's sha1 is known of it, or else of the one place where it came from. Nothing needs to be in the file:
its name is there or not, so that a kill leaves no half of it. It holds the number of its form, and the hub
whose digest the bytes were compared with, if there is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from converters.formats.access import content_of
from converters.saved import ALIAS
from internlm_zoo.errors import IntegrityError, ZooError
from internlm_zoo.files import ALGORITHMS, File
from internlm_zoo.fs import contained
from internlm_zoo.names import is_sha256
from internlm_zoo.registry.lock import LockedRelease

_LONGEST = 256
"""Of what is in a note: a hub's name."""


@dataclass(frozen=True)
class Alias:
    """verified_by: the other hub that has the same bytes, if one publishes a digest of them."""

    sha256: str
    verified_by: str | None = None


def name_of(release: LockedRelease, file: File) -> str:
    """What a file is called before it is here: after its content where that is known, so that any hub can go
    on with it. Raises IntegrityError for a digest that is none."""
    if file.strongest is not None:
        digest = _checked(getattr(file.digests, file.strongest))
        return f"{digest}-{file.size}" if ALGORITHMS[file.strongest].needs_size else digest
    about = (release.id, release.revision, file.path, str(file.size), str(file.git_sha1))
    return hashlib.sha256("\0".join(about).encode()).hexdigest()


def _checked(digest: str) -> str:
    if not any(algorithm.form.fullmatch(digest) for algorithm in ALGORITHMS.values()):
        digits = " or ".join(str(algorithm.digits) for algorithm in ALGORITHMS.values())
        raise IntegrityError(f"refused the digest {digest!r}: it has {digits} digits of 0-9 and a-f")
    return digest


def remember(folder: Path, name: str, alias: Alias) -> None:
    """That the file of this name is what has this sha256. Raises OSError."""
    if name == alias.sha256:
        return
    note = folder / name[:2] / f"{name}.{_checked(alias.sha256)}"
    note.parent.mkdir(parents=True, exist_ok=True)
    with suppress(ValueError, ZooError):
        if _read(note)[0] > ALIAS.schema:
            return
    note.write_text(f"{ALIAS.schema} {alias.verified_by}" if alias.verified_by else "", encoding="utf-8")


def remembered(folder: Path, name: str) -> Alias | None:
    """None where nothing is known, or what is there is damaged, or closed to this account."""
    with suppress(OSError):
        for note in (folder / name[:2]).glob(f"{name}.*"):
            with suppress(OSError, ValueError, ZooError):
                schema, hub = _read(note)
                if is_sha256(_content(note)) and schema <= ALIAS.schema:
                    return Alias(_content(note), hub or None)
    return None


def _read(note: Path) -> tuple[int, str]:
    """The number of its form, 0 of the first, and the hub. Raises ValueError, ZooError."""
    text = content_of(note, _LONGEST).decode()
    number, _, hub = text.partition(" ")
    return (int(number), hub) if number.isdecimal() else (0, text)


def notes_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """What is remembered, with the sha256 of its content. Whatever else lies there is not ours; what a link
    leads to neither."""
    for place in _places(folder):
        yield from ((note, _content(note)) for note in sorted(place.iterdir()) if is_sha256(_content(note)))


def _places(folder: Path) -> list[Path]:
    return [place for place in sorted(folder.glob("??")) if place.is_dir() and not place.is_symlink()]


def _content(note: Path) -> str:
    return note.name.partition(".")[2]


def forget(folder: Path, contents: Collection[str]) -> None:
    """Remove it, with folders that are empty then."""
    for note in [note for note, sha256 in notes_in(folder) if sha256 in contents]:
        contained.remove(folder, note)
    for place in _places(folder):
        contained.remove_if_empty(folder, place)
    contained.remove_if_empty(folder.parent, folder)

"""What systems and tools leave in folders unasked: nobody's content, whose presence says nothing.

A folder in which nothing else lies is empty. A checkpoint's weights are not among it, and of a download it is
neither part nor extra.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator
from fnmatch import translate
from pathlib import Path

# By file systems, desktops and file servers, at any depth. Names are compared without regard to case.
SYSTEMS: dict[str, tuple[str, ...]] = {
    "ext2, ext3, ext4": ("lost+found",),
    "macOS": (
        *("._*", ".ds_store", ".spotlight-v100", ".fseventsd", ".trashes", ".temporaryitems", ".localized"),
        *(".documentrevisions-v100", ".apdisk", ".appledouble", ".volumeicon.icns", "icon\r"),
    ),
    "Windows": ("system volume information", "$recycle.bin", "thumbs.db", "ehthumbs.db", "desktop.ini"),
    "Linux desktops": (".trash", ".trash-*", ".directory"),
    "snapshots": (".snapshot", ".snapshots", "~snapshot", ".zfs", ".ckpt"),
    "NFS, FUSE, SMB, of files that are still open": (".nfs*", ".fuse_hidden*", ".smbdelete*"),
    "Synology, QNAP": ("@eadir", "#recycle", "#snapshot", "@recycle", ".@__thumb"),
}
# By tools that fetch, version or synchronise what a folder holds: a path from the folder on.
TOOLS: dict[str, tuple[str, ...]] = {
    "git": (".git", ".gitattributes", ".gitignore"),
    "huggingface_hub": (".cache/huggingface", ".huggingface"),
    "modelscope": (".msc", ".mv", ".mdl", "._____temp", ".cache/modelscope"),
    "openMind": (".cache/openmind",),
    "Syncthing": (".stfolder", ".stversions", ".stignore"),
}
LISTED = frozenset({".gitattributes", ".gitignore"})
"""Those that a repository has for git, and that hubs list as files of the release all the same."""

_BY_SYSTEMS = tuple(name for names in SYSTEMS.values() for name in names)
_IS_BY_SYSTEMS = re.compile("|".join(map(translate, _BY_SYSTEMS))).match
_BY_TOOLS = tuple(path for paths in TOOLS.values() for path in paths)


def is_of_a_system(name: str) -> bool:
    """Of a file or folder, whatever it is in."""
    return _IS_BY_SYSTEMS(name.casefold()) is not None


def is_bystander(path: str) -> bool:
    """Of a path inside a folder, with forward slashes: whether it is, or lies in, what a system or a tool
    left."""
    by_tool = any(path == left or path.startswith(f"{left}/") for left in _BY_TOOLS)
    return by_tool or any(map(is_of_a_system, path.split("/")))


def is_empty(folder: Path, but: Collection[str] = ()) -> bool:
    """Whether nothing lies in a folder but what a system left, or has one of these names. Raises OSError."""
    return all(path.name in but or is_of_a_system(path.name) for path in folder.iterdir())


def walk(
    folder: str | os.PathLike[str], onerror: Callable[[OSError], object] = lambda error: None
) -> Iterator[tuple[str, list[str], list[str]]]:
    """As os.walk from the top down, but of folders in folders without end: os.walk takes a frame for each
    until there are none (before 3.12)."""
    waiting = [os.fspath(folder)]
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(place) as found:
                entries = [(entry.name, _is_folder(entry)) for entry in found]
        except OSError as error:
            onerror(error)
            continue
        folders = [name for name, is_folder in entries if is_folder]
        yield place, folders, [name for name, is_folder in entries if not is_folder]
        below = (os.path.join(place, name) for name in reversed(folders))  # noqa: PTH118 - as os.walk has it
        waiting += [path for path in below if not os.path.islink(path)]  # noqa: PTH114


def walk_files(folder: Path) -> Iterator[Path]:
    """The files in a folder, and what is no folder besides, but for what systems left; in the order of their
    folders."""
    for parent, folders, names in walk(folder):
        folders[:] = sorted(name for name in folders if not is_of_a_system(name))
        yield from (Path(parent, name) for name in names if not is_of_a_system(name))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def files_below(folder: Path, wanted: Collection[str] = (), *, links: bool = False) -> Iterator[str]:
    """Paths of the files in a folder, with forward slashes; what systems and tools left is not looked at,
    unless it is wanted. links: list links to folders, too, which are not followed."""
    for parent, folders, names in walk(folder):
        below = Path(parent).relative_to(folder)
        more = [name for name in folders if links and Path(parent, name).is_symlink()]
        folders[:] = [name for name in folders if _is_looked_at((below / name).as_posix(), wanted)]
        for name in (*names, *more):
            path = (below / name).as_posix()
            if _is_looked_at(path, wanted):
                yield path


def _is_looked_at(path: str, wanted: Collection[str]) -> bool:
    return not is_bystander(path) or any(file == path or file.startswith(f"{path}/") for file in wanted)

"""What may be the name of a file: paths inside a release, and digests, which become paths of the store.

A path is good only if it means the same file, inside the release, on every system we run on, whoever lists
it: a hub, a lock, a record or an index that others may have written. A digest is 64 or 40 lower-case hex
digits and nothing else, so that no path that is made from one leads elsewhere.

Facts: learn.microsoft.com, "Naming Files, Paths, and Namespaces" (characters, devices, short names); git's
path.c, is_ntfs_dotgit, for what else `.git` is called.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST_NAME = 255
"""In bytes, as most file systems have it."""
LONGEST_PATH = 768
"""In bytes: with 255 for the folder that it is put into, what macOS takes; Linux takes four times that."""
DEEPEST_PATH = 32
"""Names in one path."""

_WINDOWS_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"}
    | {f"{device}{digit}" for device in ("com", "lpt") for digit in "0123456789¹²³"}
)
_WINDOWS_FORBIDS = frozenset('<>"|?*')
# What Windows may call another file of the folder beside its name: GIT~1 is .git, INTERN~1 is .internlm-zoo.
_SHORT_NAME = re.compile(r"(?=[^.]{1,8}(\.|$))[^.]{1,6}~[0-9]{1,6}(\.[^.]{0,3})?")
_INVISIBLE = frozenset({"Cc", "Cf", "Cs"})
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")


def is_sha256(text: str) -> bool:
    return _SHA256.fullmatch(text) is not None


def is_sha1(text: str) -> bool:
    """Of git: of a commit, or of a file as a blob."""
    return _SHA1.fullmatch(text) is not None


def fault_in(path: str) -> str | None:
    """Why it is no plain relative path, with forward slashes; None if it is one."""
    if not path:
        return "it is empty"
    if path.startswith("/"):
        return "it is absolute"
    if len(path.encode("utf-8", "surrogatepass")) > LONGEST_PATH:
        return f"it is longer than {LONGEST_PATH} bytes"
    if path.count("/") >= DEEPEST_PATH:
        return f"it has more than {DEEPEST_PATH} parts"
    is_plain = path.isascii() and path.isprintable()  # soon known of most names
    if not is_plain and any(unicodedata.category(sign) in _INVISIBLE for sign in path):
        return "it holds a control or invisible character"
    if "\\" in path or ":" in path:
        return "it means another place on Windows"
    return next(filter(None, map(_fault_in_part, path.split("/"))), None)


def _fault_in_part(part: str) -> str | None:
    if part in ("", ".", ".."):
        return f"it holds the path step {part!r}"
    if part[-1] in ". ":
        return "Windows drops a trailing dot or space"
    if not _WINDOWS_FORBIDS.isdisjoint(part):
        return 'Windows has no name with one of < > " | ? *'
    if part.split(".", 1)[0].rstrip().lower() in _WINDOWS_RESERVED:
        return f"{part!r} is a device on Windows"
    if part.lower() == ".git":
        return "it would write into a git repository"
    if _SHORT_NAME.fullmatch(part):
        return f"{part!r} can be the short name of another file on Windows"
    if len(part.encode()) > LONGEST_NAME:
        return f"a name longer than {LONGEST_NAME} bytes"
    return None

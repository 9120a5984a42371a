"""How a location can fail to deliver, and what each failure calls for.

The traps are those of the hubs' protocols: statuses, pages and pointers in place of bytes, wrong lengths.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from urllib.parse import urlsplit

from internlm_zoo.errors import (
    AccessError,
    CredentialError,
    IntegrityError,
    NetworkError,
    NoSpaceError,
    NotFoundError,
    UnsupportedError,
    ZooError,
)
from internlm_zoo.net.retry_after import retry_after

PAGE = "an HTML page instead of the file"
POINTER = "an LFS pointer instead of the file"


class Recovery(Enum):
    """What to do about a location that did not deliver."""

    RETRY = "the same again after a while, another origin meanwhile"
    RETRY_ONCE = "the same once more after a while: it may not have been meant"
    RELOCATE = "ask the source where the bytes are now"
    RESTART = "drop what is here and begin at zero"
    SWITCH = "another origin is faster"
    GIVE_UP = "never again for this file"


class TransferFailure(Exception):
    """One location did not deliver. error: what to tell if nobody else does. after: seconds it asked us to
    wait. is_usual: it happens where nothing is wrong."""

    def __init__(
        self, error: ZooError, recovery: Recovery, after: float = 0.0, *, is_usual: bool = False
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.recovery = recovery
        self.after = after
        self.is_usual = is_usual


_STATUSES: dict[int, tuple[Recovery, type[ZooError], str]] = {
    202: (Recovery.RETRY, NetworkError, "has not got it ready"),
    204: (Recovery.RETRY_ONCE, NetworkError, "answers without content"),
    205: (Recovery.RETRY_ONCE, NetworkError, "answers without content"),
    400: (Recovery.RELOCATE, NetworkError, "calls the request malformed"),
    401: (Recovery.RELOCATE, AccessError, "wants other credentials"),
    403: (Recovery.RELOCATE, AccessError, "gives no access"),
    404: (Recovery.GIVE_UP, NotFoundError, "does not have it"),
    408: (Recovery.RETRY, NetworkError, "timed out"),
    410: (Recovery.RELOCATE, NotFoundError, "no longer has it"),
    416: (Recovery.RESTART, IntegrityError, "has fewer bytes than expected"),
    425: (Recovery.RETRY, NetworkError, "is not ready"),
    429: (Recovery.RETRY, NetworkError, "asks for fewer requests"),
}


def by_status(status: int, url: str, headers: Mapping[str, str], way: str = "") -> TransferFailure:
    """The failure that an HTTP status other than 200 and 206 means. way: by which it came, as a clause."""
    unknown = (
        (Recovery.RETRY, NetworkError, "is in trouble")
        if status >= 500
        else (Recovery.GIVE_UP, NetworkError, "gives no bytes")
    )
    recovery, error, what = _STATUSES.get(status, unknown)
    fix = "log in, or ask the repository's owner for access" if error is AccessError else None
    after = retry_after(headers.get("Retry-After", ""))
    asked = f", and asks to wait {after:.0f} s" if after else ""
    return TransferFailure(error(f"{host(url)} {what} (HTTP {status}{way}){asked}", fix=fix), recovery, after)


def timed_out(url: str, cause: object) -> TransferFailure:
    """Nothing came, or it stopped coming."""
    return TransferFailure(NetworkError(f"{host(url)} stopped answering: {cause}"), Recovery.RETRY)


def throttled(url: str, rate: float) -> TransferFailure:
    """Bytes come, but others may bring them sooner."""
    return TransferFailure(NetworkError(f"{host(url)} delivers only {rate:,.0f} bytes/s"), Recovery.SWITCH)


def truncated(url: str, path: str, there: int, promised: int) -> TransferFailure:
    """The answer ended, in good order, before the bytes that it promised."""
    what = f"cuts {path} short, at byte {there:,} of {promised:,}"
    return TransferFailure(IntegrityError(f"{host(url)} {what}"), Recovery.RETRY)


def violation(url: str, what: str) -> TransferFailure:
    """The answer contradicts the request, or what is known of the file."""
    return TransferFailure(IntegrityError(f"{host(url)} {what}"), Recovery.GIVE_UP)


def suspect(url: str, what: str, *, is_usual: bool = False) -> TransferFailure:
    """Something else came than the file: what a gateway says now and then, and once is not meant."""
    return TransferFailure(IntegrityError(f"{host(url)} {what}"), Recovery.RETRY_ONCE, is_usual=is_usual)


def changed(url: str, what: str) -> TransferFailure:
    """What is here belongs to another version of the file than what comes now."""
    return TransferFailure(NetworkError(f"{host(url)} {what}"), Recovery.RESTART)


def host(url: str) -> str:
    """What of a URL may be shown: no path, no query, no user, since any of them may hold a secret."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return "the directory"
    return parts.netloc.rpartition("@")[2] or "the server"


def most_severe(errors: Iterable[ZooError]) -> type[ZooError]:
    """The class of the one error that stands for several: wrong bytes before all else, then a lack of room,
    absence only if all agree."""
    kinds = [type(error) for error in errors]
    for first in (IntegrityError, NoSpaceError):
        if any(issubclass(kind, first) for kind in kinds):
            return first
    for agreed in (NotFoundError, CredentialError, AccessError, UnsupportedError):
        if all(issubclass(kind, agreed) for kind in kinds):
            return agreed
    absent = (NotFoundError, AccessError)
    return AccessError if all(issubclass(kind, absent) for kind in kinds) else NetworkError


def placeholder(first: bytes) -> str | None:
    """What pretends to be the file, judging by its first bytes."""
    start = first[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"version https://git-lfs"):
        return POINTER
    if start.startswith((b"<!doctype html", b"<html")):
        return PAGE
    return None

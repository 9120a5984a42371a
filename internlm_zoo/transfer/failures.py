"""How a location can fail to deliver, and what each failure calls for.

The traps are those of the hubs' protocols: statuses, pages and pointers in place of bytes, lies about
length.
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

    WAIT = "the same again after a while, another origin meanwhile"
    DOUBT = "the same once more after a while: it may not have been meant"
    ASK = "ask the source where the bytes are now"
    RESTART = "drop what is here and begin at zero"
    YIELD = "another origin is faster"
    LEAVE = "never again for this file"


class TransferFailure(Exception):
    """One location did not deliver. error: what to tell if nobody else does. after: seconds it asked us to
    wait. is_usual: it happens where nothing is wrong."""

    def __init__(
        self, error: ZooError, remedy: Recovery, after: float = 0.0, *, is_usual: bool = False
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.remedy = remedy
        self.after = after
        self.is_usual = is_usual


_STATUSES: dict[int, tuple[Recovery, type[ZooError], str]] = {
    202: (Recovery.WAIT, NetworkError, "has not got it ready"),
    204: (Recovery.DOUBT, NetworkError, "answers without content"),
    205: (Recovery.DOUBT, NetworkError, "answers without content"),
    400: (Recovery.ASK, NetworkError, "calls the request malformed"),
    401: (Recovery.ASK, AccessError, "wants other credentials"),
    403: (Recovery.ASK, AccessError, "gives no access"),
    404: (Recovery.LEAVE, NotFoundError, "does not have it"),
    408: (Recovery.WAIT, NetworkError, "timed out"),
    410: (Recovery.ASK, NotFoundError, "no longer has it"),
    416: (Recovery.RESTART, IntegrityError, "has fewer bytes than expected"),
    425: (Recovery.WAIT, NetworkError, "is not ready"),
    429: (Recovery.WAIT, NetworkError, "asks for fewer requests"),
}


def by_status(status: int, url: str, headers: Mapping[str, str], way: str = "") -> TransferFailure:
    """The refusal that an HTTP status other than 200 and 206 means. way: by which it came, as a clause."""
    unknown = (
        (Recovery.WAIT, NetworkError, "is in trouble")
        if status >= 500
        else (Recovery.LEAVE, NetworkError, "gives no bytes")
    )
    remedy, error, what = _STATUSES.get(status, unknown)
    fix = "log in, or ask the repository's owner for access" if error is AccessError else None
    after = retry_after(headers.get("Retry-After", ""))
    asked = f", and asks to wait {after:.0f} s" if after else ""
    return TransferFailure(error(f"{host(url)} {what} (HTTP {status}{way}){asked}", fix=fix), remedy, after)


def silent(url: str, cause: object) -> TransferFailure:
    """Nothing came, or it stopped coming."""
    return TransferFailure(NetworkError(f"{host(url)} stopped answering: {cause}"), Recovery.WAIT)


def throttled(url: str, rate: float) -> TransferFailure:
    """Bytes come, but others may bring them sooner."""
    return TransferFailure(NetworkError(f"{host(url)} delivers only {rate:,.0f} bytes/s"), Recovery.YIELD)


def cut(url: str, path: str, there: int, promised: int) -> TransferFailure:
    """The answer ended, in good order, before the bytes that it promised."""
    what = f"cuts {path} short, at byte {there:,} of {promised:,}"
    return TransferFailure(IntegrityError(f"{host(url)} {what}"), Recovery.WAIT)


def lie(url: str, what: str) -> TransferFailure:
    """The answer contradicts the request, or what is known of the file."""
    return TransferFailure(IntegrityError(f"{host(url)} {what}"), Recovery.LEAVE)


def doubted(url: str, what: str, *, is_usual: bool = False) -> TransferFailure:
    """Something else came than the file: what a gateway says now and then, and once is not meant."""
    return TransferFailure(IntegrityError(f"{host(url)} {what}"), Recovery.DOUBT, is_usual=is_usual)


def changed(url: str, what: str) -> TransferFailure:
    """What is here belongs to another version of the file than what comes now."""
    return TransferFailure(NetworkError(f"{host(url)} {what}"), Recovery.RESTART)


def host(url: str) -> str:
    """What of a URL may be shown: no path, no query, no user, since any of them may hold a secret."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return "the directory"
    return parts.netloc.rpartition("@")[2] or "the server"


def gravest(errors: Iterable[ZooError]) -> type[ZooError]:
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


def disguise(first: bytes) -> str | None:
    """What pretends to be the file, judging by its first bytes."""
    start = first[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"version https://git-lfs"):
        return POINTER
    if start.startswith((b"<!doctype html", b"<html")):
        return PAGE
    return None

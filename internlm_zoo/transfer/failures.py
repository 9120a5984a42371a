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


class Remedy(Enum):
    """What to do about a location that did not deliver."""

    WAIT = "the same again after a while, another origin meanwhile"
    DOUBT = "the same once more after a while: it may not have been meant"
    ASK = "ask the source where the bytes are now"
    RESTART = "drop what is here and begin at zero"
    YIELD = "another origin is faster"
    LEAVE = "never again for this file"


class Refusal(Exception):
    """One location did not deliver. error: what to tell if nobody else does. after: seconds it asked us to
    wait. is_usual: it happens where nothing is wrong."""

    def __init__(
        self, error: ZooError, remedy: Remedy, after: float = 0.0, *, is_usual: bool = False
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.remedy = remedy
        self.after = after
        self.is_usual = is_usual


_STATUSES: dict[int, tuple[Remedy, type[ZooError], str]] = {
    202: (Remedy.WAIT, NetworkError, "has not got it ready"),
    204: (Remedy.DOUBT, NetworkError, "answers without content"),
    205: (Remedy.DOUBT, NetworkError, "answers without content"),
    400: (Remedy.ASK, NetworkError, "calls the request malformed"),
    401: (Remedy.ASK, AccessError, "wants other credentials"),
    403: (Remedy.ASK, AccessError, "gives no access"),
    404: (Remedy.LEAVE, NotFoundError, "does not have it"),
    408: (Remedy.WAIT, NetworkError, "timed out"),
    410: (Remedy.ASK, NotFoundError, "no longer has it"),
    416: (Remedy.RESTART, IntegrityError, "has fewer bytes than expected"),
    425: (Remedy.WAIT, NetworkError, "is not ready"),
    429: (Remedy.WAIT, NetworkError, "asks for fewer requests"),
}


def by_status(status: int, url: str, headers: Mapping[str, str], way: str = "") -> Refusal:
    """The refusal that an HTTP status other than 200 and 206 means. way: by which it came, as a clause."""
    unknown = (
        (Remedy.WAIT, NetworkError, "is in trouble")
        if status >= 500
        else (Remedy.LEAVE, NetworkError, "gives no bytes")
    )
    remedy, error, what = _STATUSES.get(status, unknown)
    fix = "log in, or ask the repository's owner for access" if error is AccessError else None
    after = retry_after(headers.get("Retry-After", ""))
    asked = f", and asks to wait {after:.0f} s" if after else ""
    return Refusal(error(f"{host(url)} {what} (HTTP {status}{way}){asked}", fix=fix), remedy, after)


def silent(url: str, cause: object) -> Refusal:
    """Nothing came, or it stopped coming."""
    return Refusal(NetworkError(f"{host(url)} stopped answering: {cause}"), Remedy.WAIT)


def throttled(url: str, rate: float) -> Refusal:
    """Bytes come, but others may bring them sooner."""
    return Refusal(NetworkError(f"{host(url)} delivers only {rate:,.0f} bytes/s"), Remedy.YIELD)


def cut(url: str, path: str, there: int, promised: int) -> Refusal:
    """The answer ended, in good order, before the bytes that it promised."""
    what = f"cuts {path} short, at byte {there:,} of {promised:,}"
    return Refusal(IntegrityError(f"{host(url)} {what}"), Remedy.WAIT)


def lie(url: str, what: str) -> Refusal:
    """The answer contradicts the request, or what is known of the file."""
    return Refusal(IntegrityError(f"{host(url)} {what}"), Remedy.LEAVE)


def doubted(url: str, what: str, *, is_usual: bool = False) -> Refusal:
    """Something else came than the file: what a gateway says now and then, and once is not meant."""
    return Refusal(IntegrityError(f"{host(url)} {what}"), Remedy.DOUBT, is_usual=is_usual)


def changed(url: str, what: str) -> Refusal:
    """What is here belongs to another version of the file than what comes now."""
    return Refusal(NetworkError(f"{host(url)} {what}"), Remedy.RESTART)


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

"""How a location can fail to deliver, and what each failure calls for.

The traps are those of the hubs' protocols: statuses, pages and pointers in place of bytes, wrong lengths.
"""

from __future__ import annotations

from collections.abc import Mapping

from internlm_zoo.errors import AccessError, IntegrityError, NetworkError, ZooError
from internlm_zoo.net.addresses import host_of
from internlm_zoo.net.statuses import Recovery, asked_wait, meaning_of

PAGE = "an HTML page instead of the file"
POINTER = "an LFS pointer instead of the file"


class TransferFailure(Exception):
    """One location did not deliver. error: what to tell if nobody else does. retry_after: seconds it asked
    us to wait. is_usual: it happens where nothing is wrong."""

    def __init__(
        self, error: ZooError, recovery: Recovery, retry_after: float = 0.0, *, is_usual: bool = False
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.recovery = recovery
        self.retry_after = retry_after
        self.is_usual = is_usual


def by_status(status: int, url: str, headers: Mapping[str, str], via: str = "") -> TransferFailure:
    """The failure that an HTTP status other than 200 and 206 means. via: by which way it came, as a
    clause."""
    meaning, (after, asked) = meaning_of(status), asked_wait(headers)
    fix = "log in, or ask the repository's owner for access" if meaning.error is AccessError else None
    what = f"{host_of(url)} {meaning.words} (HTTP {status}{via}){asked}"
    return TransferFailure(meaning.error(what, fix=fix), meaning.recovery, after)


def timed_out(url: str, cause: object) -> TransferFailure:
    """Nothing came, or it stopped coming."""
    return TransferFailure(NetworkError(f"{host_of(url)} stopped answering: {cause}"), Recovery.RETRY)


def throttled(url: str, rate: float) -> TransferFailure:
    """Bytes come, but others may bring them sooner."""
    return TransferFailure(NetworkError(f"{host_of(url)} delivers only {rate:,.0f} bytes/s"), Recovery.SWITCH)


def truncated(url: str, path: str, there: int, promised: int) -> TransferFailure:
    """The answer ended, in good order, before the bytes that it promised."""
    what = f"cuts {path} short, at byte {there:,} of {promised:,}"
    return TransferFailure(IntegrityError(f"{host_of(url)} {what}"), Recovery.RETRY)


def violation(url: str, what: str) -> TransferFailure:
    """The answer contradicts the request, or what is known of the file."""
    return TransferFailure(IntegrityError(f"{host_of(url)} {what}"), Recovery.GIVE_UP)


def suspect(url: str, what: str, *, is_usual: bool = False) -> TransferFailure:
    """Something else came than the file: what a gateway says now and then, and once is not meant."""
    return TransferFailure(IntegrityError(f"{host_of(url)} {what}"), Recovery.RETRY_ONCE, is_usual=is_usual)


def changed(url: str, what: str) -> TransferFailure:
    """What is here belongs to another version of the file than what comes now."""
    return TransferFailure(NetworkError(f"{host_of(url)} {what}"), Recovery.RESTART)


def placeholder(first: bytes) -> str | None:
    """What pretends to be the file, judging by its first bytes."""
    start = first[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"version https://git-lfs"):
        return POINTER
    if start.startswith((b"<!doctype html", b"<html")):
        return PAGE
    return None

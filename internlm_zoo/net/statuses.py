"""What an HTTP status that is no success means and calls for, and when its host wants to be asked again: one
table for listings and bytes."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from internlm_zoo.errors import AccessError, IntegrityError, NetworkError, NotFoundError, ZooError

# Seconds. More is no time to wait for, and is not said either.
_LONGEST_ASKED = 366 * 86_400.0
# Of an HTTP date are 29 needed (RFC 9110, section 5.6.7), a few more in older forms.
_LONGEST_DATE = 64


class Recovery(Enum):
    """What to do about a location that did not deliver."""

    RETRY = "the same again after a while, another endpoint meanwhile"
    RETRY_ONCE = "the same once more after a while: it may not have been meant"
    RELOCATE = "ask the source where the bytes are now"
    RESTART = "drop what is here and begin at zero"
    SWITCH = "another endpoint is faster"
    GIVE_UP = "never again for this file"


@dataclass(frozen=True)
class Meaning:
    """error: what it is if it stays so. words: of a host, as a clause."""

    recovery: Recovery
    error: type[ZooError]
    words: str


_MEANINGS = {
    202: Meaning(Recovery.RETRY, NetworkError, "has not got it ready"),
    204: Meaning(Recovery.RETRY_ONCE, NetworkError, "answers without content"),
    205: Meaning(Recovery.RETRY_ONCE, NetworkError, "answers without content"),
    400: Meaning(Recovery.RELOCATE, NetworkError, "calls the request malformed"),
    401: Meaning(Recovery.RELOCATE, AccessError, "wants other credentials"),
    403: Meaning(Recovery.RELOCATE, AccessError, "gives no access"),
    404: Meaning(Recovery.GIVE_UP, NotFoundError, "does not have it"),
    408: Meaning(Recovery.RETRY, NetworkError, "timed out"),
    410: Meaning(Recovery.RELOCATE, NotFoundError, "no longer has it"),
    416: Meaning(Recovery.RESTART, IntegrityError, "has fewer bytes than expected"),
    425: Meaning(Recovery.RETRY, NetworkError, "is not ready"),
    429: Meaning(Recovery.RETRY, NetworkError, "asks for fewer requests"),
}
_OF_SERVERS = Meaning(Recovery.RETRY, NetworkError, "is in trouble")
_OTHERS = Meaning(Recovery.GIVE_UP, NetworkError, "gives no bytes")


def meaning_of(status: int) -> Meaning:
    return _MEANINGS.get(status, _OF_SERVERS if status >= 500 else _OTHERS)


def is_refusal(status: int) -> bool:
    """Whether it is what a host answers to whoever it does not know, or knows and does not let in."""
    return meaning_of(status).error is AccessError


def asked_wait(headers: Mapping[str, str]) -> tuple[float, str]:
    """Seconds that an answer asks to wait, and that as a clause; 0 and nothing where it does not."""
    seconds = retry_after(headers.get("Retry-After", ""))
    return seconds, f", and asks to wait {seconds:.0f} s" if seconds else ""


def retry_after(text: str) -> float:
    """Seconds, from either form of the Retry-After header, a year at most; 0 where it says no time."""
    text = text.strip()
    seconds = float(text) if text.isdecimal() else _until(text)
    return min(max(0.0, seconds), _LONGEST_ASKED)


def _until(text: str) -> float:
    """From now to a date. The standard library's reader of dates fails at some of what is none."""
    if len(text) > _LONGEST_DATE:
        return 0.0
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0

"""What a server says of when to ask it again."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping

LONGEST = 366 * 86_400.0
"""Seconds. More is no time to wait for, and is not said either."""

# Of an HTTP date are 29 needed (RFC 9110, section 5.6.7), a few more in older forms.
_LETTERS = 64


def asked_wait(headers: Mapping[str, str]) -> tuple[float, str]:
    """Seconds that an answer asks to wait, and that as a clause; 0 and nothing where it does not."""
    seconds = retry_after(headers.get("Retry-After", ""))
    return seconds, f", and asks to wait {seconds:.0f} s" if seconds else ""


def retry_after(text: str) -> float:
    """Seconds, from either form of the Retry-After header, LONGEST at most; 0 where it says nothing
    sensible."""
    text = text.strip()
    seconds = float(text) if text.isdecimal() else _until(text)
    return min(max(0.0, seconds), LONGEST)


def _until(text: str) -> float:
    """From now to a date. The standard library's reader of dates fails at some of what is none."""
    if len(text) > _LETTERS:
        return 0.0
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0

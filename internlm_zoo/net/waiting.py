"""What a server says of when to ask it again."""

from __future__ import annotations

import email.utils
import time


def retry_after(text: str) -> float:
    """Seconds, from either form of the Retry-After header; 0 where it says nothing sensible."""
    text = text.strip()
    if text.isdecimal():
        return float(text)
    date = email.utils.parsedate_tz(text) if text else None
    return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else 0.0

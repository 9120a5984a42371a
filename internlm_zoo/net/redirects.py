"""Redirects: followed here and not by urllib3, because headers may hold credentials. These go to their own
origin alone, and encryption is never given up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from internlm_zoo.net.addresses import WEB, host_of
from internlm_zoo.net.diagnosis import TRANSPORT_ERRORS

MAX_REDIRECTS = 10
LONGEST_NAME = 253
"""Characters of a host's name (RFC 1035, section 2.3.4, without the root's dot)."""

_STATUSES = frozenset({301, 302, 303, 307, 308})
# Bytes of a redirect's own body that are worth reading to keep the connection.
_SMALL = 1 << 16


class RedirectError(Exception):
    """What a server does, as a clause: it redirects for ever. url: which does."""

    def __init__(self, url: str, what: str) -> None:
        super().__init__(what)
        self.url = url


class Downgrade(RedirectError):
    """It leads from https to http."""


def follow(url: str, ask: Callable[[str], urllib3.BaseHTTPResponse]) -> tuple[str, urllib3.BaseHTTPResponse]:
    """Where the redirects from `url` end, and the answer there. ask: decides which headers go along to each.

    A redirect that leads to no web address is the answer itself. Raises RedirectError, Downgrade, and
    what `ask` raises.
    """
    first = url
    for _ in range(MAX_REDIRECTS):
        answer = ask(url)
        target = target_of(url, answer.status, answer.headers)
        if target is None:
            return url, answer
        discard(answer)
        if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
            what = f"redirects from https to plain {urlsplit(target).scheme} ({host_of(target)})"
            raise Downgrade(url, f"{what}, which is refused")
        url = target
    raise RedirectError(first, f"redirects more than {MAX_REDIRECTS} times")


def target_of(url: str, status: int, headers: Mapping[str, str]) -> str | None:
    """Where an answer from `url` leads to; None if nowhere, or to what is no web address."""
    if not is_redirect(status):
        return None
    try:
        target = urljoin(url, headers.get("Location", ""))
        parts = urlsplit(target)
        _origin(target)
        parse_url(target)  # which will have to make a host name of it
    except (ValueError, LocationParseError):
        return None
    is_web = parts.scheme in WEB and parts.hostname and headers.get("Location")
    return target if is_web and len(str(parts.hostname)) <= LONGEST_NAME else None


def is_redirect(status: int) -> bool:
    return status in _STATUSES


def same_origin(url: str, other: str) -> bool:
    """Whether scheme, host and port are the same (RFC 6454, section 4), which credentials are bound to."""
    return _origin(url) == _origin(other)


def discard(answer: urllib3.BaseHTTPResponse) -> None:
    """Give the connection back for the next request, unless that means reading much."""
    length = answer.headers.get("Content-Length", "")
    # Thousands of digits take `int` a while.
    if length.isdecimal() and len(length) <= len(str(_SMALL)) and int(length) <= _SMALL:
        with suppress(*TRANSPORT_ERRORS):
            answer.read(_SMALL, decode_content=False)
    answer.close()


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or WEB.get(parts.scheme)

"""Where an answer leads on to: credentials go to their own door alone, and encryption is never given up."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from internlm_zoo.net.addresses import WEB, host_of

STATUSES = frozenset({301, 302, 303, 307, 308})
HOPS = 10
LONGEST_NAME = 253
"""Characters of a host's name (RFC 1035, section 2.3.4, without the root's dot)."""


def door(url: str) -> tuple[str, str | None, int | None]:
    """What credentials are bound to: scheme, host, port."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or WEB.get(parts.scheme)


def target_of(url: str, headers: Mapping[str, str]) -> str | None:
    """Where an answer from `url` leads to; None if that is no web address."""
    try:
        target = urljoin(url, headers.get("Location", ""))
        parts = urlsplit(target)
        door(target)
        parse_url(target)  # which will have to make a host name of it
    except (ValueError, LocationParseError):
        return None
    is_web = parts.scheme in WEB and parts.hostname and headers.get("Location")
    return target if is_web and len(str(parts.hostname)) <= LONGEST_NAME else None


def downgrade(url: str, target: str) -> str | None:
    """What is wrong with a redirect from `url` that would give up encryption; None if it does not."""
    if urlsplit(url).scheme != "https" or urlsplit(target).scheme == "https":
        return None
    return f"redirects from https to plain {urlsplit(target).scheme} ({host_of(target)}), which is refused"

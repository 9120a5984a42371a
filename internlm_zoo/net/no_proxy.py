"""NO_PROXY: which hosts are asked without the proxy. One rule for all that is asked.

The entries are those of curl (https://curl.se/docs/manpage.html, NO_PROXY) and requests together: names with
all below them, with or without a dot in front; addresses, also with a prefix length; any of them with a port;
`*` for all. Commas or blanks stand between them.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_BETWEEN = re.compile(r"[,;\s]+")
_WITH_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]]*):(\d+)")

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


def bypasses_proxy(url: str, no_proxy: str) -> bool:
    """Whether `no_proxy` excepts the host of an http(s) URL, or its port."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    entries = (entry.strip("'\"").lower() for entry in _BETWEEN.split(no_proxy))
    return any(_matches(entry, host, port) for entry in entries if entry)


def is_address(host: str) -> bool:
    """Whether it is one already, and no name."""
    return _ip(host) is not None


def _matches(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    entry = entry.partition("://")[2] or entry
    if (found := _WITH_PORT.fullmatch(entry)) is not None:
        if int(found[2]) != port:
            return False
        entry = found[1]
    entry = entry.strip("[]")
    address = _ip(host)
    if address is not None:
        return _contains(entry, address)
    name = entry.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith("." + name))


def _contains(entry: str, address: _Ip) -> bool:
    """Whether an entry is this address, or a network with it. An IPv4 address may be written as IPv6."""
    try:
        network = ipaddress.ip_network(entry.partition("%")[0], strict=False)
    except ValueError:
        return False
    plain = getattr(address, "ipv4_mapped", None) or address
    return address in network or plain in network


def _ip(host: str) -> _Ip | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None

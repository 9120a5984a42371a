"""The proxy that the environment names for a URL: `http_proxy`, `https_proxy`, or else `all_proxy`, in small
letters or capitals, unless `no_proxy` excepts the host. One rule for all that is asked.

Desktop proxies export all three, the last one with a SOCKS address; it is not looked at where the first two
say enough. An address without a scheme is one of http, as curl has it. `socks://`, which desktops write, says
no version; what listens there speaks 5, and is given the name to look up.

The entries of `no_proxy` are those of curl (https://curl.se/docs/manpage.html, NO_PROXY) and requests
together: names with all below them, with or without a dot in front; addresses, also with a prefix length; any
of them with a port; `*` for all. Commas or blanks stand between them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from internlm_zoo.net.addresses import WEB, Ip, ProxyAddress, basic_auth, ip_of, parse_address, unquoted

SOCKS = frozenset({"socks4", "socks4a", "socks5", "socks5h"})

_SOCKS_PORT = 1080
_PORTS = {**WEB, **dict.fromkeys(("socks5", "socks5h", "socks4", "socks4a", "socks"), _SOCKS_PORT)}
_BETWEEN = re.compile(r"[,;\s]+")
_WITH_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]]*):(\d+)")


@dataclass(frozen=True)
class Proxy:
    """variable: which names it."""

    address: ProxyAddress
    variable: str

    def __str__(self) -> str:
        return f"the proxy {self.address.place}, named by {self.variable},"

    @property
    def is_socks(self) -> bool:
        return self.address.scheme in SOCKS

    @property
    def resolves_locally(self) -> bool:
        """Whether names of hosts are looked up on this machine, and not by the proxy."""
        return self.address.scheme in ("socks4", "socks5")

    @property
    def headers(self) -> dict[str, str]:
        """What it wants to see of the user and password in its address."""
        return basic_auth(self.address.userinfo, "Proxy-Authorization")


def proxy_for(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for an http(s) URL; None where there is none, or the host is excepted.

    Raises VariableError for an address that is none, but not for those of variables that do not apply.
    """
    _, no_proxy = _find("no_proxy", environ)
    if bypasses_proxy(url, no_proxy):
        return None
    for name in (f"{urlsplit(url).scheme}_proxy", "all_proxy"):
        variable, text = _find(name, environ)
        if text:
            return Proxy(_address(text, variable), variable)
    return None


def bypasses_proxy(url: str, no_proxy: str) -> bool:
    """Whether `no_proxy` excepts the host of an http(s) URL, or its port."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or WEB.get(parts.scheme)
    entries = (entry.strip("'\"").lower() for entry in _BETWEEN.split(no_proxy))
    return any(_matches(entry, host, port) for entry in entries if entry)


def _find(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The variable, as it is written, and what it says; small letters come first, as everywhere."""
    for variable in (name, name.upper()):
        if text := unquoted(environ.get(variable, "")):
            return variable, text
    return name, ""


def _address(text: str, variable: str) -> ProxyAddress:
    address = parse_address(text, variable, _PORTS, otherwise="http")
    return replace(address, path="", scheme="socks5h" if address.scheme == "socks" else address.scheme)


def _matches(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    entry = entry.partition("://")[2] or entry
    if (found := _WITH_PORT.fullmatch(entry)) is not None:
        if int(found[2]) != port:
            return False
        entry = found[1]
    entry = entry.strip("[]")
    if (address := ip_of(host)) is not None:
        return _contains(entry, address)
    name = entry.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith("." + name))


def _contains(entry: str, address: Ip) -> bool:
    """Whether an entry is this address, or a network with it. An IPv4 address may be written as IPv6."""
    try:
        network = ipaddress.ip_network(entry.partition("%")[0], strict=False)
    except ValueError:
        return False
    plain = getattr(address, "ipv4_mapped", None) or address
    return address in network or plain in network

"""The proxy that the environment names for a URL: `http_proxy`, `https_proxy`, or else `all_proxy`, in small
letters or capitals, unless `no_proxy` excepts the host.

Desktop proxies export all three, the last one with a SOCKS address; it is not looked at where the first two
say enough. An address without a scheme is one of http, as curl has it. `socks://`, which desktops write, says
no version; what listens there speaks 5, and is given the name to look up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from internlm_zoo.net.addresses import WEB, ProxyAddress, basic_auth, parse_address, unquoted
from internlm_zoo.net.no_proxy import bypasses_proxy

SOCKS = frozenset({"socks4", "socks4a", "socks5", "socks5h"})

_SOCKS_PORT = 1080
_PORTS = {**WEB, **dict.fromkeys(("socks5", "socks5h", "socks4", "socks4a", "socks"), _SOCKS_PORT)}


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


def _find(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The variable, as it is written, and what it says; small letters come first, as everywhere."""
    for variable in (name, name.upper()):
        if text := unquoted(environ.get(variable, "")):
            return variable, text
    return name, ""


def _address(text: str, variable: str) -> ProxyAddress:
    address = parse_address(text, variable, _PORTS, otherwise="http")
    return replace(address, path="", scheme="socks5h" if address.scheme == "socks" else address.scheme)

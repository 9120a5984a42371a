"""Addresses as users write them into variables: what is taken, and how the others are refused.

Line breaks and blanks around them, and quotes, are left from `.env` and secret files, and mean nothing. The
refusal never holds the address: there may be a password in it.
"""

from __future__ import annotations

import ipaddress
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, unquote, urlsplit

from converters.redaction import keep_secret_of
from internlm_zoo.errors import VariableError

WEB = {"http": 80, "https": 443}
Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

_QUOTES = "'\""
_UNWRITABLE = re.compile(r"[\x00-\x20\x7f]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,15})://")


@dataclass(frozen=True)
class ProxyAddress:
    """host: an IPv6 address without its brackets. path: without a slash at its end. user, password: as they
    are meant, not as a URL writes them."""

    scheme: str
    host: str
    port: int
    path: str = ""
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """Host and port, as may be shown; the port where it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if WEB.get(self.scheme) == self.port else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Without user and password."""
        return f"{self.scheme}://{self.place}{self.path}"

    @property
    def userinfo(self) -> str | None:
        """User and password as Basic authentication has them."""
        return None if self.user is None else f"{self.user}:{self.password or ''}"


def unquoted(text: str) -> str:
    """Without the blanks, line breaks and quotes around it."""
    return text.strip().strip(_QUOTES).strip()


def parse_address(
    text: str, name: str, ports: Mapping[str, int], otherwise: str | None = None
) -> ProxyAddress:
    """The address in a variable. name: the variable's. ports: of each scheme that will do, where none is
    written; otherwise: the scheme where none is written. Raises VariableError."""
    known = " or ".join(f"{scheme}://" for scheme in ports)
    text = unquoted(text)
    keep_secret_of(text)
    if _UNWRITABLE.search(text):
        raise _unusable(name, "it holds a line break or a blank")
    begins = _SCHEME.match(text)
    if begins is None and otherwise is None:
        raise _unusable(name, f"it does not begin with {known}", text if "@" not in text else None)
    if begins is not None and begins[1].lower() not in ports:
        raise _unusable(name, f"it begins with {begins[0]}, and not with {known}")
    parts, port = _split(text if begins else f"{otherwise}://{text}", name)
    scheme = parts.scheme.lower()
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return ProxyAddress(
        scheme=scheme,
        host=str(parts.hostname),
        port=port or ports[scheme],
        path=parts.path.rstrip("/"),
        user=unquote(user) if "@" in parts.netloc else None,
        password=unquote(password) if password else None,
    )


def basic_auth(userinfo: str | None, header: str = "Authorization") -> dict[str, str]:
    """The header that shows user and password, `NAME:PASSWORD`; none without them."""
    if userinfo is None:
        return {}
    return {header: f"Basic {b64encode(userinfo.encode()).decode()}"}


def host_of(url: str) -> str:
    """What of a URL may be shown: no path, no query, no user, since any of them may hold a secret."""
    parts = urlsplit(url)
    return "the directory" if parts.scheme == "file" else parts.netloc.rpartition("@")[2] or "the server"


def ip_of(host: str) -> Ip | None:
    """The address that a host is written as; None of a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _split(url: str, name: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # which quotes a piece of the address
        raise _unusable(name, "its port is not a number from 1 to 65535, or its host is none") from None
    if port == 0:
        raise _unusable(name, "its port is not a number from 1 to 65535")
    if not parts.hostname:
        raise _unusable(name, "it names no host")
    if parts.query or parts.fragment:
        reserved = ", ".join(f"{sign} as {quote(sign)}" for sign in "?#/@")
        raise _unusable(name, f"it holds a ? or a # (in a password, write {reserved})")
    return parts, port


def _unusable(name: str, why: str, shown: str | None = None) -> VariableError:
    says = f" ({shown[:80]})" if shown else ""
    return VariableError(
        f"{name}{says} is no address that can be used: {why}", fix=f"correct {name}, or leave it out"
    )

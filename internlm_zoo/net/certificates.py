"""Whose certificates are believed: those that the environment names, else those of this system.

`SSL_CERT_FILE` and `SSL_CERT_DIR` are OpenSSL's variables and hold together; `REQUESTS_CA_BUNDLE` and
`CURL_CA_BUNDLE` name a file or a folder. The first of these that is set counts, for whatever is asked.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from internlm_zoo.errors import VariableError
from internlm_zoo.net.addresses import unquoted
from internlm_zoo.net.deadline import DeadlineTlsSocket

_OPENSSL = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# What `openssl rehash` makes of a folder; OpenSSL finds nothing in others.
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")
_PEM = (".pem", ".crt", ".cer")


@dataclass(frozen=True)
class Trust:
    """context: for connections. named: whose certificates it holds, for messages."""

    context: ssl.SSLContext
    named: str


def trust_of(environ: Mapping[str, str]) -> Trust:
    """Raises VariableError where a variable names no certificates."""
    for names in (_OPENSSL, *((name,) for name in _BUNDLES)):
        variables = tuple((name, place) for name in names if (place := unquoted(environ.get(name, ""))))
        if variables:
            return _trust(variables)
    return _system_trust()


@lru_cache(maxsize=8)
def _trust(variables: tuple[tuple[str, str], ...]) -> Trust:
    """A folder without certificates does not matter beside a file that has some: it is often set for all."""
    context = _empty_context()
    named: list[str] = []
    for variable, text in variables:
        try:
            _load(context, variable, text)
        except VariableError:
            if not named:
                raise
        else:
            named.append(f"{variable} ({text})")
    return Trust(context, " and ".join(named))


@lru_cache(maxsize=1)
def _system_trust() -> Trust:
    """A container without certificates of its own has those that came with Python's packages, if any."""
    paths = ssl.get_default_verify_paths()
    file, folder = Path(paths.openssl_cafile), Path(paths.openssl_capath)
    context = _empty_context()
    here = [place for place in (file, folder) if place.is_file() or (place.is_dir() and any(place.iterdir()))]
    if not here:
        return _packaged(context)
    for place in here:
        context.load_verify_locations(None if place.is_dir() else place, place if place.is_dir() else None)
    return Trust(context, f"this system ({here[0]})")


def _packaged(context: ssl.SSLContext) -> Trust:
    try:
        import certifi
    except ImportError:
        context.load_default_certs()  # of Windows or macOS, or none
        return Trust(context, "this system")
    context.load_verify_locations(certifi.where())
    context.load_default_certs()
    return Trust(context, f"certifi ({certifi.where()})")


def _empty_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = DeadlineTlsSocket
    context.set_alpn_protocols(["http/1.1"])  # or a server may choose h2, which nobody speaks here
    # Version 1.26 does not tell OpenSSL about hosts that are addresses, and compares all names itself.
    context.check_hostname = not version("urllib3").startswith("1.")
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as curl: a certificate that is named is believed
    return context


def _load(context: ssl.SSLContext, variable: str, text: str) -> None:
    """Raises VariableError if there is none in any of the places."""
    places = text.split(os.pathsep) if variable == "SSL_CERT_DIR" else [text]
    here = [Path(place).expanduser() for place in places if place]
    if not any(place.exists() for place in here):
        raise _unusable(variable, text, "which is not there")
    try:
        loaded = [_load_place(context, place) for place in here]
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        raise _unusable(variable, text, f"which holds no certificate in PEM form ({reason})") from error
    if not any(loaded):
        raise _unusable(variable, text, "which holds no certificate in PEM form")


def _load_place(context: ssl.SSLContext, place: Path) -> bool:
    """Whether there are certificates."""
    files = [place] if place.exists() else []
    if place.is_dir():
        names = sorted(place.iterdir())
        if any(_HASHED.fullmatch(path.name) for path in names):
            context.load_verify_locations(capath=place)
            return True
        files = [path for path in names if path.suffix.lower() in _PEM and path.is_file()]
    for path in files:
        context.load_verify_locations(path)
    return bool(files)


def _unusable(variable: str, text: str, why: str) -> VariableError:
    return VariableError(f"{variable} names {text}, {why}", fix=f"unset {variable}, or name a PEM file")

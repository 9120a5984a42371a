"""Why nothing came, in words, for the libraries below print their objects; and who is to blame, where it is
not the host that was asked, but a proxy on the way to it, or a certificate."""

from __future__ import annotations

import re
import socket
import ssl
from http.client import BadStatusLine, HTTPException, IncompleteRead, RemoteDisconnected

import urllib3
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError

from internlm_zoo.errors import NetworkError
from internlm_zoo.net.addresses import host_of
from internlm_zoo.net.deadline import DeadlineExceeded
from internlm_zoo.net.proxies import Proxy

_WORDS: dict[type[BaseException], str] = {
    socket.gaierror: "no such host name is known",
    ConnectionRefusedError: "nobody listens there",
    RemoteDisconnected: "the connection was closed without an answer",
    ConnectionResetError: "the connection was reset",
    BrokenPipeError: "the connection was reset",
    TimeoutError: "nothing came in time",
    urllib3.exceptions.TimeoutError: "nothing came in time",
    IncompleteRead: "the answer ended early",
    BadStatusLine: "what it sends is no HTTP",
    OverflowError: "what it sends is no HTTP",
}
TRANSPORT_ERRORS = (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError, OverflowError)
"""What the libraries below raise where a server is out of order. The last two come of chunks whose length is
below zero, or beyond all memory, and of what cannot be written into a request."""
# What libraries say whose classes we do not import.
_PHRASES = {"timed out": "nothing came in time"}
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3}) ?(.*)")
PROXY_AUTH = 407
# Answers of a proxy that another moment may change.
_TRANSIENT = frozenset({408, 425, 429, *range(500, 600)})


def reason(error: BaseException) -> str:
    """What happened at the bottom of it."""
    cause = _root_cause(error)
    if isinstance(cause, DeadlineExceeded):
        return str(cause)
    words = next((words for kind, words in _WORDS.items() if isinstance(cause, kind)), None)
    if words is None and isinstance(cause, ssl.SSLError) and cause.reason:
        words = f"no TLS connection ({cause.reason.replace('_', ' ').lower()})"
    message = (getattr(cause, "strerror", None) or str(cause)).partition("\n")[0]
    return words or _PHRASES.get(message, message) or type(cause).__name__


def intermediary_error(
    error: BaseException, url: str, proxy: Proxy | None, trusted: str
) -> NetworkError | None:
    """The error for what is between us and the host of `url`; None if nothing is to blame but the host.

    trusted: whose certificates are believed.
    """
    cause = _root_cause(error)
    # Of SOCKS proxies urllib3 knows only that there is no connection.
    by_socks = proxy is not None and proxy.is_socks
    failing = (NewConnectionError, ConnectTimeoutError) if by_socks else ProxyError
    at_proxy = proxy is not None and isinstance(error, failing)
    if _is_certificate_error(cause):
        whose = proxy.address.place if proxy is not None and at_proxy else host_of(url)
        return _certificate_error(whose, cause, trusted)
    if proxy is None or not at_proxy:
        return None
    if (refused := _TUNNEL.match(str(cause))) is not None:
        return proxy_error(proxy, url, int(refused[1]), refused[2])
    if hasattr(cause, "socket_err") or (proxy.resolves_locally and isinstance(cause, socket.gaierror)):
        return _at_proxy(proxy, f"does not connect to {host_of(url)}: {reason(error)}")  # said by PySocks
    return _at_proxy(proxy, f"does not answer: {reason(error)}")


def proxy_error(proxy: Proxy, url: str, status: int, message: str = "") -> NetworkError:
    """The error for a proxy that answers with a status of its own instead of leading on to `url`."""
    if status == PROXY_AUTH:
        given = proxy.address.user is not None
        refused = f"refuses the user and password that {proxy.variable} has"
        what = refused if given else "wants a user and password"
        error = _at_proxy(proxy, f"{what} (HTTP {status})")
        error.fix = f"write them into {proxy.variable}: http://USER:PASSWORD@HOST:PORT"
    else:
        error = _at_proxy(proxy, f"does not connect to {host_of(url)}: {f'HTTP {status} {message}'.strip()}")
    error.permanent = status not in _TRANSIENT
    return error


def _at_proxy(proxy: Proxy, what: str) -> NetworkError:
    fix = f"correct or unset {proxy.variable}, or except the host in NO_PROXY"
    return NetworkError(f"{proxy} {what}", fix=fix)


def _is_certificate_error(cause: BaseException) -> bool:
    """By OpenSSL, or by urllib3 1.26, which compares names with a class of its own."""
    return isinstance(cause, ssl.SSLCertVerificationError) or type(cause).__name__ == "CertificateError"


def _certificate_error(place: str, cause: BaseException, trusted: str) -> NetworkError:
    why = getattr(cause, "verify_message", None) or str(cause)
    what = f"{place} shows a certificate that {trusted} does not vouch for: {why}"
    fix = "name the file of the authority that signs for this network in SSL_CERT_FILE"
    error = NetworkError(what, fix=fix)
    error.permanent = True
    return error


def _root_cause(error: BaseException) -> BaseException:
    """Of the libraries' own errors: how http.client came to one says less than the error."""
    while not isinstance(error, HTTPException) and (deeper := _cause_of(error)) is not None:
        error = deeper
    return error


def _cause_of(error: BaseException) -> BaseException | None:
    """What an error came from; urllib3 makes some of its own without raising them from what they hold."""
    held = (item for item in error.args if isinstance(item, BaseException))
    context = None if error.__suppress_context__ else error.__context__
    return error.__cause__ or context or next(held, None)

"""What the adapters share on the wire: a small pool, limits on patience, and statuses turned into our errors.

A hub that is dead must cost seconds, not minutes: the next source is waiting. So a question is asked twice at
most, and `within_limits` bounds how long we wait for an official client, which keeps its own clock.
"""

from __future__ import annotations

import email.utils
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Unfinished
from dataclasses import dataclass
from http.client import IncompleteRead
from typing import TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

import urllib3

from internlm_zoo.errors import AccessError, IntegrityError, NetworkError, NotFoundError, ZooError
from internlm_zoo.settings import Settings

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 15.0
LISTING_SECONDS = 40.0
PAUSE_SECONDS = 0.5
# What an official client may wait by itself before it asks once more.
_PAUSES = 2.0

_WORDS: dict[type[BaseException], str] = {
    socket.gaierror: "no such host name is known",
    ConnectionRefusedError: "nobody listens there",
    ConnectionResetError: "the connection was broken off",
    TimeoutError: "nothing came in time",
    IncompleteRead: "the answer ended early",
}

# What libraries say whose classes we do not import.
_PHRASES = {"timed out": "nothing came in time"}
_PORTS = {"http": 80, "https": 443}
_TIMEOUT = "INTERNLM_ZOO_TIMEOUT"

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """How long a hub may take, in seconds: to let us in, to say something, to give a whole listing."""

    connect: float
    answer: float
    listing: float

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Ours, unless the user has said how long silence may last. Raises UsageError."""
        silence = settings.number(_TIMEOUT)
        if silence is None:
            return cls(CONNECT_SECONDS, ANSWER_SECONDS, LISTING_SECONDS)
        return cls(min(CONNECT_SECONDS, silence), silence, 2 * silence + _PAUSES)


def open_pool(url: str, settings: Settings) -> urllib3.PoolManager:
    """A connection pool for `url`'s host that honours the proxies and certificates of the environment.

    It asks once and follows no redirect: whoever does decides which headers go along.
    """
    limits = Limits.of(settings)
    timeout = urllib3.Timeout(connect=limits.connect, read=limits.answer)
    certificates = certificates_of(settings)
    proxy = proxy_for(url, settings)
    if proxy:
        return urllib3.ProxyManager(
            proxy,
            proxy_headers=proxy_headers(proxy),
            timeout=timeout,
            retries=False,
            ca_certs=certificates,
        )
    return urllib3.PoolManager(timeout=timeout, retries=False, ca_certs=certificates)


def certificates_of(settings: Settings) -> str | None:
    """The file of the certificates to trust, if the user names one."""
    return settings.environ.get("SSL_CERT_FILE") or settings.environ.get("REQUESTS_CA_BUNDLE") or None


def proxy_for(url: str, settings: Settings) -> str | None:
    """The URL of the proxy that the environment names for `url`; None where there is none or an exception."""
    named = {name.lower(): value for name, value in settings.environ.items() if value}
    parts = urlsplit(url)
    if proxy_bypass_environment(parts.netloc, {"no": named.get("no_proxy", "")}):
        return None
    return named.get(f"{parts.scheme}_proxy") or named.get("all_proxy")


def proxy_headers(proxy: str) -> dict[str, str]:
    """What a proxy wants to see of the user and password in its own URL."""
    user, at, _ = urlsplit(proxy).netloc.rpartition("@")
    return urllib3.make_headers(proxy_basic_auth=unquote(user)) if at else {}


def twice(ask: Callable[[], T]) -> T:
    """What `ask` returns, asked once more after a pause if a NetworkError came soon: it may be a hiccup.

    The pause is the hub's, if it names one that we can wait for.
    """
    began = time.monotonic()
    try:
        return ask()
    except NetworkError as error:
        pause = max(PAUSE_SECONDS, error.after)
        if time.monotonic() - began + pause > ANSWER_SECONDS:
            raise
    time.sleep(pause)
    return ask()


def within_limits(call: Callable[[], T], seconds: float, hub: str, url: str) -> T:
    """What an official client's `call` returns or raises; after so many seconds, NetworkError.

    The call is then left to end by itself: nothing can stop it.
    """
    outcome: Future[T] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread
            outcome.set_exception(error)

    threading.Thread(target=work, name=f"ask {hub}", daemon=True).start()
    try:
        return outcome.result(seconds)
    except Unfinished as error:
        if outcome.done():
            raise
        raise unreachable(hub, url, f"nothing whole within {seconds:.0f} s") from error


def unreachable(hub: str, url: str, cause: object) -> NetworkError:
    """The error for a hub that does not answer, or not sensibly."""
    what = f"{hub} at {host_of(url)} does not answer: {_reason(cause)}"
    return NetworkError(what, fix="try again later, or name another source with --source")


def refusal(status: int, hub: str, repo: str, url: str, headers: Mapping[str, str] | None = None) -> ZooError:
    """The error for an HTTP status that is not a success. headers: they may ask to wait."""
    if status in (401, 403):
        what = f"{hub} does not give {repo} to this user: HTTP {status}"
        return AccessError(what, host_of(url), f"log in to {hub}, or ask the owner for access")
    if status == 404:
        return absent(hub, repo, url)
    after = retry_after((headers or {}).get("Retry-After", ""))
    asked = f", and it asks to wait {after:.0f} s" if after else ""
    error = unreachable(hub, url, f"HTTP {status}{asked}")
    error.after = after
    return error


def retry_after(text: str) -> float:
    """Seconds, from either form of the header; 0 where it says nothing sensible."""
    text = text.strip()
    if text.isdecimal():
        return float(text)
    date = email.utils.parsedate_tz(text) if text else None
    return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else 0.0


def absent(hub: str, thing: str, url: str) -> NotFoundError:
    """The error for a repository, revision or file that a hub does not have. thing: as a person names it."""
    return NotFoundError(f"{hub} has no {thing}", host_of(url))


def door(url: str) -> tuple[str, str | None, int | None]:
    """What credentials are bound to: scheme, host, port."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def downgrade(url: str, target: str) -> str | None:
    """What is wrong with a redirect from `url` that would give up encryption; None if it does not."""
    if urlsplit(url).scheme != "https" or urlsplit(target).scheme == "https":
        return None
    return f"redirects from https to plain {urlsplit(target).scheme} ({host_of(target)}), which is refused"


def check_redirect(hub: str, url: str, target: str) -> None:
    """Raises IntegrityError where the hub leads from https to what anybody on the way can change."""
    wrong = downgrade(url, target)
    if wrong is not None:
        what = f"{hub} at {host_of(url)} {wrong}"
        raise IntegrityError(what, fix="name another source with --source, or tell the hub's owner")


def host_of(url: str) -> str:
    """Host and port, without any user and password."""
    return urlsplit(url).netloc.rpartition("@")[2] or url


def _reason(cause: object) -> str:
    """What happened at the bottom of it, in words; the libraries above print their objects."""
    if not isinstance(cause, BaseException):
        return str(cause)
    while (
        deeper := cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    ) is not None:
        cause = deeper
    words = next((words for kind, words in _WORDS.items() if isinstance(cause, kind)), None)
    said = str(cause).partition("\n")[0]
    return words or _PHRASES.get(said, said) or type(cause).__name__

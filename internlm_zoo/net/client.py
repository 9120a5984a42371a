"""The one HTTP client, for listings and for bytes: each request by the way that the environment has for its
URL, within the times of one policy."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.poolmanager import PoolManager

from internlm_zoo.net.certificates import Trust, trust_of
from internlm_zoo.net.diagnosis import PROXY_AUTH, TRANSPORT_ERRORS, intermediary_error, proxy_error
from internlm_zoo.net.pools import open_manager
from internlm_zoo.net.proxies import Proxy, proxy_for
from internlm_zoo.net.retry_policy import RetryPolicy


class HttpClient:
    """Connections that are kept for the next request; thread-safe. environ: for proxies and certificates,
    which are looked at when they are needed. connections: kept for each host."""

    def __init__(self, environ: Mapping[str, str], retry_policy: RetryPolicy, connections: int = 8) -> None:
        self._environ = environ
        timeout = urllib3.Timeout(connect=retry_policy.connect, read=retry_policy.stall)
        self._options: dict[str, Any] = {"maxsize": connections, "block": False, "timeout": timeout}
        self._managers: dict[tuple[Proxy | None, bool], PoolManager] = {}
        self._opening = threading.Lock()

    @cached_property
    def _trust(self) -> Trust:
        return trust_of(self._environ)

    def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, *, whole: bool
    ) -> urllib3.BaseHTTPResponse:
        """The answer, whatever its status, its body unread; it is asked for once, and no redirect is followed
        (see redirects.py). whole: reading an answer that ends early raises one of TRANSPORT_ERRORS.

        Raises NetworkError where the proxy or the host's certificate is to blame, UnsupportedError for a
        proxy that takes another package, VariableError for variables that make no sense, and one of
        TRANSPORT_ERRORS for the host itself.
        """
        proxy = proxy_for(url, self._environ)
        secure = "https" in (urlsplit(url).scheme, proxy and proxy.address.scheme)
        manager = self._manager(proxy, secure)
        # A range of what is compressed is none of the file.
        headers = {"User-Agent": "internlm-zoo", "Accept-Encoding": "identity", **headers}
        options: dict[str, Any] = {"redirect": False, "preload_content": False}
        try:
            answer = manager.request(
                method, url, headers=headers, body=body, enforce_content_length=whole, **options
            )
        except TRANSPORT_ERRORS as error:
            intermediary = intermediary_error(error, url, proxy, self._trust.named if secure else "nobody")
            if intermediary is None:
                raise
            raise intermediary from error
        if proxy is not None and answer.status == PROXY_AUTH:
            answer.close()
            raise proxy_error(proxy, url, answer.status)
        return answer

    def via(self, url: str) -> str:
        """Who may have answered in the host's place, as a clause; empty where nobody can have."""
        proxy = proxy_for(url, self._environ)
        if proxy is None or proxy.is_socks or urlsplit(url).scheme == "https":
            return ""
        return f", by way of the proxy {proxy.address.place} ({proxy.variable})"

    def close(self) -> None:
        with self._opening:
            for manager in self._managers.values():
                manager.clear()

    def _manager(self, proxy: Proxy | None, secure: bool) -> PoolManager:
        """Certificates are read for connections that need them; that takes a while."""
        with self._opening:
            if (proxy, secure) not in self._managers:
                trust = self._trust if secure else None
                self._managers[proxy, secure] = open_manager(proxy, trust, self._options)
            return self._managers[proxy, secure]

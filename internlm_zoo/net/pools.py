"""urllib3's connection pools with our way to connect, and its proxies, named where they fail."""

from __future__ import annotations

import importlib
import socket
from http.client import HTTPException
from typing import Any

from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError
from urllib3.poolmanager import PoolManager, ProxyManager

from internlm_zoo.errors import UnsupportedError
from internlm_zoo.net.certificates import Trust
from internlm_zoo.net.connect import connect
from internlm_zoo.net.deadline import with_deadline
from internlm_zoo.net.proxies import Proxy


class _Connecting:
    """Mixed into urllib3's connections, both its versions 1.26 and 2."""

    _dns_host: str
    port: int
    timeout: float | None
    socket_options: Any

    def _new_conn(self) -> socket.socket:
        where: Any = self
        try:
            return connect(self._dns_host, self.port, self.timeout, self.socket_options or ())
        except TimeoutError as error:
            raise ConnectTimeoutError(where, "nothing came in time") from error
        except OSError as error:
            raise NewConnectionError(where, f"no connection: {error}") from error

    def _tunnel(self) -> None:
        """As http.client does it. urllib3 calls the proxy connected before it has let anybody through."""
        try:
            super()._tunnel()  # type: ignore[misc]
        except (OSError, HTTPException) as error:
            raise ProxyError("it lets nobody through", error) from error


class _BySocks:
    """Mixed into those that PySocks opens."""

    def _new_conn(self) -> socket.socket:
        return with_deadline(super()._new_conn())  # type: ignore[misc]


def _with(mixin: type, pool: Any) -> Any:
    """The same kind of pool, for connections that are of the mixin, too."""
    connection = type("_Connection", (mixin, pool.ConnectionCls), {})
    return type("_Pool", (pool,), {"ConnectionCls": connection})


_POOLS = {"http": _with(_Connecting, HTTPConnectionPool), "https": _with(_Connecting, HTTPSConnectionPool)}


def open_manager(proxy: Proxy | None, trust: Trust | None, options: dict[str, Any]) -> PoolManager:
    """A manager of pools whose connections go through the proxy. trust: None where nothing is encrypted.
    options: of urllib3's connection pools.

    Raises UnsupportedError for a SOCKS proxy without PySocks.
    """
    context = None if trust is None else trust.context
    # Retries and redirects are for whoever asks: urllib3's would take all headers along.
    options = {**options, "ssl_context": context, "retries": False}
    if proxy is not None and proxy.is_socks:
        return _socks_manager(proxy, options)
    manager = PoolManager(**options)
    if proxy is not None:
        options |= {"proxy_headers": proxy.headers, "proxy_ssl_context": context}
        manager = ProxyManager(proxy.address.url, **options)
    manager.pool_classes_by_scheme = _POOLS
    return manager


def _socks_manager(proxy: Proxy, options: dict[str, Any]) -> PoolManager:
    try:
        importlib.import_module("socks")  # else urllib3 prints a warning before it fails
        from urllib3.contrib import socks
    except ImportError as error:
        what = f"{proxy} speaks SOCKS, which takes the extra internlm-zoo[socks]"
        fix = f"pip install 'internlm-zoo[socks]', or name a proxy that speaks HTTP in {proxy.variable}"
        raise UnsupportedError(what, fix=fix) from error
    address = proxy.address
    manager = socks.SOCKSProxyManager(address.url, address.user, address.password, **options)
    manager.pool_classes_by_scheme = {
        scheme: _with(_BySocks, pool) for scheme, pool in manager.pool_classes_by_scheme.items()
    }
    return manager

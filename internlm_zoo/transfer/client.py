"""Opens locations over HTTP(S) and `file://`: connections, proxies, certificates, redirects, ranges.

Redirects are followed here, not by urllib3, because a location's headers may hold credentials: they go to the
location's own scheme, host and port, and to nobody else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit
from urllib.request import proxy_bypass_environment, url2pathname  # type: ignore[attr-defined]

import urllib3

from internlm_zoo.errors import IntegrityError, NetworkError, NotFoundError, UsageError
from internlm_zoo.sources.base import Location
from internlm_zoo.sources.http import door, downgrade, proxy_headers
from internlm_zoo.transfer.body import Body
from internlm_zoo.transfer.rate import Rate
from internlm_zoo.transfer.refusal import Refusal, Remedy, by_status, changed, host, lie, silent
from internlm_zoo.transfer.values import Patience

_HOPS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_NO_BYTES = re.compile(r"bytes \*/0+")
_PORTS = {"http": 80, "https": 443}
# Read in pieces this small where urllib3 (1.26) cannot hand over what is there without waiting for more.
_PIECE = 1 << 16


class Client:
    """Connections, shared by all transfers of a run; thread-safe. environ: for proxies and SSL_CERT_FILE.
    rate: what they may bring together; None: as much as comes."""

    def __init__(
        self,
        environ: Mapping[str, str],
        patience: Patience,
        connections: int = 8,
        rate: Rate | None = None,
    ) -> None:
        self.patience = patience
        self._rate = rate
        self._environ = {name.lower(): value for name, value in environ.items()}
        self._options: dict[str, Any] = {
            "maxsize": connections,
            "block": False,
            "retries": False,
            "timeout": urllib3.Timeout(connect=patience.connect, read=patience.stall),
            "ca_certs": _certificates(environ),
            "headers": {"User-Agent": "internlm-zoo", "Accept-Encoding": "identity"},
        }
        self._direct = urllib3.PoolManager(**self._options)
        self._proxies: dict[str, urllib3.PoolManager] = {}

    @property
    def limited(self) -> bool:
        """Whether connections are slower than they could be."""
        return self._rate is not None

    def close(self) -> None:
        for pool in (self._direct, *self._proxies.values()):
            pool.clear()

    @contextmanager
    def open(
        self, location: Location, start: int, validator: str | None, end: int | None = None
    ) -> Iterator[Body]:
        """The bytes from `start` on, up to `end` or the file's end; the Body's own start is 0 where the
        server ignored the range or, judging by validator (the ETag of the bytes before), has another version
        now. Raises Refusal."""
        if urlsplit(location.url).scheme == "file":
            body = _open_file(location.url, start)
        else:
            body = self._open_http(location, start, validator, end)
            if self._rate is not None:
                body.read = self._rate.limited(body.read)
        with body:
            if validator and body.validator and validator != body.validator and body.start:
                raise changed(location.url, "has another version of the file than before (its ETag changed)")
            yield body

    def _open_http(self, location: Location, start: int, validator: str | None, end: int | None) -> Body:
        # Asked for even from the start: the answer then says twice how long the file is.
        headers = {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        if start and validator and not validator.startswith("W/"):
            headers["If-Range"] = validator
        url = location.url
        for _ in range(_HOPS):
            own = location.headers if door(url) == door(location.url) else {}
            response = self._get(url, {**own, **headers})
            if start == 0 and _is_empty(response):
                return _nothing(url, response)
            if response.status not in _REDIRECTS:
                return _body(url, response, start)
            url = _next_hop(url, response)
        raise lie(location.url, f"redirects more than {_HOPS} times")

    def _get(self, url: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        pool = self._pool(url)
        try:
            return pool.request(
                "GET",
                url,
                headers={**pool.headers, **headers},
                redirect=False,
                preload_content=False,
                enforce_content_length=False,  # Body knows more about what is missing
            )
        except urllib3.exceptions.SSLError as error:
            raise Refusal(
                NetworkError(f"{host(url)} has no valid certificate: {error}"), Remedy.LEAVE
            ) from error
        except urllib3.exceptions.LocationParseError as error:
            raise lie(url, "is not a host name") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise silent(url, _reason(error)) from error

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = self._environ.get(f"{parts.scheme}_proxy") or self._environ.get("all_proxy")
        if not proxy or proxy_bypass_environment(parts.netloc, {"no": self._environ.get("no_proxy", "")}):
            return self._direct
        if proxy not in self._proxies:
            self._proxies[proxy] = urllib3.ProxyManager(
                proxy, proxy_headers=proxy_headers(proxy), **self._options
            )
        return self._proxies[proxy]


def _certificates(environ: Mapping[str, str]) -> str | None:
    name = environ.get("SSL_CERT_FILE")
    if name and not Path(name).is_file():
        raise UsageError(
            f"SSL_CERT_FILE names {name}, which is not a file", fix="unset it, or name a PEM file"
        )
    return name or None


def _next_hop(url: str, response: urllib3.BaseHTTPResponse) -> str:
    _discard(response)
    try:
        target = urljoin(url, response.headers.get("Location", ""))
        parts: SplitResult | None = urlsplit(target)
        door(target)
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in _PORTS or not parts.hostname:
        raise lie(url, "redirects to something that is not a web address")
    if (wrong := downgrade(url, target)) is not None:
        raise lie(url, wrong)
    return target


def _discard(response: urllib3.BaseHTTPResponse) -> None:
    """Give the connection back for the next request, unless that means reading much."""
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) <= _PIECE:
        response.drain_conn()
    response.close()


def _is_empty(response: urllib3.BaseHTTPResponse) -> bool:
    """Whether the file has no bytes, so that no range of it can be given (RFC 9110, section 15.5.17)."""
    said = response.headers.get("Content-Range", "").strip()
    return response.status == 416 and _NO_BYTES.fullmatch(said) is not None


def _nothing(url: str, response: urllib3.BaseHTTPResponse) -> Body:
    """What there is of an empty file; the answer itself holds a message, or a page, about the range."""
    _discard(response)
    etag = response.headers.get("ETag")
    return Body(url, 0, 0, 0, etag, is_html=False, read=lambda amount: b"", close=response.close)


def _body(url: str, response: urllib3.BaseHTTPResponse, start: int) -> Body:
    """The answer as it describes itself, once its status, coding and range are those of the request."""
    headers = response.headers
    try:
        if response.status not in (200, 206):
            raise by_status(response.status, url, headers)
        coding = headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("", "identity"):
            raise lie(url, f"sends the file in the content coding {coding!r}, not as it is")
        begin, length, total = _extent(url, response, start)
    except Refusal:
        response.close()
        raise
    return Body(
        url=url,
        start=begin,
        length=length,
        total=total,
        validator=headers.get("ETag"),
        is_html=headers.get("Content-Type", "").lower().startswith(("text/html", "application/xhtml")),
        read=_reader(url, response),
        close=response.close,
    )


def _extent(url: str, response: urllib3.BaseHTTPResponse, start: int) -> tuple[int, int | None, int | None]:
    """First byte, bytes in this answer, bytes of the whole file."""
    text = response.headers.get("Content-Length", "")
    length = int(text) if text.isdecimal() else None
    if response.status == 200:
        return 0, length, length
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if match is None:
        raise lie(url, "sends part of the file without saying which")
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if first != start or last < first or (total is not None and last >= total):
        raise lie(url, f"sends bytes {match[1]}-{match[2]}/{match[3]} when asked for those from {start} on")
    if length is not None and length != last - first + 1:
        raise lie(url, f"says {length} bytes and sends {last - first + 1}")
    return first, last - first + 1, total


def _reader(url: str, response: urllib3.BaseHTTPResponse) -> Any:
    read_some = getattr(response, "read1", None)

    def read(amount: int) -> bytes:
        try:
            if read_some is not None:
                return bytes(read_some(amount, decode_content=False))
            return response.read(min(amount, _PIECE), decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise silent(url, _reason(error)) from error

    return read


def _reason(error: BaseException) -> str:
    """What happened, in words, without the objects that urllib3 prints."""
    while error.__cause__ is not None or (error.__context__ is not None and not error.__suppress_context__):
        error = error.__cause__ or error.__context__ or error
    return _SAID.get(type(error).__name__, str(error) or type(error).__name__)


_SAID = {
    "TimeoutError": "no byte came in time",
    "timeout": "no byte came in time",
    "ConnectionResetError": "the connection was reset",
    "ConnectionRefusedError": "nobody listens there",
    "RemoteDisconnected": "the connection was closed without an answer",
}


def _open_file(url: str, start: int) -> Body:
    path = Path(url2pathname(urlsplit(url).path))
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError as error:
        raise Refusal(NotFoundError(f"{path.name} is not in the directory", path), Remedy.LEAVE) from error
    except OSError as error:
        raise Refusal(
            IntegrityError(f"{path.name} cannot be read: {error.strerror}", path), Remedy.LEAVE
        ) from error
    stat = path.stat()
    file.seek(start)
    return Body(
        url=url,
        start=start,
        length=max(0, stat.st_size - start),
        total=stat.st_size,
        validator=f'"{stat.st_size:x}-{stat.st_mtime_ns:x}"',
        is_html=False,
        read=file.read,
        close=file.close,
    )

"""Opens locations over HTTP(S) and `file://`: redirects, ranges, and what answers say of themselves.

Redirects are followed here, not by urllib3, because a location's headers may hold credentials: they go to the
location's own scheme, host and port, and to nobody else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from http import HTTPStatus
from itertools import chain, count
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import urllib3

from converters.formats.access import regular
from internlm_zoo.errors import IntegrityError, NetworkError, NotFoundError, UnsupportedError
from internlm_zoo.net.deadline import Deadline
from internlm_zoo.net.diagnosis import FAILURES, reason
from internlm_zoo.net.network import Network
from internlm_zoo.net.redirects import HOPS, STATUSES, door, downgrade, target_of
from internlm_zoo.net.retry_policy import RetryPolicy
from internlm_zoo.sources.base import Location
from internlm_zoo.sources.login import REFUSALS
from internlm_zoo.transfer.body import Body
from internlm_zoo.transfer.content_range import end_of_file, etag_of, extent
from internlm_zoo.transfer.failures import Recovery, TransferFailure, by_status, changed, timed_out, violation
from internlm_zoo.transfer.rate import Rate

# Read in pieces this small where urllib3 (1.26) cannot hand over what is there without waiting for more.
_PIECE = 1 << 16
_FILLING = 0.0 if hasattr(urllib3.HTTPResponse, "read1") else _PIECE / RetryPolicy.slowest
_SHOWN = 40


class Client:
    """Connections, shared by all transfers of a run; thread-safe. environ: see Network. rate: what they may
    bring together; None: as much as comes. tell: whom to tell of rejected credentials. slow_sources:
    endpoints that let a transfer wait in vain, and are asked last for the files after it."""

    def __init__(
        self,
        environ: Mapping[str, str],
        retry_policy: RetryPolicy,
        connections: int = 8,
        rate: Rate | None = None,
        tell: Callable[[str], None] = lambda note: None,
    ) -> None:
        self.retry_policy = retry_policy
        self.slow_sources: set[str] = set()
        self._rate = rate
        self._tell = tell
        timeout = urllib3.Timeout(connect=retry_policy.connect, read=retry_policy.stall)
        self._network = Network(environ, timeout, connections)

    @property
    def limited(self) -> bool:
        """Whether connections are slower than they could be."""
        return self._rate is not None

    def close(self) -> None:
        self._network.close()

    @contextmanager
    def open(
        self, location: Location, start: int, validator: str | None, end: int | None = None
    ) -> Iterator[Body]:
        """The bytes from `start` on, up to `end` or the file's end; the Body's own start is 0 where the
        server ignored the range or, judging by validator (the ETag of the bytes before), has another version
        now. Raises TransferFailure."""
        if urlsplit(location.url).scheme == "file":
            body = _open_file(location.url, start)
        else:
            body = self._begin_http(location, start, validator, end)
            if self._rate is not None:
                body.read = self._rate.limited(body.read)
        with body:
            if validator and body.validator and validator != body.validator and body.start:
                raise changed(location.url, "has another version of the file than before (its ETag changed)")
            yield body

    def _begin_http(self, location: Location, start: int, validator: str | None, end: int | None) -> Body:
        """Up to its first byte there is one deadline, redirects and all; then one for each read."""
        retry_policy = self.retry_policy
        opening = Deadline.after(retry_policy.answer, "no byte of the file")
        with opening.kept():
            body = self._open_http(location, start, validator, end)
        more = (Deadline.after(retry_policy.stall + _FILLING, "nothing more") for _ in count())
        body.read = _in_time(body.read, chain([opening], more))
        return body

    def _open_http(self, location: Location, start: int, validator: str | None, end: int | None) -> Body:
        # Asked for even from the start: the answer then says twice how long the file is.
        headers = {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        # A weak one may not stand there (RFC 9110, 13.1.5).
        if start and validator and not validator.startswith("W/"):
            headers["If-Range"] = validator
        url = location.url
        for _ in range(HOPS):
            response = self._ask(url, location, headers)
            if response.status == 416:
                headers = {**_own(url, location), **headers}
                return self._past_the_end(url, headers, response, start)
            if response.status not in STATUSES:
                return self._body(url, response, start)
            url = _next_hop(url, response)
        raise violation(location.url, f"redirects more than {HOPS} times")

    def _past_the_end(
        self, url: str, headers: Mapping[str, str], response: urllib3.BaseHTTPResponse, start: int
    ) -> Body:
        """What there is from `start` on where the server has no such range: nothing, if the file ends there
        (RFC 9110, section 15.5.17). Some servers do not say how long it is, and are asked another way."""
        _discard(response)
        said = end_of_file(response.headers)
        length = self._length(url, headers, start) if said is None else said
        if start and length == start:
            return _nothing(url, response, start)
        if start == 0 and said is None:
            plain = {name: value for name, value in headers.items() if name != "Range"}
            whole = self._body(url, self._get(url, plain), 0)
            return replace(whole, certain=True)  # if it is empty, both answers say so
        if start == 0 and length == 0:
            return _nothing(url, response, 0)
        raise by_status(response.status, url, response.headers)

    def _body(self, url: str, response: urllib3.BaseHTTPResponse, start: int) -> Body:
        if response.status in (200, 206):
            return _body(url, response, start)
        response.close()
        raise by_status(response.status, url, response.headers, self._network.way(url))

    def _length(self, url: str, headers: Mapping[str, str], start: int) -> int | None:
        """Of the whole file, as the server says with the last byte before `start`."""
        if start == 0:
            return None
        answer = self._get(url, {**headers, "Range": f"bytes={start - 1}-{start - 1}"})
        _discard(answer)
        return extent(url, answer, start - 1)[2] if answer.status == 206 else None

    def _ask(self, url: str, location: Location, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """With the location's credentials at its own host; without, where these are rejected."""
        own, login = _own(url, location), location.login
        response = self._get(url, {**own, **headers})
        if login is None or not own or response.status not in REFUSALS:
            return response
        _discard(response)
        bare = self._get(url, headers)
        if bare.status >= HTTPStatus.BAD_REQUEST:
            _discard(bare)
            failure = by_status(response.status, url, response.headers)
            raise TransferFailure(login.blamed(failure.error), failure.recovery, failure.after)
        if (note := login.rejected()) is not None:
            self._tell(note)
        return bare

    def _get(self, url: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        try:
            return self._network.request(
                "GET",
                url,
                # A range of what is compressed is none of the file.
                {"Accept-Encoding": "identity", **headers},
                preload_content=False,
                enforce_content_length=False,  # Body knows more about what is missing
            )
        except NetworkError as error:
            raise TransferFailure(error, Recovery.GIVE_UP if error.lasting else Recovery.RETRY) from error
        except UnsupportedError as error:
            raise TransferFailure(error, Recovery.GIVE_UP) from error
        except urllib3.exceptions.LocationParseError as error:
            raise violation(url, "is not a host name") from error
        except FAILURES as error:
            raise timed_out(url, reason(error)) from error


def _own(url: str, location: Location) -> Mapping[str, str]:
    """The location's credentials, as far as they go to a URL."""
    is_rejected = location.login is not None and location.login.is_rejected
    return location.headers if door(url) == door(location.url) and not is_rejected else {}


def _next_hop(url: str, response: urllib3.BaseHTTPResponse) -> str:
    _discard(response)
    target = target_of(url, response.headers)
    if target is None:
        raise violation(url, "redirects to something that is not a web address")
    if (wrong := downgrade(url, target)) is not None:
        raise violation(url, wrong)
    return target


def _discard(response: urllib3.BaseHTTPResponse) -> None:
    """Give the connection back for the next request, unless that means reading much."""
    length = response.headers.get("Content-Length", "")
    # Thousands of digits take `int` a while.
    if length.isdecimal() and len(length) <= len(str(_PIECE)) and int(length) <= _PIECE:
        with suppress(*FAILURES):
            response.read(_PIECE, decode_content=False)
    response.close()


def _nothing(url: str, response: urllib3.BaseHTTPResponse, start: int) -> Body:
    """The rest of a file that ends at `start`; the answer itself holds a message about the range."""
    etag, nothing = etag_of(response.headers), b""
    return Body(url, start, 0, start, etag, False, lambda amount: nothing, response.close, certain=True)


def _body(url: str, response: urllib3.BaseHTTPResponse, start: int) -> Body:
    """The answer as it describes itself, once its coding and range are those of the request."""
    headers = response.headers
    try:
        coding = headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("", "identity"):
            raise violation(url, f"sends the file in the content coding {coding[:_SHOWN]!r}, not as it is")
        begin, length, total = extent(url, response, start)
    except TransferFailure:
        response.close()
        raise
    return Body(
        url=url,
        start=begin,
        length=length,
        total=total,
        validator=etag_of(headers),
        is_html=headers.get("Content-Type", "").lower().startswith(("text/html", "application/xhtml")),
        read=_reader(url, response),
        close=response.close,
    )


def _reader(url: str, response: urllib3.BaseHTTPResponse) -> Callable[[int], bytes]:
    read_some = getattr(response, "read1", None)

    def read(amount: int) -> bytes:
        try:
            if read_some is not None:
                return bytes(read_some(amount, decode_content=False))
            return response.read(min(amount, _PIECE), decode_content=False)
        except FAILURES as error:
            raise timed_out(url, reason(error)) from error

    return read


def _in_time(read: Callable[[int], bytes], deadlines: Iterator[Deadline]) -> Callable[[int], bytes]:
    """The same, each call before the next of the deadlines."""

    def punctual(amount: int) -> bytes:
        with next(deadlines).kept():
            return read(amount)

    return punctual


def _open_file(url: str, start: int) -> Body:
    path = Path(url2pathname(urlsplit(url).path))
    try:
        file = open(path, "rb", buffering=0, opener=regular)  # noqa: SIM115 - whoever reads it closes it
    except FileNotFoundError as error:
        raise TransferFailure(
            NotFoundError(f"{path.name} is not in the directory", path), Recovery.GIVE_UP
        ) from error
    except OSError as error:
        raise TransferFailure(
            IntegrityError(f"{path.name} cannot be read: {error.strerror}", path), Recovery.GIVE_UP
        ) from error
    stat = os.fstat(file.fileno())
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

"""Opens locations: ranges, and what answers say of themselves. A location's headers may hold credentials:
these go to its own origin, and to nobody else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from http import HTTPStatus
from itertools import chain, count
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import urllib3

from converters.formats.access import regular
from internlm_zoo.errors import IntegrityError, NetworkError, NotFoundError, UnsupportedError
from internlm_zoo.net.client import HttpClient
from internlm_zoo.net.deadline import Deadline
from internlm_zoo.net.diagnosis import TRANSPORT_ERRORS, reason
from internlm_zoo.net.redirects import RedirectError, discard, follow, is_redirect, same_origin
from internlm_zoo.net.retry_policy import RetryPolicy
from internlm_zoo.net.statuses import Recovery, is_refusal
from internlm_zoo.sources.base import Location
from internlm_zoo.transfer.body import Body
from internlm_zoo.transfer.content_range import end_of_file, etag_of, extent
from internlm_zoo.transfer.failures import TransferFailure, by_status, changed, timed_out, violation
from internlm_zoo.transfer.rate import Rate

# Read in pieces this small where urllib3 (1.26) cannot hand over what is there without waiting for more.
_PIECE = 1 << 16
_FILLING = 0.0 if hasattr(urllib3.HTTPResponse, "read1") else _PIECE / RetryPolicy.slowest
_SHOWN = 40


class Client:
    """Connections, shared by all transfers of a run; thread-safe. environ: see HttpClient. rate: what they
    may bring together; None: as much as comes. tell: whom to tell of rejected credentials. slow_sources:
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
        self._http = HttpClient(environ, retry_policy, connections)

    @property
    def limited(self) -> bool:
        """Whether connections are slower than they could be."""
        return self._rate is not None

    def close(self) -> None:
        self._http.close()

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
        with closing(body):
            if validator and body.validator and validator != body.validator and body.start:
                raise changed(location.url, "has another version of the file than before (its ETag changed)")
            yield body

    def _begin_http(self, location: Location, start: int, validator: str | None, end: int | None) -> Body:
        """Up to its first byte there is one deadline, redirects and all; then one for each read."""
        retry_policy = self.retry_policy
        opening = Deadline.after(retry_policy.answer, "no byte of the file")
        with opening.enforced():
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
        try:
            url, response = follow(location.url, lambda url: self._ask(url, location, headers))
        except RedirectError as error:
            raise violation(error.url, str(error)) from error
        if response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return self._past_the_end(url, {**_own(url, location), **headers}, response, start)
        if is_redirect(response.status):
            discard(response)
            raise violation(url, "redirects to something that is not a web address")
        return self._body(url, response, start)

    def _past_the_end(
        self, url: str, headers: Mapping[str, str], response: urllib3.BaseHTTPResponse, start: int
    ) -> Body:
        """What there is from `start` on where the server has no such range: nothing, if the file ends there
        (RFC 9110, section 15.5.17). Some servers do not say how long it is, and are asked another way."""
        discard(response)
        stated = end_of_file(response.headers)
        length = self._length(url, headers, start) if stated is None else stated
        if start and length == start:
            return _nothing(url, response, start)
        if start == 0 and stated is None:
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
        raise by_status(response.status, url, response.headers, self._http.via(url))

    def _length(self, url: str, headers: Mapping[str, str], start: int) -> int | None:
        """Of the whole file, as the server says with the last byte before `start`."""
        if start == 0:
            return None
        answer = self._get(url, {**headers, "Range": f"bytes={start - 1}-{start - 1}"})
        discard(answer)
        return extent(url, answer, start - 1)[2] if answer.status == 206 else None

    def _ask(self, url: str, location: Location, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """With the location's credentials at its own host; without, where these are rejected."""
        own, credentials = _own(url, location), location.credentials
        response = self._get(url, {**own, **headers})
        if credentials is None or not own or not is_refusal(response.status):
            return response
        discard(response)
        bare = self._get(url, headers)
        if bare.status >= HTTPStatus.BAD_REQUEST:
            discard(bare)
            failure = by_status(response.status, url, response.headers)
            raise TransferFailure(credentials.explain(failure.error), failure.recovery, failure.retry_after)
        if (note := credentials.reject()) is not None:
            self._tell(note)
        return bare

    def _get(self, url: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        try:
            return self._http.request("GET", url, headers, whole=False)  # Body knows more of what is missing
        except NetworkError as error:
            raise TransferFailure(error, Recovery.GIVE_UP if error.permanent else Recovery.RETRY) from error
        except UnsupportedError as error:
            raise TransferFailure(error, Recovery.GIVE_UP) from error
        except urllib3.exceptions.LocationParseError as error:
            raise violation(url, "is not a host name") from error
        except TRANSPORT_ERRORS as error:
            raise timed_out(url, reason(error)) from error


def _open_file(url: str, start: int) -> Body:
    """The bytes of a `file://` location, which a directory as a hub gives. Raises TransferFailure."""
    path = Path(url2pathname(urlsplit(url).path))
    try:
        file = open(path, "rb", buffering=0, opener=regular)  # noqa: SIM115 - whoever reads it closes it
    except FileNotFoundError as error:
        missing = NotFoundError(f"{path.name} is not in the directory", path)
        raise TransferFailure(missing, Recovery.GIVE_UP) from error
    except OSError as error:
        unreadable = IntegrityError(f"{path.name} cannot be read: {error.strerror}", path)
        raise TransferFailure(unreadable, Recovery.GIVE_UP) from error
    stat = os.fstat(file.fileno())
    file.seek(start)
    return Body(
        url=url,
        start=start,
        length=max(0, stat.st_size - start),
        total=stat.st_size,
        validator=f'"{stat.st_size:x}-{stat.st_mtime_ns:x}"',
        read=file.read,
        close=file.close,
    )


def _own(url: str, location: Location) -> Mapping[str, str]:
    """The location's credentials, as far as they go to a URL."""
    is_rejected = location.credentials is not None and location.credentials.is_rejected
    return location.headers if same_origin(url, location.url) and not is_rejected else {}


def _nothing(url: str, response: urllib3.BaseHTTPResponse, start: int) -> Body:
    """The rest of a file that ends at `start`; the answer itself holds a message about the range."""
    etag = etag_of(response.headers)
    return Body(url, start, 0, start, etag, lambda amount: b"", response.close, certain=True)


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
        except TRANSPORT_ERRORS as error:
            raise timed_out(url, reason(error)) from error

    return read


def _in_time(read: Callable[[int], bytes], deadlines: Iterator[Deadline]) -> Callable[[int], bytes]:
    """The same, each call before the next of the deadlines."""

    def read_in_time(amount: int) -> bytes:
        with next(deadlines).enforced():
            return read(amount)

    return read_in_time

"""How adapters ask their hub: limits, credentials at its own origin, and statuses as our errors.

A hub that is dead must cost seconds, not minutes: the next source is waiting. So a question is asked twice at
most, and there is a deadline for each answer, redirects and all, and one for the whole listing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import urllib3
from urllib3.exceptions import DecodeError

from converters.redaction import without_user
from internlm_zoo.errors import (
    AccessError,
    IntegrityError,
    ListingError,
    NetworkError,
    NotFoundError,
    ZooError,
)
from internlm_zoo.net.addresses import WEB, basic_auth, host_of, parse_address
from internlm_zoo.net.client import HttpClient
from internlm_zoo.net.deadline import Deadline
from internlm_zoo.net.diagnosis import TRANSPORT_ERRORS, reason
from internlm_zoo.net.limited_read import read_whole
from internlm_zoo.net.redirects import Downgrade, RedirectError, follow, same_origin, target_of
from internlm_zoo.net.retry_policy import RetryPolicy
from internlm_zoo.net.statuses import asked_wait, is_refusal, meaning_of
from internlm_zoo.settings import Settings

# Seconds in which a hub that is to be asked again has to have failed, pause and all.
_SOON = 15.0
LARGEST = 64 << 20
"""Bytes of one answer. 100,000 files of Hugging Face take 26 MB."""
LONGEST_URL = 8192
"""Characters of an address that is asked or told; servers refuse longer ones."""
_NO_LISTING = "it sent something else than a listing"

T = TypeVar("T")


@dataclass(frozen=True)
class Response:
    """What a hub answered. url: where, after any redirects."""

    url: str
    status: int
    headers: Mapping[str, str]
    data: bytes


@dataclass(frozen=True)
class HubClient:
    """Asks one hub. hub: its name. endpoint: without user and password. headers: credentials, for the
    endpoint's own origin alone."""

    hub: str
    endpoint: str
    http: HttpClient
    retry_policy: RetryPolicy
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, hub: str, endpoint: str, settings: Settings, headers: Mapping[str, str] | None = None
    ) -> HubClient:
        """endpoint: with user and password, if they are to be sent to it; they take the place of a
        token, for there is one Authorization header."""
        retry_policy, address = RetryPolicy.of(settings), parse_address(endpoint, hub, WEB)
        own = {**(headers or {}), **basic_auth(address.userinfo)}
        return cls(hub, address.url, HttpClient(settings.environ, retry_policy), retry_policy, own)

    def get(self, url: str) -> Response:
        """The answer, whatever its status, after redirects. Raises NetworkError, or IntegrityError where the
        hub leads from https to http."""
        with self._in_time():
            return self._follow(url)

    def post(self, url: str, content: Any, headers: Mapping[str, str]) -> Response:
        """The answer to a JSON document; no redirect is followed. Raises NetworkError."""
        headers = {"Content-Type": "application/json", "Accept": "application/json", **headers}
        with self._in_time():
            return _whole(url, self._request("POST", url, headers, json.dumps(content).encode()))

    def headers_for(self, url: str) -> Mapping[str, str]:
        """The credentials that go to a URL."""
        return self.headers if same_origin(url, self.endpoint) else {}

    def retry_once(self, ask: Callable[[], T]) -> T:
        """What `ask` returns, asked once more after a pause if a NetworkError came soon: it may be a hiccup.

        The pause is the hub's, if it names one that we can wait for.
        """
        began = time.monotonic()
        try:
            return ask()
        except NetworkError as error:
            pause = max(self.retry_policy.pause(1), error.retry_after)
            if error.permanent or time.monotonic() - began + pause > _SOON:
                raise
        time.sleep(pause)
        return ask()

    def not_a_listing(self, why: str = "") -> NetworkError:
        """The error for what is no answer of a hub at all, such as a page of a gateway."""
        return self.unreachable(f"{_NO_LISTING}: {why}" if why else _NO_LISTING)

    def malformed(self, why: str) -> ListingError:
        """The error for what is not as the protocol has it. why: field, and what it should be."""
        what = f"{self.hub} at {host_of(self.endpoint)} gives no listing that can be used: {why}"
        return ListingError(what, fix="name another `source`, or tell the hub's owner")

    def error_of(self, answer: Response, thing: str) -> ZooError:
        """The error for an answer that is not 200."""
        target = target_of(answer.url, answer.status, answer.headers)
        if target is None:
            return self.status_error(answer.status, thing, answer.headers, answer.url)
        place = without_user(target).partition("?")[0]
        what = f"{self.hub} at {host_of(self.endpoint)} has moved {thing} to {place} (HTTP {answer.status})"
        error = NetworkError(what, fix="use that address")
        error.permanent = True
        return error

    def status_error(
        self, status: int, thing: str, headers: Mapping[str, str], url: str | None = None
    ) -> ZooError:
        """The error for a status that is not a success. headers: they may ask to wait. url: of the
        answer that has it; None where it stands inside of one."""
        place, via = host_of(url or self.endpoint), self.http.via(url) if url else ""
        if is_refusal(status):
            what = f"{self.hub} does not give {thing} to this user: HTTP {status}{via}"
            return AccessError(what, place, f"log in to {self.hub}, or ask the owner for access")
        if meaning_of(status).error is NotFoundError:
            return self.not_found(thing, place)
        after, asked = asked_wait(headers)
        error = self.unreachable(f"HTTP {status}{via}{asked}", place)
        error.retry_after = after
        return error

    def unreachable(self, why: str, place: str | None = None) -> NetworkError:
        """The error for a hub that does not answer, or not sensibly."""
        what = f"{self.hub} at {place or host_of(self.endpoint)} does not answer: {why}"
        return NetworkError(what, fix="try again later, or name another `source`")

    def not_found(self, thing: str, place: str | None = None) -> NotFoundError:
        """The error for a repository, revision or file that it does not have. thing: as a person names it."""
        return NotFoundError(f"{self.hub} has no {thing}", place or host_of(self.endpoint))

    def _follow(self, url: str) -> Response:
        try:
            place, answer = follow(url, lambda url: self._request("GET", url, {}))
        except Downgrade as error:
            fix = "name another `source`, or tell the hub's owner"
            raise IntegrityError(f"{self.hub} at {host_of(error.url)} {error}", fix=fix) from error
        except RedirectError as error:
            raise self.unreachable(f"it {error}") from error
        return _whole(place, answer)

    def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> urllib3.BaseHTTPResponse:
        return self.http.request(method, url, {**self.headers_for(url), **headers}, body, whole=True)

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """What is asked meanwhile is answered before the time for an answer is over, else NetworkError is
        raised; so it is for whatever else there is instead of one. Who takes all of it, or sends too much, is
        not asked again."""
        deadline = Deadline.after(self.retry_policy.answer, "nothing whole")
        try:
            with deadline.enforced():
                yield
        except TRANSPORT_ERRORS as error:
            failed = self.unreachable(reason(error))
            failed.permanent = deadline.passed or isinstance(error, DecodeError)
            raise failed from error


def _whole(url: str, answer: urllib3.BaseHTTPResponse) -> Response:
    with answer:
        return Response(url, answer.status, answer.headers, read_whole(answer, LARGEST))


def bearer(values: Sequence[str]) -> dict[str, str]:
    """The header that most hubs take a token in; none without one."""
    return {"Authorization": f"Bearer {values[0]}"} if values else {}

"""OpenXLab, by its open API: the official package cannot share an environment with today's torch.

Requests as package 0.1.3 makes them (openxlab/model/clients/openapi_client.py, xlab/handler/user_token.py),
but without its telemetry and its token file. A listing has signed links that expire, no sizes, and as `hash`
an MD5 of the first and last 64 bytes: enough to notice a change, worthless as a digest. There are no
revisions: a snapshot is named after its listing.
"""

from __future__ import annotations

import base64
import hmac
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, with_config
from pydantic.alias_generators import to_camel

from converters.redaction import keep_secret
from internlm_zoo.errors import AccessError, NotFoundError, UnsupportedError, UsageError
from internlm_zoo.files import File
from internlm_zoo.net.addresses import WEB, host_of
from internlm_zoo.registry.schema import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import DEFAULT_NAMES, Location, Snapshot, listing_revision
from internlm_zoo.sources.credentials import credentials_of
from internlm_zoo.sources.hub_client import LONGEST_URL, HubClient
from internlm_zoo.sources.paths import check_snapshot
from internlm_zoo.sources.schema import Named, fitted, read

_OPEN = "/api/v1/sso-be/api/v1/open"
_FILES = "/api/v1/model-center/api/v1/cli/repository/getFileDownloadUrl"
_SUCCESS = "10000"  # as msgCode, of the answer and of the answer in it
_ALGORITHMS = {"HmacSHA1": "sha1", "HmacSHA256": "sha256", "HmacSHA512": "sha512"}
_TOKEN_SECONDS = 600.0
_LINK_SECONDS = 600.0
_MARGIN_SECONDS = 30.0  # a link must last until its answer has begun
_LONGEST_TOKEN = 8192
_SHOWN = 200

_T = TypeVar("_T")


def _web_address(url: str) -> str:
    """Raises ValueError for what is none."""
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in WEB and parts.hostname and parts.port != 0:
            return url
    raise ValueError("it should be a web address")


_Url = Annotated[
    str, Field(max_length=LONGEST_URL, pattern=r"^[^\x00-\x1f\x7f]*$"), AfterValidator(_web_address)
]
_CAMEL = ConfigDict(alias_generator=to_camel, protected_namespaces=())


@dataclass(frozen=True)
class _RepositoryFile:
    """hash: of 128 bytes of it, in a form of the hub's own."""

    url: _Url
    hash: str | None = None


@with_config(_CAMEL)
@dataclass(frozen=True)
class _Weights:
    """Likewise; under the name of its model, so it says that of the file."""

    file_name: str
    url: _Url
    hash: str | None = None


@with_config(_CAMEL)
@dataclass(frozen=True)
class _Files:
    """file_paths: by the path of each."""

    model_names: Named[_Weights] | None = None
    file_paths: Named[_RepositoryFile] | None = None

    def by_path(self) -> dict[str, _RepositoryFile | _Weights]:
        weights = {file.file_name: file for file in (self.model_names or {}).values()}
        return {**weights, **(self.file_paths or {})}


@dataclass(frozen=True)
class _Challenge:
    nonce: str
    algorithm: str


@dataclass(frozen=True)
class _Permit:
    """jwt: goes into a header."""

    jwt: Annotated[str, Field(max_length=_LONGEST_TOKEN, pattern=r"^[!-~]+$")] = field(repr=False)


@with_config(_CAMEL)
@dataclass(frozen=True)
class _Envelope:
    """What surrounds every answer."""

    msg_code: str
    msg: str | None = None
    data: Any = None


_ENVELOPE = TypeAdapter(_Envelope)
_LISTING = TypeAdapter(_Files)
_CHALLENGE = TypeAdapter(_Challenge)
_PERMIT = TypeAdapter(_Permit)


class OpenXLabSource:
    """See `Source`. endpoint: without a trailing slash. Safe to share between threads."""

    def __init__(self, hub: Hub, endpoint: str, settings: Settings) -> None:
        self._keys = credentials_of(hub, settings).values
        self._client = HubClient.of(hub.name, endpoint, settings)
        self._lock = threading.Lock()
        self._token: tuple[str, float] | None = None
        self._links: dict[tuple[str, str], tuple[str, float]] = {}  # and when they were listed

    def resolve(self, repo: str, revision: str | None = None) -> Snapshot:
        with self._lock:
            files = self._client.retry_once(lambda: self._list(repo))
        found = listing_revision((path, file.hash or "") for path, file in files.items())
        if revision not in (*DEFAULT_NAMES, found):
            raise self._client.not_found(f"revision {revision} of {repo} (it keeps only the current one)")
        listed = tuple(map(File, files))
        return check_snapshot(Snapshot(self._client.hub, repo, found, revision, listed))

    def locate(self, snapshot: Snapshot, path: str) -> Location:
        """Each link is given out once: whoever comes back for the same file needs a fresh one."""
        with self._lock:
            link = self._link(snapshot.repo, path)
            if link is None or (link.expires or 0) < time.time() + _MARGIN_SECONDS:
                self._client.retry_once(lambda: self._list(snapshot.repo))
                link = self._link(snapshot.repo, path)
        if link is None:
            raise self._client.not_found(f"{path} in {snapshot.repo}")
        return link

    def _list(self, repo: str) -> dict[str, _RepositoryFile | _Weights]:
        """path -> what the hub says of it; remembers the links."""
        user, _, name = repo.partition("/")
        if not user or not name:
            raise UsageError(f"{repo!r} is not an OpenXLab repository name (user/name)")
        body = {"userName": user, "repositoryName": name, "modelNames": None, "filePaths": None}
        body |= {"clientFrom": "0", "ignore": None}
        files = self._post(_LISTING, _FILES, body, repo, self._authorization()).by_path()
        now = time.time()
        self._links.update({(repo, path): (file.url, now) for path, file in files.items()})
        return files

    def _authorization(self) -> dict[str, str]:
        """A bare JWT for the user's key pair; nothing without one, which public repositories accept."""
        if not self._keys:
            return {}
        if self._token is None or self._token[1] < time.monotonic():
            self._token = (self._sign_in(*self._keys), time.monotonic() + _TOKEN_SECONDS)
            keep_secret(self._token[0])
        return {"Authorization": self._token[0]}

    def _sign_in(self, access: str, secret: str) -> str:
        who = "a token for these keys"
        challenge = self._post(_CHALLENGE, f"{_OPEN}/auth", {"ak": access}, who, {})
        signature = _signature(secret, challenge.nonce, challenge.algorithm)
        return self._post(_PERMIT, f"{_OPEN}/getJwt", {"ak": access, "d": signature}, who, {}).jwt

    def _post(
        self, form: TypeAdapter[_T], path: str, body: dict[str, Any], thing: str, headers: dict[str, str]
    ) -> _T:
        """The innermost `data` of an answer that says success twice."""
        answer = self._client.post(self._client.endpoint + path, body, headers)
        if answer.status != 200:
            raise self._client.error_of(answer, thing)
        envelope = read(_ENVELOPE, answer, self._client)
        if envelope.msg_code == _SUCCESS:
            envelope = fitted(_ENVELOPE, envelope.data, self._client, "data")
        if envelope.msg_code != _SUCCESS:
            raise self._error_of(path, thing, f"{envelope.msg_code} {envelope.msg or ''}".strip()[:_SHOWN])
        return fitted(form, envelope.data, self._client, "data.data")

    def _error_of(self, path: str, thing: str, reason: str) -> AccessError | NotFoundError:
        if path.startswith(_OPEN):
            what = f"{self._client.hub} does not give {thing}: {reason}"
            return AccessError(what, host_of(self._client.endpoint), "openxlab config")
        return NotFoundError(
            f"{self._client.hub} does not give {thing}: {reason}", host_of(self._client.endpoint)
        )

    def _link(self, repo: str, path: str) -> Location | None:
        """A signed link may say when it ends, in seconds since the epoch; or else it is taken to end soon."""
        if (repo, path) not in self._links:
            return None
        url, listed_at = self._links.pop((repo, path))
        query = {name.lower(): value for name, value in parse_qsl(urlsplit(url).query)}
        stated = query.get("expires", "")
        expires = float(stated) if stated.replace(".", "", 1).isdecimal() else listed_at + _LINK_SECONDS
        return Location(url, self._client.headers_for(url), expires)


def _signature(secret: str, nonce: str, algorithm: str) -> str:
    if algorithm not in _ALGORITHMS:
        what = f"OpenXLab asks for the signature algorithm {algorithm[:_SHOWN]!r}, which is not known here"
        raise UnsupportedError(what)
    return base64.b64encode(hmac.digest(secret.encode(), nonce.encode(), _ALGORITHMS[algorithm])).decode()

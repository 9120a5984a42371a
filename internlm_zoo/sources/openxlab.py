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
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from converters.redaction import keep_secret
from internlm_zoo.errors import AccessError, NotFoundError, UnsupportedError, UsageError
from internlm_zoo.net.addresses import host_of
from internlm_zoo.registry.schema import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Location, RemoteFile, Snapshot
from internlm_zoo.sources.credentials import login_of
from internlm_zoo.sources.http import Asker, absent, twice
from internlm_zoo.sources.listing import listing_revision
from internlm_zoo.sources.paths import check_snapshot

_OPEN = "/api/v1/sso-be/api/v1/open"
_FILES = "/api/v1/model-center/api/v1/cli/repository/getFileDownloadUrl"
_SUCCESS = "10000"
_ALGORITHMS = {"HmacSHA1": "sha1", "HmacSHA256": "sha256", "HmacSHA512": "sha512"}
_DEFAULT_NAMES = (None, "main", "master")
_TOKEN_SECONDS = 600.0
_LINK_SECONDS = 600.0
_MARGIN_SECONDS = 30.0


class OpenXLabSource:
    """See `Source`. endpoint: without a trailing slash. Safe to share between threads."""

    def __init__(self, hub: Hub, endpoint: str, settings: Settings) -> None:
        self._hub = hub.name
        self._keys = login_of(hub, settings).values
        self._asker = Asker.of(hub.name, endpoint, settings)
        self._endpoint = self._asker.endpoint
        self._lock = threading.Lock()
        self._token: tuple[str, float] | None = None
        self._links: dict[tuple[str, str], Location] = {}

    def resolve(self, repo: str, revision: str | None = None) -> Snapshot:
        with self._lock:
            entries = twice(lambda: self._list(repo))
        found = listing_revision((path, str(entry.get("hash") or "")) for path, entry in entries.items())
        if revision not in (*_DEFAULT_NAMES, found):
            raise absent(
                self._hub, f"revision {revision} of {repo} (it keeps only the current one)", self._endpoint
            )
        files = tuple(RemoteFile(path) for path in entries)
        return check_snapshot(Snapshot(self._hub, repo, found, revision, files))

    def locate(self, snapshot: Snapshot, path: str) -> Location:
        """Each link is given out once: whoever comes back for the same file needs a fresh one."""
        key = (snapshot.repo, path)
        with self._lock:
            link = self._links.pop(key, None)
            if link is None or (link.expires or 0) < time.time() + _MARGIN_SECONDS:
                twice(lambda: self._list(snapshot.repo))
                link = self._links.pop(key, None)
        if link is None:
            raise absent(self._hub, f"{path} in {snapshot.repo}", self._endpoint)
        return link

    def _list(self, repo: str) -> dict[str, dict[str, Any]]:
        """path -> what the hub says of it; remembers the links."""
        user, _, name = repo.partition("/")
        if not user or not name:
            raise UsageError(f"{repo!r} is not an OpenXLab repository name (user/name)")
        body = {"userName": user, "repositoryName": name, "modelNames": None, "filePaths": None}
        answer = self._post(_FILES, {**body, "clientFrom": "0", "ignore": None}, repo, self._authorization())
        try:
            entries = _entries(answer)
            links = {(repo, path): self._link(str(entry["url"])) for path, entry in entries.items()}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise self._asker.nonsense() from error
        self._links.update(links)
        return entries

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
        try:
            challenge = self._post(f"{_OPEN}/auth", {"ak": access}, who, {})
            proof = _proof(secret, str(challenge["nonce"]), str(challenge["algorithm"]))
            return str(self._post(f"{_OPEN}/getJwt", {"ak": access, "d": proof}, who, {})["jwt"])
        except (KeyError, TypeError) as error:
            raise self._asker.nonsense() from error

    def _post(self, path: str, body: Mapping[str, Any], thing: str, headers: Mapping[str, str]) -> Any:
        """The innermost `data` of an answer that says success twice."""
        answer = self._asker.post(self._endpoint + path, body, headers)
        if answer.status != 200:
            raise self._asker.refused(answer, thing)
        try:
            outer = answer.json()
            inner = outer["data"] if outer["msgCode"] == _SUCCESS else outer
            code, said = str(inner["msgCode"]), inner.get("msg")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._asker.nonsense() from error
        if code != _SUCCESS:
            raise self._refused(path, thing, f"{code} {said or ''}".strip())
        return inner["data"]

    def _refused(self, path: str, thing: str, reason: str) -> AccessError | NotFoundError:
        if path.startswith(_OPEN):
            return AccessError(
                f"{self._hub} does not give {thing}: {reason}", host_of(self._endpoint), "openxlab config"
            )
        return NotFoundError(f"{self._hub} does not give {thing}: {reason}", host_of(self._endpoint))

    def _link(self, url: str) -> Location:
        """A signed link may say when it ends, in seconds since the epoch; or else it is taken to end soon."""
        said = {name.lower(): value for name, value in parse_qsl(urlsplit(url).query)}.get("expires", "")
        is_moment = said.replace(".", "", 1).isdecimal()
        ends = float(said) if is_moment else time.time() + _LINK_SECONDS
        return Location(url, self._asker.own(url), expires=ends)


def _entries(answer: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Files are keyed by path; weights stand under their model's name and say their own file name."""
    weights = {str(entry["fileName"]): entry for entry in (answer.get("modelNames") or {}).values()}
    return {**weights, **(answer.get("filePaths") or {})}


def _proof(secret: str, nonce: str, algorithm: str) -> str:
    if algorithm not in _ALGORITHMS:
        raise UnsupportedError(
            f"OpenXLab asks for the signature algorithm {algorithm!r}, which is not known here"
        )
    return base64.b64encode(hmac.digest(secret.encode(), nonce.encode(), _ALGORITHMS[algorithm])).decode()

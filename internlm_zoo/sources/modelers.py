"""Modelers, by its open API: the official package asks for one exact version of `requests`.

Requests as openmind-hub 1.3.0 makes them (plugins/openmind/om_api.py, file_download.py), but without asking
for every file by itself. One folder is listed at a time. The root's listing names the commit; the folders
below are asked for at it, so that a push in between mixes nothing. Digests: an `etag` of 40 hex digits is the
git blob sha1, one of 64 the sha256. Credentials: the package reads none from the environment or the home.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from internlm_zoo.errors import AccessError, NetworkError, NotFoundError, UsageError, ZooError
from internlm_zoo.registry.schema import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Location, RemoteFile, Snapshot
from internlm_zoo.sources.credentials import named_in_environment
from internlm_zoo.sources.http import (
    Limits,
    absent,
    check_redirect,
    door,
    host_of,
    open_pool,
    refusal,
    twice,
    unreachable,
    within_limits,
)
from internlm_zoo.sources.paths import check_path, check_snapshot

_DEFAULT_BRANCH = "main"
_NO_SUCH_REVISION = ("ref_not_exist", "branch_or_path_not_found")
_NOT_ON_WHITE_LIST = 418
_FOLDERS = 256
_REDIRECTS = 5
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)?")

Node = dict[str, Any]


class ModelersSource:
    """See `Source`. endpoint: without a trailing slash."""

    def __init__(self, hub: Hub, endpoint: str, settings: Settings) -> None:
        self._hub = hub.name
        self._endpoint = endpoint
        variable = next(iter(hub.token_env), None)
        self._how_to_log_in = variable and f"set {variable} to a token of an account that may read it"
        token = named_in_environment(hub, settings)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._pool = open_pool(endpoint, settings)
        self._limits = Limits.of(settings)

    def resolve(self, repo: str, revision: str | None = None) -> Snapshot:
        check_path(repo, self._hub)
        if repo.count("/") != 1:
            raise UsageError(f"{repo!r} is not a Modelers repository name (owner/name)")

        def ask() -> Snapshot:
            try:
                return self._list(repo, revision)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise self._nonsense() from error

        def answer() -> Snapshot:
            return within_limits(ask, self._limits.listing, self._hub, self._endpoint)

        return check_snapshot(twice(answer))

    def locate(self, snapshot: Snapshot, path: str) -> Location:
        if snapshot.file(path) is None:
            raise absent(self._hub, f"{path} in {snapshot.repo}", self._endpoint)
        place = f"{quote(snapshot.repo)}/{snapshot.revision}/media/{quote(path)}"
        return Location(f"{self._endpoint}/api/v1/file/{place}", self._headers)

    def _list(self, repo: str, revision: str | None) -> Snapshot:
        root = self._folder(repo, "", revision or _DEFAULT_BRANCH)
        last = root["last_commit"]["commit"]
        is_commit = revision is not None and _COMMIT.fullmatch(revision)
        commit = str(revision if is_commit else last["commit_sha"])
        if not _COMMIT.fullmatch(commit):
            raise unreachable(self._hub, self._endpoint, "its answer names no commit")
        files = tuple(map(_remote_file, self._below(root["tree"], repo, commit)))
        return Snapshot(self._hub, repo, commit, revision, files, _moment(last.get("created")))

    def _below(self, tree: Iterable[Node], repo: str, commit: str) -> list[Node]:
        """The files of a listing and of every folder in it, sorted by path."""
        waiting, files, met = list(tree), [], set()
        while waiting:
            node = waiting.pop()
            path = str(node["path"])
            if node["type"] == "file":
                files.append(node)
            elif node["type"] == "dir" and path not in met:
                met.add(path)
                waiting += self._folder(repo, path, commit)["tree"]
            if len(met) > _FOLDERS:
                what = f"{self._hub} lists more than {_FOLDERS} folders in {repo}, so it is no release"
                raise NotFoundError(what, host_of(self._endpoint))
        return sorted(files, key=lambda node: str(node["path"]))

    def _folder(self, repo: str, path: str, revision: str) -> Node:
        """What one folder holds at a branch or commit."""
        query = urlencode({"path": path, "ref": revision})
        try:
            answer = self._get(f"{self._endpoint}/api/v1/file/{quote(repo)}?{query}")
        except HTTPError as error:
            raise unreachable(self._hub, self._endpoint, error) from error
        if answer.status != 200:
            raise self._refused(answer, repo, revision)
        folder: Node = json.loads(answer.data)["data"]
        return folder

    def _get(self, url: str) -> urllib3.BaseHTTPResponse:
        """Follows redirects, as the package does; the token goes to the hub's own door alone."""
        for _ in range(_REDIRECTS):
            headers = self._headers if door(url) == door(self._endpoint) else {}
            answer = self._pool.request("GET", url, headers=headers, redirect=False)
            target = urljoin(url, answer.headers.get("Location", "")) if answer.status // 100 == 3 else url
            if target == url or urlsplit(target).scheme not in ("http", "https"):
                return answer
            check_redirect(self._hub, url, target)
            url = target
        raise unreachable(self._hub, self._endpoint, f"it redirects more than {_REDIRECTS} times")

    def _refused(self, answer: urllib3.BaseHTTPResponse, repo: str, revision: str) -> ZooError:
        if answer.status == 404 and _code(answer.data) in _NO_SUCH_REVISION:
            return absent(self._hub, f"revision {revision} of {repo}", self._endpoint)
        if answer.status == _NOT_ON_WHITE_LIST:
            what = f"{self._hub} does not give {repo}: it is not on the hub's white list (HTTP 418)"
            return AccessError(what, host_of(self._endpoint), "name another source with --source")
        error = refusal(answer.status, self._hub, repo, self._endpoint, answer.headers)
        if isinstance(error, AccessError):  # there is no command that logs in
            error.fix = self._how_to_log_in
        return error

    def _nonsense(self) -> NetworkError:
        return unreachable(self._hub, self._endpoint, "it sent something else than a listing")


def _remote_file(node: Node) -> RemoteFile:
    """A digest of another length is passed on, and refused as none."""
    etag = str(node.get("etag") or "").removeprefix("W/").strip('"').lower() or None
    size = node.get("size")
    is_sha256 = etag is not None and len(etag) == 64
    return RemoteFile(
        str(node["path"]),
        None if size is None else int(size),
        sha256=etag if is_sha256 else None,
        git_sha1=None if is_sha256 else etag,
    )


def _code(body: bytes) -> str | None:
    """What the hub says is missing; None where the body is not its own."""
    try:
        said = json.loads(body)
    except ValueError:
        return None
    return said.get("code") if isinstance(said, dict) else None


def _moment(text: object) -> datetime | None:
    """A time as the hub writes it, with or without fractions and zone; None for anything else."""
    found = _MOMENT.fullmatch(str(text))
    if found is None:
        return None
    zone = (found[2] or "Z").replace("Z", "+00:00")
    return datetime.fromisoformat(found[1] + zone).astimezone(timezone.utc)

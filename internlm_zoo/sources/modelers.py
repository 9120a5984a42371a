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
from urllib.parse import quote, urlencode

from internlm_zoo.errors import AccessError, NotFoundError, UsageError, ZooError
from internlm_zoo.net.addresses import host_of
from internlm_zoo.registry.schema import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Location, RemoteFile, Snapshot
from internlm_zoo.sources.credentials import login_of
from internlm_zoo.sources.http import Answer, Asker, absent, bearer, twice, unreachable
from internlm_zoo.sources.paths import check_path, check_snapshot

_DEFAULT_BRANCH = "main"
_NO_SUCH_REVISION = ("ref_not_exist", "branch_or_path_not_found")
_NOT_ON_WHITE_LIST = 418
_FOLDERS = 256
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)?")

Node = dict[str, Any]


class ModelersSource:
    """See `Source`. endpoint: without a trailing slash."""

    def __init__(self, hub: Hub, endpoint: str, settings: Settings) -> None:
        self._hub = hub.name
        variable = next(iter(hub.token_env), None)
        self._how_to_log_in = variable and f"set {variable} to a token of an account that may read it"
        self._asker = Asker.of(hub.name, endpoint, settings, bearer(login_of(hub, settings).values))
        self._endpoint = self._asker.endpoint

    def resolve(self, repo: str, revision: str | None = None) -> Snapshot:
        check_path(repo, self._hub)
        if repo.count("/") != 1:
            raise UsageError(f"{repo!r} is not a Modelers repository name (owner/name)")
        try:
            return check_snapshot(self._list(repo, revision))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._asker.nonsense() from error

    def locate(self, snapshot: Snapshot, path: str) -> Location:
        if snapshot.file(path) is None:
            raise absent(self._hub, f"{path} in {snapshot.repo}", self._endpoint)
        place = f"{quote(snapshot.repo)}/{snapshot.revision}/media/{quote(path)}"
        return Location(f"{self._endpoint}/api/v1/file/{place}", self._asker.headers)

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
        url = f"{self._endpoint}/api/v1/file/{quote(repo)}?{urlencode({'path': path, 'ref': revision})}"

        def ask() -> Node:
            answer = self._asker.get(url)
            if answer.status != 200:
                raise self._refused(answer, repo, revision)
            try:
                folder: Node = answer.json()["data"]
            except (ValueError, KeyError, TypeError) as error:
                raise self._asker.nonsense() from error
            return folder

        return twice(ask)

    def _refused(self, answer: Answer, repo: str, revision: str) -> ZooError:
        if answer.status == 404 and _code(answer.data) in _NO_SUCH_REVISION:
            return absent(self._hub, f"revision {revision} of {repo}", self._endpoint)
        if answer.status == _NOT_ON_WHITE_LIST:
            what = f"{self._hub} does not give {repo}: it is not on the hub's white list (HTTP 418)"
            return AccessError(what, host_of(self._endpoint), "name another source with --source")
        error = self._asker.refused(answer, repo)
        if isinstance(error, AccessError):  # there is no command that logs in
            error.fix = self._how_to_log_in
        return error


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

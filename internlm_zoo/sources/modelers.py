"""Modelers, by its open API: the official package asks for one exact version of `requests`.

Requests as openmind-hub 1.3.0 makes them (plugins/openmind/om_api.py, file_download.py), but without asking
for every file by itself. One folder is listed at a time. The root's listing names the commit; the folders
below are asked for at it, so that a push in between mixes nothing. Digests: an `etag` of 40 hex digits is the
git blob sha1, one of 64 the sha256. Credentials: the package reads none from the environment or the home.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from pydantic import TypeAdapter

from internlm_zoo.errors import AccessError, NetworkError, UsageError, ZooError
from internlm_zoo.files import Digests, File
from internlm_zoo.names import is_sha1
from internlm_zoo.net.addresses import host_of
from internlm_zoo.registry.schema import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Location, Snapshot
from internlm_zoo.sources.budget import ListingBudget
from internlm_zoo.sources.credentials import credentials_of
from internlm_zoo.sources.hub_client import HubClient, Response, bearer
from internlm_zoo.sources.paths import check_path, check_snapshot
from internlm_zoo.sources.schema import Several, moment, read

_DEFAULT_BRANCH = "main"
_NO_SUCH_REVISION = ("ref_not_exist", "branch_or_path_not_found")
_NOT_ON_WHITE_LIST = 418


@dataclass(frozen=True, slots=True)
class _Node:
    """A file or a folder. etag: a digest of another length is passed on, and refused as none."""

    path: str
    type: str
    size: int | None = None
    etag: str | None = None

    @property
    def remote(self) -> File:
        etag = (self.etag or "").removeprefix("W/").strip('"').lower() or None
        is_sha256 = etag is not None and len(etag) == 64
        return File(self.path, self.size, Digests(sha256=etag) if is_sha256 else Digests(git_sha1=etag))


@dataclass(frozen=True)
class _Commit:
    commit_sha: str
    created: str | None = None


@dataclass(frozen=True)
class _LastCommit:
    commit: _Commit


@dataclass(frozen=True)
class _Folder:
    tree: Several[_Node]
    last_commit: _LastCommit | None = None


@dataclass(frozen=True)
class _FolderListing:
    data: _Folder


@dataclass(frozen=True)
class _Refusal:
    code: str | None = None


_LISTING = TypeAdapter(_FolderListing)
_REFUSAL = TypeAdapter(_Refusal)


class ModelersSource:
    """See `Source`. endpoint: without a trailing slash."""

    def __init__(self, hub: Hub, endpoint: str, settings: Settings) -> None:
        variable = next(iter(hub.token_env), None)
        self._how_to_log_in = variable and f"set {variable} to a token of an account that may read it"
        headers = bearer(credentials_of(hub, settings).values)
        self._client = HubClient.of(hub.name, endpoint, settings, headers)

    def resolve(self, repo: str, revision: str | None = None) -> Snapshot:
        check_path(repo, self._client.hub)
        if repo.count("/") != 1:
            raise UsageError(f"{repo!r} is not a Modelers repository name (owner/name)")
        return check_snapshot(self._list(repo, revision))

    def locate(self, snapshot: Snapshot, path: str) -> Location:
        if snapshot.file(path) is None:
            raise self._client.not_found(f"{path} in {snapshot.repo}")
        place = f"{quote(snapshot.repo)}/{snapshot.revision}/media/{quote(path)}"
        return Location(f"{self._client.endpoint}/api/v1/file/{place}", self._client.headers)

    def _list(self, repo: str, revision: str | None) -> Snapshot:
        budget = ListingBudget(self._client, repo)
        root = self._folder(budget, "", revision or _DEFAULT_BRANCH)
        last = root.last_commit.commit if root.last_commit else _Commit("")
        commit = revision if revision and is_sha1(revision) else last.commit_sha
        if not is_sha1(commit):
            raise self._client.unreachable("its answer names no commit")

        def list_folder(path: str) -> tuple[list[File], list[str]]:
            nodes = (self._folder(budget, path, commit) if path else root).tree
            files = [node.remote for node in nodes if node.type == "file"]
            return files, [node.path for node in nodes if node.type == "dir"]

        found = (file for _, files in budget.walk(list_folder) for file in files)
        files = tuple(sorted(found, key=lambda file: file.path))
        return Snapshot(self._client.hub, repo, commit, revision, files, moment(last.created))

    def _folder(self, budget: ListingBudget, path: str, revision: str) -> _Folder:
        """What one folder holds at a branch or commit."""
        query = urlencode({"path": path, "ref": revision})
        url = f"{self._client.endpoint}/api/v1/file/{quote(budget.repo)}?{query}"

        def ask() -> _Folder:
            answer = budget.get(url)
            if answer.status != 200:
                raise self._error_of(answer, budget.repo, revision)
            return read(_LISTING, answer, self._client).data

        return self._client.retry_once(ask)

    def _error_of(self, answer: Response, repo: str, revision: str) -> ZooError:
        if answer.status == 404 and self._code(answer) in _NO_SUCH_REVISION:
            return self._client.not_found(f"revision {revision} of {repo}")
        if answer.status == _NOT_ON_WHITE_LIST:
            what = f"{self._client.hub} does not give {repo}: it is not on the hub's white list (HTTP 418)"
            return AccessError(what, host_of(self._client.endpoint), "name another `source`")
        error = self._client.error_of(answer, repo)
        if isinstance(error, AccessError):  # there is no command that logs in
            error.fix = self._how_to_log_in
        return error

    def _code(self, answer: Response) -> str | None:
        """What the hub says is missing; None where the body is not its own."""
        try:
            return read(_REFUSAL, answer, self._client).code
        except NetworkError:
            return None

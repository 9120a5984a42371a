"""ModelScope: one request lists a repository, more than one where the server cuts the listing.

The requests are those of `modelscope_hub` (0.5.1, _legacy_api.py), which would go by rules of its own about
proxies, certificates and redirects, write a session file into the user's home, and only warn about a listing
that it cannot complete. Its code reads the saved login. Digests: sha256 of every file. A listing says per
file which commit changed it last; the newest of these names the snapshot, and can be asked for again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote, urlencode

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from pydantic.alias_generators import to_pascal

from internlm_zoo.errors import UnsupportedError, UsageError
from internlm_zoo.files import Digests, File
from internlm_zoo.names import is_sha1
from internlm_zoo.registry.schema import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Location, Snapshot, is_listing, listing_revision
from internlm_zoo.sources.budget import ListingBudget
from internlm_zoo.sources.credentials import credentials_of
from internlm_zoo.sources.hub_client import HubClient, Response, bearer
from internlm_zoo.sources.paths import check_path, check_snapshot
from internlm_zoo.sources.schema import Digest, Several, moment, read

_DEFAULT_BRANCH = "master"
_MAIN = "main"  # what Hugging Face calls it
_CUT_AT = 3000  # where a listing may be cut, which it does not say
_PASCAL = ConfigDict(alias_generator=to_pascal)


@with_config(_PASCAL)
@dataclass(frozen=True, slots=True)
class _Entry:
    """A file or a folder. revision: the commit that changed it last. committed_date: of that, in seconds
    since the epoch."""

    path: str
    type: str = "blob"
    size: int | None = None
    sha256: Digest | None = None
    revision: str | None = None
    committed_date: Annotated[float, Field(allow_inf_nan=False)] | None = None

    @property
    def is_folder(self) -> bool:
        return self.type == "tree"

    @property
    def remote(self) -> File:
        return File(self.path, self.size, Digests(self.sha256 or None))


@with_config(_PASCAL)
@dataclass(frozen=True)
class _Data:
    files: Several[_Entry] | None


@with_config(_PASCAL)
@dataclass(frozen=True)
class _RepositoryListing:
    data: _Data


@with_config(_PASCAL)
@dataclass(frozen=True)
class _Status:
    """What the hub says of its own answer."""

    success: bool | None = None
    code: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None


_LISTING = TypeAdapter(_RepositoryListing)
_STATUS = TypeAdapter(_Status)


class ModelScopeSource:
    """See `Source`. endpoint: without a trailing slash."""

    def __init__(self, hub: Hub, endpoint: str, settings: Settings) -> None:
        headers = _headers(credentials_of(hub, settings).values)
        self._client = HubClient.of(hub.name, endpoint, settings, headers)

    def resolve(self, repo: str, revision: str | None = None) -> Snapshot:
        check_path(repo, self._client.hub)
        if repo.count("/") != 1:
            raise UsageError(f"{repo!r} is not a ModelScope repository name (owner/name)")
        entries = self._list(repo, _branch(revision))
        files = tuple(entry.remote for entry in entries if not entry.is_folder)
        found = _revision(entries, files, revision)
        if is_listing(revision) and found != revision:
            raise self._client.not_found(f"{revision} of {repo}, its files have changed since")
        updated = moment(max((entry.committed_date or 0.0 for entry in entries), default=0.0) or None)
        return check_snapshot(Snapshot(self._client.hub, repo, found, revision, files, updated))

    def locate(self, snapshot: Snapshot, path: str) -> Location:
        if snapshot.file(path) is None:
            raise self._client.not_found(f"{path} in {snapshot.repo}")
        query = urlencode({"Revision": _branch(snapshot.revision), "FilePath": path})
        url = f"{self._client.endpoint}/api/v1/models/{quote(snapshot.repo)}/repo?{query}"
        return Location(url, self._client.headers)

    def _list(self, repo: str, branch: str) -> list[_Entry]:
        """Every entry; of folders that hold more than the server lists at once, one by one."""
        budget = ListingBudget(self._client, repo)

        def list_folder(folder: str) -> tuple[tuple[_Entry, ...], list[str]]:
            entries = self._page(budget, branch, folder, recursive=True)
            if len(entries) < _CUT_AT:
                return entries, []
            entries = self._page(budget, branch, folder, recursive=False)
            deeper = [entry.path for entry in entries if entry.is_folder]
            budget.expect(len(deeper))
            if len(entries) >= _CUT_AT:
                what = f"{self._client.hub} lists at most {_CUT_AT} files of one folder"
                fullest = Counter(entry.path.rpartition("/")[0] for entry in entries).most_common(1)[0][0]
                where, fix = f"{repo}/{fullest}", "use another source"
                raise UnsupportedError(f"{what}, and there are as many or more", where, fix)
            return entries, deeper

        return [entry for _, entries in budget.walk(list_folder) for entry in entries]

    def _page(self, budget: ListingBudget, branch: str, folder: str, recursive: bool) -> tuple[_Entry, ...]:
        repo, root = budget.repo, {"Root": folder} if folder else {}
        query = urlencode({"Revision": branch, "Recursive": str(recursive), **root})
        url = f"{self._client.endpoint}/api/v1/models/{quote(repo)}/repo/files?{query}"
        return self._client.retry_once(lambda: self._entries(budget.get(url), f"{repo} at {branch}"))

    def _entries(self, answer: Response, thing: str) -> tuple[_Entry, ...]:
        """Raises what answers that are no listing mean."""
        if answer.status != 200:
            raise self._client.error_of(answer, thing)
        status = read(_STATUS, answer, self._client)
        if status.success is False and status.code not in (None, 200):
            raise self._client.status_error(status.code, thing, answer.headers)
        return read(_LISTING, answer, self._client).data.files or ()


def _headers(values: Sequence[str]) -> dict[str, str]:
    return {**bearer(values), "Cookie": f"m_session_id={values[0]}"} if values else {}


def _branch(revision: str | None) -> str:
    """What to ask the server for."""
    return _DEFAULT_BRANCH if revision in (None, _MAIN) or is_listing(revision) else str(revision)


def _revision(entries: Sequence[_Entry], files: Sequence[File], asked: str | None) -> str:
    """The commit that was asked for, else the newest that the listing names, else a name for the listing."""
    if asked and is_sha1(asked):
        return asked
    commits = [
        (entry.committed_date or 0.0, entry.revision)
        for entry in entries
        if entry.revision and is_sha1(entry.revision)
    ]
    if commits and not is_listing(asked):
        return max(commits)[1]
    return listing_revision((file.path, file.sha256 or "") for file in files)

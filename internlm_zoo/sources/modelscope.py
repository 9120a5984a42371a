"""ModelScope: one request lists a repository, more than one where the server cuts the listing.

The requests are those of `modelscope_hub` (0.5.1, _legacy_api.py), which would go by rules of its own about
proxies, certificates and redirects, write a session file into the user's home, and only warn about a listing
that it cannot complete. Its code reads the saved login. Digests: sha256 of every file. A listing says per
file which commit changed it last; the newest of these names the snapshot, and can be asked for again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote, urlencode

from internlm_zoo.errors import NotFoundError, UnsupportedError, UsageError
from internlm_zoo.registry.schema import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Location, RemoteFile, Snapshot
from internlm_zoo.sources.credentials import login_of
from internlm_zoo.sources.http import Answer, Asker, absent, bearer, refusal, twice
from internlm_zoo.sources.listing import is_listing, listing_revision
from internlm_zoo.sources.paths import check_path, check_snapshot

_DEFAULT_BRANCH = "master"
_MAIN = "main"  # what Hugging Face calls it
_CUT_AT = 3000
_FOLDERS = 256
_COMMIT = re.compile(r"[0-9a-f]{40}")

Entry = dict[str, Any]


class ModelScopeSource:
    """See `Source`. endpoint: without a trailing slash."""

    def __init__(self, hub: Hub, endpoint: str, settings: Settings) -> None:
        self._hub = hub.name
        self._asker = Asker.of(hub.name, endpoint, settings, _headers(login_of(hub, settings).values))
        self._endpoint = self._asker.endpoint

    def resolve(self, repo: str, revision: str | None = None) -> Snapshot:
        check_path(repo, self._hub)
        if repo.count("/") != 1:
            raise UsageError(f"{repo!r} is not a ModelScope repository name (owner/name)")
        entries = self._list(repo, _branch(revision))
        files = tuple(_remote_file(entry) for entry in entries if entry.get("Type") != "tree")
        found = _revision(entries, files, revision)
        if is_listing(revision) and found != revision:
            raise absent(self._hub, f"{revision} of {repo}, its files have changed since", self._endpoint)
        return check_snapshot(Snapshot(self._hub, repo, found, revision, files, _updated(entries)))

    def locate(self, snapshot: Snapshot, path: str) -> Location:
        if snapshot.file(path) is None:
            raise absent(self._hub, f"{path} in {snapshot.repo}", self._endpoint)
        query = urlencode({"Revision": _branch(snapshot.revision), "FilePath": path})
        url = f"{self._endpoint}/api/v1/models/{quote(snapshot.repo)}/repo?{query}"
        return Location(url, self._asker.headers)

    def _list(self, repo: str, branch: str) -> list[Entry]:
        """Every entry; of folders that hold more than the server lists at once, one by one."""
        found: list[Entry] = []
        waiting, met = [""], 0
        while waiting:
            folder = waiting.pop()
            entries = self._page(repo, branch, folder, recursive=True)
            if len(entries) >= _CUT_AT:
                entries = self._page(repo, branch, folder, recursive=False)
                waiting += [entry["Path"] for entry in entries if entry.get("Type") == "tree"]
            if len(entries) >= _CUT_AT:
                what = (
                    f"{self._hub} lists at most {_CUT_AT} files of one folder, and there are as many or more"
                )
                raise UnsupportedError(what, f"{repo}/{_fullest(entries)}", "use another source")
            found += entries
            met += 1
            if met > _FOLDERS:
                raise NotFoundError(f"{repo} has more than {_FOLDERS} large folders, so it is no release")
        return found

    def _page(self, repo: str, branch: str, folder: str, recursive: bool) -> list[Entry]:
        query = {"Revision": branch, "Recursive": str(recursive), **({"Root": folder} if folder else {})}
        url = f"{self._endpoint}/api/v1/models/{quote(repo)}/repo/files?{urlencode(query)}"

        def ask() -> list[Entry]:
            answer = self._asker.get(url)
            try:
                entries = self._entries(answer, f"{repo} at {branch}")
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise self._asker.nonsense() from error
            return entries

        return twice(ask)

    def _entries(self, answer: Answer, thing: str) -> list[Entry]:
        """Raises what answers that are no listing mean; ValueError and its like for what is not the hub's."""
        if answer.status != 200:
            raise self._asker.refused(answer, thing)
        said = answer.json()
        if said.get("Success") is False and said.get("Code") != 200:
            raise refusal(int(said["Code"]), self._hub, thing, self._endpoint, answer.headers)
        entries = said["Data"]["Files"] or []
        if not all(isinstance(entry["Path"], str) and entry.get("Type", "blob") for entry in entries):
            raise ValueError("a file without a path")
        return list(entries)


def _fullest(entries: list[Entry]) -> str:
    folders = Counter(entry["Path"].rpartition("/")[0] for entry in entries)
    return str(folders.most_common(1)[0][0])


def _headers(values: Sequence[str]) -> dict[str, str]:
    return {**bearer(values), "Cookie": f"m_session_id={values[0]}"} if values else {}


def _branch(revision: str | None) -> str:
    """What to ask the server for."""
    return _DEFAULT_BRANCH if revision in (None, _MAIN) or is_listing(revision) else str(revision)


def _remote_file(entry: Entry) -> RemoteFile:
    size = entry.get("Size")
    sha256 = entry.get("Sha256") or None
    return RemoteFile(entry["Path"], None if size is None else int(size), sha256 and sha256.lower())


def _updated(entries: list[Entry]) -> datetime | None:
    """Of the newest commit that the listing names; its times are seconds since the epoch."""
    times = [float(entry["CommittedDate"]) for entry in entries if entry.get("CommittedDate")]
    return datetime.fromtimestamp(max(times), timezone.utc) if times else None


def _revision(entries: list[Entry], files: tuple[RemoteFile, ...], asked: str | None) -> str:
    """The commit that was asked for, else the newest that the listing names, else a name for the listing."""
    if asked and _COMMIT.fullmatch(asked):
        return asked
    dated = [entry for entry in entries if _COMMIT.fullmatch(str(entry.get("Revision")))]
    if dated and not is_listing(asked):
        return str(
            max(dated, key=lambda entry: (entry.get("CommittedDate") or 0, entry["Revision"]))["Revision"]
        )
    return listing_revision((file.path, file.sha256 or "") for file in files)

"""A directory as a hub, `<root>/<repo>/...`: for `file://` endpoints, paths, and the models in the package.

Nobody publishes digests for a directory, so they are made by reading the files; that also names the snapshot.
Links are followed within the root alone: what they lead to is going to be copied.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from converters.formats.access import is_directory
from converters.formats.bytesource import LocalFile, hex_of
from converters.formats.links import enclosed_in
from converters.system.system_files import LISTED, files_below
from converters.system.threads import in_threads
from internlm_zoo.errors import NotFoundError
from internlm_zoo.files import Digests, File
from internlm_zoo.registry.schema import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import DEFAULT_NAMES, Location, Snapshot, listing_revision
from internlm_zoo.sources.paths import check_path, check_snapshot

_WORKERS = 8


class DirectorySource:
    """See `Source`. endpoint: a path or a file:// URL."""

    def __init__(self, hub: Hub, endpoint: str, settings: Settings) -> None:
        self._hub = hub.name
        is_url = endpoint.lower().startswith("file:")
        place = url2pathname(urlsplit(endpoint).path) if is_url else endpoint
        self._root = Path(place).expanduser().absolute()

    def resolve(self, repo: str, revision: str | None = None) -> Snapshot:
        folder = self._folder(repo)
        if not is_directory(folder):
            raise NotFoundError(f"{self._hub} has no {repo}", self._root)
        paths = sorted(files_below(folder, LISTED))
        files = tuple(in_threads(lambda path: self._remote_file(folder, path), paths, _WORKERS))
        found = listing_revision((file.path, file.sha256 or "") for file in files)
        if revision not in (*DEFAULT_NAMES, found):
            raise NotFoundError(f"{self._hub} has no revision {revision} of {repo}", folder)
        return check_snapshot(Snapshot(self._hub, repo, found, revision, files))

    def locate(self, snapshot: Snapshot, path: str) -> Location:
        check_path(path, f"{self._hub}: {snapshot.repo}")
        file = self._folder(snapshot.repo) / path
        if not file.is_file():
            raise NotFoundError(f"{self._hub} has no {path} in {snapshot.repo}", self._root)
        return Location(file.as_uri())

    def _folder(self, repo: str) -> Path:
        check_path(repo, self._hub)
        return self._root / repo

    def _remote_file(self, folder: Path, path: str) -> File:
        with LocalFile(folder / path, enclosed_in(self._root)) as file:
            sha256 = hex_of(file, hashlib.sha256())
            file.confirm()
            return File(path, file.size, Digests(sha256))

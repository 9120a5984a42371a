"""A plain web server that shows a page of links for a directory, `<endpoint>/<repo>/`, as nginx, Apache and
`python -m http.server` do.

Such pages give names, and dates and sizes in nobody's format: these are not read, but name the snapshot.
Links count that lead below the directory whose page they stand on; all others are ignored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import quote, unquote, urljoin, urlsplit

import urllib3

from internlm_zoo.errors import NotFoundError
from internlm_zoo.registry.schema import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Location, RemoteFile, Snapshot
from internlm_zoo.sources.http import Limits, absent, open_pool, refusal, twice, unreachable, within_limits
from internlm_zoo.sources.listing import listing_revision
from internlm_zoo.sources.paths import check_path, check_snapshot

_PAGES = 256
_LARGEST = 16 << 20
_DEFAULT_NAMES = (None, "main", "master")


class WebSource:
    """See `Source`. Has no credentials; follows no redirects."""

    def __init__(self, hub: Hub, endpoint: str, settings: Settings) -> None:
        self._hub = hub.name
        self._endpoint = endpoint
        self._pool = open_pool(endpoint, settings)
        self._limits = Limits.of(settings)

    def resolve(self, repo: str, revision: str | None = None) -> Snapshot:
        check_path(repo, self._hub)
        pages = dict(self._walk(repo))
        found = listing_revision(
            (path, hashlib.sha256(page.encode()).hexdigest()) for path, page in pages.items()
        )
        if revision not in (*_DEFAULT_NAMES, found):
            raise absent(self._hub, f"revision {revision} of {repo}", self._endpoint)
        files = (
            RemoteFile(folder + name)
            for folder, page in pages.items()
            for name in links_below(self._url(repo, folder), page)
            if not name.endswith("/")
        )
        return check_snapshot(Snapshot(self._hub, repo, found, revision, tuple(files)))

    def locate(self, snapshot: Snapshot, path: str) -> Location:
        if snapshot.file(path) is None:
            raise absent(self._hub, f"{path} in {snapshot.repo}", self._endpoint)
        return Location(self._url(snapshot.repo, path))

    def _walk(self, repo: str) -> Iterator[tuple[str, str]]:
        """Path of every directory, ending in a slash but for the first, which is empty; and its page."""
        waiting, seen = [""], {""}
        while waiting:
            folder = waiting.pop()
            url = self._url(repo, folder)
            page = twice(lambda url=url: self._page(url, repo))  # type: ignore[misc]
            yield folder, page
            deeper = {folder + name for name in links_below(url, page) if name.endswith("/")} - seen
            seen |= deeper
            waiting += sorted(deeper)
            if len(seen) > _PAGES:
                raise NotFoundError(f"it has more than {_PAGES} directories, so it is no release", url)

    def _page(self, url: str, repo: str) -> str:
        def ask() -> bytes:
            with self._pool.request("GET", url, redirect=False, preload_content=False) as answer:
                if answer.status != 200:
                    raise refusal(answer.status, self._hub, repo, self._endpoint, answer.headers)
                return answer.read(_LARGEST) if "html" in answer.headers.get("Content-Type", "") else b""

        try:
            page = within_limits(ask, self._limits.listing, self._hub, self._endpoint)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unreachable(self._hub, self._endpoint, error) from error
        if not page:
            raise NotFoundError(f"{self._hub} shows no list of the files in {repo}", url)
        return page.decode("utf-8", "replace")

    def _url(self, repo: str, path: str) -> str:
        return f"{self._endpoint}/{quote(repo)}/{quote(path)}"


def links_below(url: str, page: str) -> list[str]:
    """Names of the files, and of directories with a slash, that a page links to in the directory it shows."""
    links = _Links()
    links.feed(page)
    here, names = urlsplit(url), []
    for target in links.targets:
        there = urlsplit(urljoin(url, target))
        path, folder = unquote(there.path), unquote(here.path)
        name = path.removeprefix(folder)
        below = there[:2] == here[:2] and path.startswith(folder) and name
        if below and "/" not in name.removesuffix("/"):
            names.append(name)
    return list(dict.fromkeys(names))


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.targets += [value for name, value in attrs if name == "href" and value]

"""A plain web server that shows a page of links for a directory, `<endpoint>/<repo>/`, as nginx, Apache and
`python -m http.server` do.

Such pages give names, and dates and sizes in nobody's format: these are not read, but name the snapshot.
Links count that lead below the directory whose page they stand on; all others are ignored. A page that has
moved is read where it is now, and so are the files that it links to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import quote, unquote, urljoin, urlsplit

from internlm_zoo.errors import NotFoundError
from internlm_zoo.registry.schema import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Location, RemoteFile, Snapshot
from internlm_zoo.sources.http import Answer, Asker, absent, twice
from internlm_zoo.sources.listing import listing_revision
from internlm_zoo.sources.paths import check_path, check_snapshot

_PAGES = 256
_DEFAULT_NAMES = (None, "main", "master")


class WebSource:
    """See `Source`. Has no credentials but those in its address."""

    def __init__(self, hub: Hub, endpoint: str, settings: Settings) -> None:
        self._hub = hub.name
        self._asker = Asker.of(hub.name, endpoint, settings)
        self._endpoint = self._asker.endpoint
        self._moved: dict[str, str] = {}

    def resolve(self, repo: str, revision: str | None = None) -> Snapshot:
        check_path(repo, self._hub)
        pages = dict(self._walk(repo))
        found = listing_revision(
            (path, hashlib.sha256(page.data).hexdigest()) for path, page in pages.items()
        )
        if revision not in (*_DEFAULT_NAMES, found):
            raise absent(self._hub, f"revision {revision} of {repo}", self._endpoint)
        files = (
            RemoteFile(folder + name)
            for folder, page in pages.items()
            for name in _links(page)
            if not name.endswith("/")
        )
        return check_snapshot(Snapshot(self._hub, repo, found, revision, tuple(files)))

    def locate(self, snapshot: Snapshot, path: str) -> Location:
        if snapshot.file(path) is None:
            raise absent(self._hub, f"{path} in {snapshot.repo}", self._endpoint)
        url = self._root(snapshot.repo) + quote(path)
        return Location(url, self._asker.own(url))

    def _walk(self, repo: str) -> Iterator[tuple[str, Answer]]:
        """Path of every directory, ending in a slash but for the first, which is empty; and its page."""
        waiting, seen = [""], {""}
        while waiting:
            folder = waiting.pop()
            page = self._page(repo, folder)
            if not folder:
                self._moved[repo] = urljoin(page.url, ".")
            yield folder, page
            deeper = {folder + name for name in _links(page) if name.endswith("/")} - seen
            seen |= deeper
            waiting += sorted(deeper)
            if len(seen) > _PAGES:
                raise NotFoundError(f"it has more than {_PAGES} directories, so it is no release", page.url)

    def _page(self, repo: str, folder: str) -> Answer:
        """The page of a directory. One that is cut, or links to nothing, counts when it comes a second time:
        gateways send others in its place."""
        url = self._root(repo) + quote(folder)
        doubted: list[Answer] = []

        def ask() -> Answer:
            page = self._asker.get(url)
            if page.status != 200:
                raise self._asker.refused(page, repo)
            if not doubted and not _is_sound(page):
                doubted.append(page)
                raise self._asker.nonsense()
            return page

        page = twice(ask)
        if not _is_page(page):
            raise NotFoundError(f"{self._hub} shows no list of the files in {repo}", page.url)
        return page

    def _root(self, repo: str) -> str:
        return self._moved.get(repo, f"{self._endpoint}/{quote(repo)}/")


def _is_page(page: Answer) -> bool:
    return "html" in page.headers.get("Content-Type", "") and bool(page.data)


def _is_sound(page: Answer) -> bool:
    """Whether it links to something, and ends what it begins."""
    text = page.data.lower()
    ends = b"<html" not in text or b"</html>" in text
    return _is_page(page) and ends and text.rfind(b"<a ") < text.rfind(b"</a>") and bool(_links(page))


def _links(page: Answer) -> list[str]:
    return links_below(urljoin(page.url, "."), page.data.decode("utf-8", "replace"))


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

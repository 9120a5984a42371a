"""A plain web server that shows a page of links for a directory, `<endpoint>/<repo>/`, as nginx, Apache and
`python -m http.server` do.

Such pages give names, and dates and sizes in nobody's format: these are not read, but name the snapshot.
Links count that lead below the directory whose page they stand on; all others are ignored. A page that has
moved is read where it is now, and so are the files that it links to.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from html import unescape
from urllib.parse import quote, unquote, urljoin, urlsplit

from internlm_zoo.errors import NotFoundError
from internlm_zoo.files import File
from internlm_zoo.registry.schema import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import DEFAULT_NAMES, Location, Snapshot, listing_revision
from internlm_zoo.sources.budget import ListingBudget
from internlm_zoo.sources.hub_client import LONGEST_URL, HubClient, Response
from internlm_zoo.sources.paths import FILES, check_path, check_snapshot

LINKS = FILES + 100
"""On one page: files, and what servers put above them."""

# Neither looks further than the next bracket, whatever stands there.
_TAG = re.compile(r"<a\s([^<>]*)>", re.IGNORECASE)
_HREF = re.compile(r"""(?<![\w-])href\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"']+))""", re.IGNORECASE)


@dataclass(frozen=True)
class _Page:
    """What a directory shows. url: of the directory, where it is now. names: of the files in it, and of
    directories with a slash. digest: of the page."""

    url: str
    names: tuple[str, ...]
    digest: str


class WebSource:
    """See `Source`. Has no credentials but those in its address."""

    def __init__(self, hub: Hub, endpoint: str, settings: Settings) -> None:
        self._client = HubClient.of(hub.name, endpoint, settings)
        self._moved: dict[str, str] = {}

    def resolve(self, repo: str, revision: str | None = None) -> Snapshot:
        check_path(repo, self._client.hub)
        budget = ListingBudget(self._client, repo)
        pages = dict(budget.walk(lambda folder: self._list(budget, folder)))
        found = listing_revision((path, page.digest) for path, page in pages.items())
        if revision not in (*DEFAULT_NAMES, found):
            raise self._client.not_found(f"revision {revision} of {repo}")
        files = (
            File(folder + name)
            for folder, page in pages.items()
            for name in page.names
            if not name.endswith("/")
        )
        return check_snapshot(Snapshot(self._client.hub, repo, found, revision, tuple(files)))

    def locate(self, snapshot: Snapshot, path: str) -> Location:
        if snapshot.file(path) is None:
            raise self._client.not_found(f"{path} in {snapshot.repo}")
        url = self._root(snapshot.repo) + quote(path)
        return Location(url, self._client.headers_for(url))

    def _list(self, budget: ListingBudget, folder: str) -> tuple[_Page, list[str]]:
        """The page of a directory, and the paths of those in it, which end in a slash."""
        page = self._page(budget, folder)
        if not folder:
            self._moved[budget.repo] = page.url
        return page, [folder + name for name in page.names if name.endswith("/")]

    def _page(self, budget: ListingBudget, folder: str) -> _Page:
        """The page of a directory. One that is cut, or links to nothing, counts when it comes a second time:
        gateways send others in its place."""
        url = self._root(budget.repo) + quote(folder)
        suspect: list[Response] = []

        def ask() -> _Page:
            answer = budget.get(url)
            if answer.status != 200:
                raise self._client.error_of(answer, budget.repo)
            page = self._read(answer)
            if not suspect and not (page.names and _is_sound(answer)):
                suspect.append(answer)
                raise self._client.not_a_listing()
            if not _is_page(answer):
                what = f"{self._client.hub} shows no list of the files in {budget.repo}"
                raise NotFoundError(what, answer.url)
            return page

        return self._client.retry_once(ask)

    def _read(self, answer: Response) -> _Page:
        here = urljoin(answer.url, ".")
        try:
            names = links_below(here, answer.data.decode("utf-8", "replace")) if _is_page(answer) else []
        except ValueError as error:
            raise self._client.malformed(str(error)) from error
        return _Page(here, tuple(names), hashlib.sha256(answer.data).hexdigest())

    def _root(self, repo: str) -> str:
        return self._moved.get(repo, f"{self._client.endpoint}/{quote(repo)}/")


def _is_page(page: Response) -> bool:
    return "html" in page.headers.get("Content-Type", "") and bool(page.data)


def _is_sound(page: Response) -> bool:
    """Whether it ends what it begins."""
    text = page.data.lower()
    ends = b"<html" not in text or b"</html>" in text
    return _is_page(page) and ends and text.rfind(b"<a ") < text.rfind(b"</a>")


def links_below(url: str, page: str) -> list[str]:
    """Names of the files, and of directories with a slash, that a page links to in the directory it shows.
    Raises ValueError, with a clause, for more links, or longer ones, than a page of files has."""
    here = urlsplit(url)
    folder = unquote(here.path)
    names: dict[str, None] = {}
    for target in _targets(page):
        with suppress(ValueError):  # what is no address leads nowhere
            there = urlsplit(urljoin(url, target))
            path = unquote(there.path)
            name = path.removeprefix(folder)
            below = there[:2] == here[:2] and path.startswith(folder) and name
            if below and "/" not in name.removesuffix("/"):
                names[name] = None
    return list(names)


def _targets(page: str) -> Iterator[str]:
    for number, tag in enumerate(_TAG.finditer(_without_comments(page))):
        if number == LINKS:
            raise ValueError(f"a page has more than {LINKS:,} links")
        found = _HREF.search(tag[1])
        target = found and next(filter(None, found.groups()), None)
        if target and len(target) > LONGEST_URL:
            raise ValueError(f"a link has more than {LONGEST_URL:,} characters")
        if target:
            yield unescape(target)


def _without_comments(page: str) -> str:
    text, *rest = page.split("<!--")
    return text + "".join(part.partition("-->")[2] for part in rest)

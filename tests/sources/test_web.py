from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web

from internlm_zoo.errors import AccessError, IntegrityError, NetworkError, NotFoundError
from internlm_zoo.serve.background import start
from internlm_zoo.sources import open_source
from internlm_zoo.sources.web import links_below
from tests.sources.contract import REPO, SourceContract
from tests.sources.web_server import serve_directory


class TestWeb(SourceContract):
    protocol = "web"
    sizes_are_listed = False
    digests_are_listed = False

    @contextmanager
    def serve(self, root: Path) -> Iterator[str]:
        with serve_directory(root) as url:
            yield url

    @pytest.mark.parametrize(
        ("status", "error"), [(403, AccessError), (500, NetworkError), (302, NetworkError)]
    )
    def test_what_is_no_page_is_an_error(self, settings, status, error) -> None:
        with answering(status=status) as url, pytest.raises(error, match="somewhere"):
            open_source(self.hub(url), settings).resolve(REPO)

    def test_a_file_is_no_directory(self, settings) -> None:
        with answering(body=b"weights") as url, pytest.raises(NotFoundError, match="no list of the files"):
            open_source(self.hub(url), settings).resolve(REPO)

    def test_a_page_that_links_to_no_file_is_no_release(self, settings) -> None:
        page = '<a href="https://example.org/model.bin">elsewhere</a>'
        with answering(text=page, content_type="text/html") as url, pytest.raises(NotFoundError):
            open_source(self.hub(url), settings).resolve(REPO)

    @pytest.mark.parametrize("name", ["nul.txt", "a\\evil", "C:evil", "a\tb"])
    def test_a_hostile_name_is_refused(self, settings, name) -> None:
        page = f'<a href="{quote(name)}">x</a>'
        with answering(text=page, content_type="text/html") as url, pytest.raises(IntegrityError):
            open_source(self.hub(url), settings).resolve(REPO)

    def test_directories_without_end_are_left(self, settings) -> None:
        page = "".join(f'<a href="{n}/">x</a>' for n in range(10))
        with answering(text=page, content_type="text/html") as url, pytest.raises(NotFoundError, match="256"):
            open_source(self.hub(url), settings).resolve(REPO)


@contextmanager
def answering(**answer) -> Iterator[str]:
    """A server that says the same to whatever it is asked."""

    async def handle(request: web.Request) -> web.Response:
        return web.Response(**answer)

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    with start(app) as server:
        yield server.url


PAGES = {
    "nginx": '<a href="../">../</a>\n<a href="config.json">config.json</a>  01-Jan-2024 10:00  600\n'
    '<a href="with%20space.pt">with space.pt</a>\n<a href="sub/">sub/</a>',
    "Apache": '<a href="?C=N;O=D">Name</a> <a href="/models/">Parent Directory</a>'
    '<a href="config.json">config.json</a><a href="with%20space.pt">w..&gt;</a><a href="sub/">sub/</a>',
    "http.server": '<li><a href="config.json">config.json</a></li><li><a href="with%20space.pt">w</a></li>'
    '<li><a href="sub/">sub/</a></li>',
    "absolute": "".join(
        f'<a HREF="{escape(where)}">x</a>'
        for where in ("/models/%37b/config.json", "http://h/models/7b/with%20space.pt", "/models/7b/sub/")
    ),
}


@pytest.mark.parametrize("server", PAGES)
def test_links_of_the_pages_that_servers_make(server: str) -> None:
    assert links_below("http://h/models/7b/", PAGES[server]) == ["config.json", "with space.pt", "sub/"]


@pytest.mark.parametrize(
    "target",
    ["../8b/config.json", "sub/deeper.txt", "//other/models/7b/x", "https://h/models/7b/x", "", "#top"],
)
def test_links_that_lead_elsewhere_are_ignored(target: str) -> None:
    assert links_below("http://h/models/7b/", f'<a href="{target}">x</a>') == []

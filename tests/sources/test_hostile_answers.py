"""Listings that no honest hub makes, and answers that are none, in each protocol."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

from internlm_zoo.errors import IntegrityError, NetworkError, NotFoundError
from internlm_zoo.registry import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources import open_source
from internlm_zoo.sources.base import Source
from tests.sources.contract import REPO
from tests.sources.hostile import hub_that_answers, hub_that_lists

PROTOCOLS = ("huggingface", "modelscope", "modelers", "openxlab")
WITH_DIGESTS = PROTOCOLS[:3]


@pytest.mark.parametrize("protocol", WITH_DIGESTS)
@pytest.mark.parametrize("facts", [{"sha256": "../../etc/passwd"}, {"sha256": "abc"}, {"size": -1}])
def test_a_digest_or_size_that_is_none_is_refused(
    protocol: str, facts: dict[str, object], tmp_path: Path
) -> None:
    with hub_that_lists(protocol, {"config.json": facts}) as hub, pytest.raises(IntegrityError):
        opened(protocol, hub.url, tmp_path).resolve(REPO)


@pytest.mark.parametrize("protocol", WITH_DIGESTS)
def test_a_commit_that_is_a_path_never_names_a_snapshot(protocol: str, tmp_path: Path) -> None:
    with hub_that_lists(protocol, {"config.json": {}}, commit="../../evil") as hub:
        try:
            revision = opened(protocol, hub.url, tmp_path).resolve(REPO).revision
        except (IntegrityError, NetworkError):
            return
    assert revision.startswith("listing-")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_empty_listing_is_no_release(protocol: str, tmp_path: Path) -> None:
    with hub_that_lists(protocol, {}) as hub, pytest.raises(NotFoundError):
        opened(protocol, hub.url, tmp_path).resolve(REPO)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("body", ["[]", "{}", '"yes"', '{"data": 3}', '{"Data": {"Files": [3]}}', "\xff"])
def test_an_answer_that_is_no_listing_is_no_answer(
    protocol: str, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    astray = hub_that_answers(lambda: web.Response(text=body))
    with astray as hub, pytest.raises((NetworkError, NotFoundError)):
        opened(protocol, hub.url, tmp_path).resolve(REPO)


def opened(protocol: str, endpoint: str, tmp_path: Path) -> Source:
    hub = Hub(name="somewhere", title="Somewhere", protocol=protocol, endpoint=endpoint)
    return open_source(hub, Settings(home=tmp_path, environ={"HOME": str(tmp_path)}))

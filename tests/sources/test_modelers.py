from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from internlm_zoo.errors import AccessError, NetworkError, NotFoundError
from internlm_zoo.serve.background import start
from internlm_zoo.settings import Settings
from internlm_zoo.sources import open_source
from internlm_zoo.sources.base import Source
from tests.hubs import FaultyHub
from tests.sources.contract import FILES, REPO, TOKEN, HubContract
from tests.sources.hostile import COMMIT, hub_that_answers, hub_that_lists

TREE = f"/api/v1/file/{REPO}"


class TestModelers(HubContract):
    protocol = "modelers"
    token_env = ("INTERNLM_ZOO_MODELERS_TOKEN",)

    def test_lfs_files_have_sha256_and_small_ones_the_git_digest(self, source: Source) -> None:
        for file in source.resolve(REPO).files:
            in_lfs = file.path.endswith(".safetensors")
            assert (file.sha256 is not None, file.git_sha1 is not None) == (in_lfs, not in_lfs)

    def test_every_folder_is_asked_for_once_and_below_the_root_at_the_commit(
        self, root: Path, settings: Settings
    ) -> None:
        with FaultyHub(root) as hub:
            commit = self.opened(hub, settings).resolve(REPO, "main").revision
            asked = [(seen.path, seen.query["path"], seen.query["ref"]) for seen in hub.requests]
        assert asked == [(TREE, "", "main"), (TREE, "weights", commit), (TREE, "weights/deep", commit),
                         (TREE, "weights/deep/er", commit)]  # fmt: skip

    def test_bytes_are_located_at_the_commit_not_at_the_branch(self, source: Source) -> None:
        snapshot = source.resolve(REPO, "main")
        url = source.locate(snapshot, "with space & 中文 %41.txt").url
        assert f"{TREE}/{snapshot.revision}/media/with%20space" in url

    def test_the_token_goes_along_as_bearer(self, root: Path, settings: Settings) -> None:
        with FaultyHub(root, tokens={TOKEN}) as hub:
            source = self.opened(hub, settings, TOKEN)
            location = source.locate(source.resolve(REPO), "config.json")
        assert location.headers == {"Authorization": f"Bearer {TOKEN}"}

    @pytest.mark.parametrize("variable", ["INTERNLM_ZOO_MODELERS_ENDPOINT", "OPENMIND_HUB_ENDPOINT"])
    def test_either_variable_leads_to_another_address(
        self, root: Path, settings: Settings, variable: str
    ) -> None:
        from internlm_zoo.registry import read_registry

        with FaultyHub(root) as hub:
            elsewhere = replace(settings, environ={**settings.environ, variable: hub.url})
            files = open_source(read_registry().hub("modelers"), elsewhere).resolve(REPO).files
        assert {file.path for file in files} == set(FILES)

    def test_who_may_not_read_is_told_which_variable_to_set(self, root: Path, settings: Settings) -> None:
        with FaultyHub(root, tokens={TOKEN}) as hub, pytest.raises(AccessError) as caught:
            self.opened(hub, settings, "wrong").resolve(REPO)
        assert caught.value.fix and "INTERNLM_ZOO_MODELERS_TOKEN" in caught.value.fix

    def test_a_repository_off_the_white_list_is_no_access(self, root: Path, settings: Settings) -> None:
        with FaultyHub(root) as hub:
            hub.fault(418, "/*")
            with pytest.raises(AccessError, match="white list"):
                self.opened(hub, settings).resolve(REPO)

    @pytest.mark.parametrize("code", ["ref_not_exist", "branch_or_path_not_found"])
    def test_a_revision_that_is_missed_is_named(self, settings: Settings, code: str) -> None:
        answer = {"code": code, "msg": "", "data": None}
        missing = hub_that_answers(lambda: web.json_response(answer, status=404))
        with missing as hub, pytest.raises(NotFoundError, match="revision v9"):
            open_source(self.hub(hub.url), settings).resolve(REPO, "v9")

    def test_a_hub_that_sends_in_circles_is_left(self, root: Path, settings: Settings) -> None:
        with FaultyHub(root) as hub:
            hub.fault(302, "/*")  # leads nowhere
            with pytest.raises(NetworkError, match="HTTP 302"):
                self.opened(hub, settings).resolve(REPO)

        async def answer(request: web.Request) -> web.Response:
            raise web.HTTPFound(f"/{request.path.count('x') * 'x'}x")

        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        with start(app) as server, pytest.raises(NetworkError, match="redirects more than 10 times"):
            open_source(self.hub(server.url), settings).resolve(REPO)

    def test_folders_without_end_are_left(self, settings: Settings) -> None:
        async def answer(request: web.Request) -> web.Response:
            deeper = {"type": "dir", "path": f"{request.query['path']}/x".lstrip("/")}
            commit = {"commit_sha": COMMIT, "created": "2024-07-19T08:00:00Z"}
            return web.json_response({"data": {"tree": [deeper], "last_commit": {"commit": commit}}})

        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        with start(app) as server, pytest.raises(NotFoundError, match="more than 256 folders"):
            open_source(self.hub(server.url), settings).resolve(REPO)

    @pytest.mark.parametrize(
        ("date", "hour"),
        [("2024-07-19T08:00:00Z", 8), ("2024-07-19T08:00:00.123456789+08:00", 0), ("yesterday", None)],
    )
    def test_the_last_commit_dates_the_snapshot(
        self, settings: Settings, date: str, hour: int | None
    ) -> None:
        with hub_that_lists("modelers", {"a.txt": {}}, date=date) as hub:
            updated = open_source(self.hub(hub.url), settings).resolve(REPO).updated
        assert (updated and (updated.hour, updated.tzinfo is not None)) == (
            None if hour is None else (hour, True)
        )

    def test_an_etag_may_be_quoted(self, settings: Settings) -> None:
        with hub_that_lists("modelers", {"a.txt": {"sha256": f'W/"{"A" * 40}"'}}) as hub:
            file = open_source(self.hub(hub.url), settings).resolve(REPO).files[0]
        assert (file.sha256, file.git_sha1) == (None, "a" * 40)

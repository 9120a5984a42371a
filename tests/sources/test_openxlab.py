from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from internlm_zoo.errors import UsageError
from internlm_zoo.settings import Settings
from tests.hubs import FaultyHub
from tests.sources.contract import FILES, REPO, TOKEN, HubContract, fetch

LISTING = "/api/v1/model-center/api/v1/cli/repository/getFileDownloadUrl"


class TestOpenXLab(HubContract):
    protocol = "openxlab"
    token_env = ("OPENXLAB_AK", "OPENXLAB_SK")
    sizes_are_listed = False
    digests_are_listed = False

    def test_a_public_release_takes_one_unsigned_request(self, root: Path, settings: Settings) -> None:
        with FaultyHub(root) as hub:
            source = self.opened(hub, settings)
            snapshot = source.resolve(REPO)
            for path in FILES:
                source.locate(snapshot, path)
            assert [seen.path for seen in hub.requests] == [LISTING]
            assert "Authorization" not in hub.requests[0].headers

    def test_keys_are_exchanged_once_for_a_token(self, root: Path, settings: Settings) -> None:
        with FaultyHub(root, tokens={TOKEN}) as hub:
            source = self.opened(hub, settings, TOKEN)
            source.resolve(REPO)
            source.resolve(REPO)
            asked = [seen.path.rpartition("/")[2] for seen in hub.requests]
        assert asked == ["auth", "getJwt", "getFileDownloadUrl", "getFileDownloadUrl"]

    def test_who_comes_back_for_a_file_gets_a_fresh_link(self, root: Path, settings: Settings) -> None:
        with FaultyHub(root) as hub:
            source = self.opened(hub, settings)
            snapshot = source.resolve(REPO)
            first, second = (source.locate(snapshot, "config.json") for _ in range(2))
            assert first.url != second.url
            assert fetch(second) == FILES["config.json"]
            assert len(hub.requests) - len(hub.downloads()) == 2

    def test_a_link_about_to_expire_is_not_handed_out(self, root: Path, settings: Settings) -> None:
        with FaultyHub(root, url_seconds=20) as hub:
            source = self.opened(hub, settings)
            snapshot = source.resolve(REPO)
            source.locate(snapshot, "config.json")
            assert len(hub.requests) == 2

    def test_links_carry_no_credentials(self, root: Path, settings: Settings) -> None:
        with FaultyHub(root, tokens={TOKEN}) as hub:
            source = self.opened(hub, settings, TOKEN)
            location = source.locate(source.resolve(REPO), "config.json")
        assert location.headers == {} and location.expires is not None

    def test_the_saved_keys_are_used(self, root: Path, settings: Settings, home: Path) -> None:
        (home / ".openxlab").mkdir()
        (home / ".openxlab" / "config.json").write_text(json.dumps({"ak": "me", "sk": TOKEN}))
        with FaultyHub(root, tokens={TOKEN}) as hub:
            assert self.opened(hub, settings).resolve(REPO).files
        assert [path.name for path in (home / ".openxlab").iterdir()] == ["config.json"]

    def test_saved_keys_that_cannot_be_read_are_said(
        self, root: Path, settings: Settings, home: Path
    ) -> None:
        (home / ".openxlab").mkdir()
        (home / ".openxlab" / "config.json").write_text("ak=me")
        with FaultyHub(root) as hub, pytest.raises(UsageError, match="keys cannot be read"):
            self.opened(hub, settings)

    def test_one_key_without_the_other_is_a_mistake(self, root: Path, settings: Settings) -> None:
        alone = replace(settings, environ={**settings.environ, "OPENXLAB_AK": "me", "OPENXLAB_SK": ""})
        with FaultyHub(root) as hub, pytest.raises(UsageError, match="OPENXLAB_SK"):
            from internlm_zoo.sources import open_source

            open_source(self.hub(hub.url), alone)

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

from internlm_zoo.errors import AccessError, IntegrityError, NotFoundError, UnsupportedError
from internlm_zoo.settings import Settings
from internlm_zoo.sources import open_source
from internlm_zoo.sources.base import Source
from tests.hubs import FaultyHub
from tests.sources.contract import FILES, REPO, TOKEN, HubContract, fetch, write_files
from tests.sources.hostile import hub_that_answers, hub_that_lists


class TestModelScope(HubContract):
    protocol = "modelscope"
    token_env = ("MODELSCOPE_API_TOKEN",)

    def test_every_file_has_a_sha256(self, source: Source) -> None:
        assert all(file.sha256 for file in source.resolve(REPO).files)

    @pytest.mark.parametrize("revision", ["master", "main", None])
    def test_main_and_master_are_one_branch(self, source: Source, revision: str | None) -> None:
        snapshot = source.resolve(REPO, revision)
        assert snapshot == source.resolve(REPO, revision)
        assert fetch(source.locate(snapshot, "config.json")) == FILES["config.json"]

    def test_the_newest_commit_names_the_snapshot(self, settings: Settings) -> None:
        commits = {"old.txt": ("a" * 40, 5), "new.txt": ("b" * 40, 70), "older.txt": ("c" * 40, 1)}
        listing = {path: {"commit": commit, "date": date} for path, (commit, date) in commits.items()}
        with hub_that_lists("modelscope", listing) as hub:
            assert open_source(self.hub(hub.url), settings).resolve(REPO).revision == "b" * 40

    def test_without_commits_the_listing_names_the_snapshot_until_it_changes(
        self, settings: Settings
    ) -> None:
        with hub_that_lists("modelscope", {"a.txt": {}}, commit="") as hub:
            source = open_source(self.hub(hub.url), settings)
            first = source.resolve(REPO)
            assert source.resolve(REPO, first.revision).files == first.files
            assert "Revision=master" in source.locate(first, "a.txt").url
        changed = hub_that_lists("modelscope", {"a.txt": {"sha256": "1" * 64}}, commit="")
        with changed as hub, pytest.raises(NotFoundError, match="changed"):
            open_source(self.hub(hub.url), settings).resolve(REPO, first.revision)

    def test_the_question_is_that_of_the_official_client(
        self, root: Path, settings: Settings, tmp_path: Path
    ) -> None:
        from modelscope_hub import HubApi, HubConfig

        with FaultyHub(root) as hub:
            official = HubApi(HubConfig(endpoint=hub.url, token=TOKEN, config_dir=tmp_path / "theirs"))
            listed = official.legacy.list_repo_files(REPO, "model", "master", recursive=True)
            ours = self.opened(hub, settings, TOKEN).resolve(REPO)
            first, second = hub.requests
        assert (second.path, second.query) == (first.path, first.query)
        for name in ("Authorization", "Cookie"):
            assert second.headers[name] == first.headers[name]
        assert {file.path for file in ours.files} == {
            entry["Path"] for entry in listed if entry["Type"] == "blob"
        }

    def test_more_files_than_a_listing_holds_are_listed_by_folder(
        self, tmp_path: Path, settings: Settings
    ) -> None:
        names = {f"part-{n % 3}/{n:04}": b"" for n in range(3100)}
        write_files(tmp_path / "many" / REPO, names)
        with self.serve(tmp_path / "many") as endpoint:
            files = open_source(self.hub(endpoint), settings).resolve(REPO).files
        assert {file.path for file in files} == set(names)

    def test_a_file_that_is_listed_twice_is_refused(self, settings: Settings) -> None:
        entries = [{"Path": "config.json", "Size": size, "Sha256": "0" * 64} for size in (1, 2)]
        twice = hub_that_answers(web.json_response, {"Code": 200, "Data": {"Files": entries}})
        with twice as hub, pytest.raises(IntegrityError, match=r"config\.json"):
            open_source(self.hub(hub.url), settings).resolve(REPO)

    def test_a_folder_that_cannot_be_listed_whole_is_refused(
        self, tmp_path: Path, settings: Settings
    ) -> None:
        full = hub_that_lists("modelscope", {f"data/{n}": {} for n in range(3000)})
        with full as hub, pytest.raises(UnsupportedError, match="3000") as caught:
            open_source(self.hub(hub.url), settings).resolve(REPO)
        assert caught.value.where == f"{REPO}/data"

    @pytest.mark.parametrize("variable", ["HOME", "MODELSCOPE_HOME"])
    def test_the_saved_login_is_used(self, root: Path, settings: Settings, home: Path, variable: str) -> None:
        from modelscope_hub import HubConfig

        folder = home / ".modelscope"
        with FaultyHub(root, tokens={TOKEN}) as hub:
            HubConfig(endpoint=hub.url, token="", config_dir=folder).save_token(TOKEN)
            before = {path: path.stat() for path in home.rglob("*")}
            environ = (
                {"HOME": str(home)} if variable == "HOME" else {variable: str(folder), "HOME": "/nowhere"}
            )
            assert self.opened(hub, Settings(settings.home, environ=environ)).resolve(REPO).files
        assert {path: path.stat() for path in home.rglob("*")} == before

    def test_a_saved_login_that_cannot_be_read_is_said(
        self, root: Path, settings: Settings, home: Path
    ) -> None:
        (home / ".modelscope" / "credentials").mkdir(parents=True)
        (home / ".modelscope" / "credentials" / "cookies").write_bytes(b"")
        with FaultyHub(root) as hub, pytest.raises(AccessError, match="login"):
            self.opened(hub, settings).resolve(REPO)

    def test_the_token_goes_along_as_bearer_and_as_cookie(self, root: Path, settings: Settings) -> None:
        with FaultyHub(root, tokens={TOKEN}) as hub:
            source = self.opened(hub, settings, TOKEN)
            headers = source.locate(source.resolve(REPO), "config.json").headers
        assert headers == {"Authorization": f"Bearer {TOKEN}", "Cookie": f"m_session_id={TOKEN}"}

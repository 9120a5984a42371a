from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from internlm_zoo.errors import AccessError
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Source
from tests.hubs import FaultyHub
from tests.sources.contract import FILES, REPO, TOKEN, HubContract


class TestHuggingFace(HubContract):
    protocol = "huggingface"
    token_env = ("HF_TOKEN",)

    def test_lfs_files_have_sha256_and_small_ones_the_git_digest(self, source: Source) -> None:
        for file in source.resolve(REPO).files:
            in_lfs = file.path.endswith(".safetensors")
            assert (file.sha256 is not None, file.git_sha1 is not None) == (in_lfs, not in_lfs)

    def test_a_listing_takes_one_request(self, root: Path, settings: Settings) -> None:
        with FaultyHub(root) as hub:
            self.opened(hub, settings).resolve(REPO)
            assert [seen.path for seen in hub.requests] == [f"/api/models/{REPO}"]

    @pytest.mark.parametrize("revision", [None, "main"])
    def test_the_question_is_that_of_the_official_client(
        self, root: Path, settings: Settings, revision: str | None
    ) -> None:
        with FaultyHub(root) as hub:
            HfApi(endpoint=hub.url, token=TOKEN).model_info(REPO, revision=revision, files_metadata=True)
            self.opened(hub, settings, TOKEN).resolve(REPO, revision)
            theirs, ours = hub.requests
        assert (ours.path, ours.headers["Authorization"]) == (theirs.path, theirs.headers["Authorization"])
        assert ours.query["blobs"].lower() == theirs.query["blobs"].lower()

    def test_bytes_are_located_at_the_commit_not_at_the_branch(self, source: Source) -> None:
        snapshot = source.resolve(REPO, "main")
        assert f"/resolve/{snapshot.revision}/" in source.locate(snapshot, "config.json").url

    @pytest.mark.parametrize(
        ("where", "variable", "value"),
        [
            (".cache/huggingface/token", "UNRELATED", ""),
            ("elsewhere/token", "HF_HOME", "elsewhere"),
            ("named", "HF_TOKEN_PATH", "named"),
        ],
    )
    def test_the_saved_login_is_used(
        self, root: Path, settings: Settings, home: Path, where: str, variable: str, value: str
    ) -> None:
        (home / where).parent.mkdir(parents=True, exist_ok=True)
        (home / where).write_text(TOKEN + "\n")
        environ = {**settings.environ, variable: str(home / value)}
        with FaultyHub(root, tokens={TOKEN}) as hub:
            assert self.opened(hub, replace(settings, environ=environ)).resolve(REPO).files

    def test_a_gated_repository_says_what_to_do(self, root: Path, settings: Settings) -> None:
        with FaultyHub(root) as hub:
            hub.fault(403, "/api/*")
            with pytest.raises(AccessError) as caught:
                self.opened(hub, settings).resolve(REPO)
        assert caught.value.fix and "hf auth login" in caught.value.fix

    def test_the_process_environment_is_not_asked(
        self, root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", "of-the-process")
        with FaultyHub(root) as hub:
            assert len(self.opened(hub, settings).resolve(REPO).files) == len(FILES)
            assert not any("Authorization" in seen.headers for seen in hub.requests)

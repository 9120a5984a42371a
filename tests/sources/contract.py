"""What every source must do, whatever its protocol. The tests of an adapter inherit from these classes."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
import urllib3

from internlm_zoo.errors import AccessError, IntegrityError, NetworkError, NotFoundError, ZooError
from internlm_zoo.registry import Hub, Release
from internlm_zoo.settings import Settings
from internlm_zoo.sources import open_source, resolve_release
from internlm_zoo.sources.base import Location, Source
from tests.hubs import FaultyHub

REPO = "internlm/tiny-chat"
FILES = {
    "README.md": b"# tiny\n",
    "config.json": b'{"hidden_size": 8}\n',
    "weights/model-00001-of-00002.safetensors": bytes(range(256)) * 40,
    "weights/deep/er/model-00002-of-00002.safetensors": bytes(reversed(range(256))) * 3,
    "with space & 中文 %41.txt": "名字".encode(),
    "empty.txt": b"",
}
TOKEN = "sesame"


class SourceContract:
    """protocol is the adapter's; so is whether it publishes sizes and digests."""

    protocol: str
    token_env: tuple[str, ...] = ()
    sizes_are_listed = True
    digests_are_listed = True

    @contextmanager
    def serve(self, root: Path) -> Iterator[str]:
        """Serves `root`, yields the endpoint."""
        with FaultyHub(root) as hub:
            yield hub.url

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        write_files(tmp_path / "hub" / REPO, FILES)
        return tmp_path / "hub"

    @pytest.fixture
    def home(self, tmp_path: Path) -> Path:
        """The user's home, which no adapter may write into."""
        home = tmp_path / "home"
        home.mkdir()
        return home

    @pytest.fixture
    def settings(self, tmp_path: Path, home: Path) -> Settings:
        return Settings(home=tmp_path / "store", environ={"HOME": str(home)})

    @pytest.fixture
    def source(self, root: Path, settings: Settings) -> Iterator[Source]:
        with self.serve(root) as endpoint:
            yield open_source(self.hub(endpoint), settings)

    def hub(self, endpoint: str) -> Hub:
        return Hub(
            name="somewhere",
            title="Somewhere",
            protocol=self.protocol,
            endpoint=endpoint,
            token_env=self.token_env,
        )

    # What is there

    def test_listing_names_every_file_of_every_folder(self, source: Source) -> None:
        assert {file.path for file in source.resolve(REPO).files} == set(FILES)

    def test_sizes_and_digests_are_those_of_the_bytes(self, source: Source) -> None:
        for file in source.resolve(REPO).files:
            content = FILES[file.path]
            assert file.size == (len(content) if self.sizes_are_listed else None)
            assert file.sha256 in (hashlib.sha256(content).hexdigest(), None)
            assert file.git_sha1 in (hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), None)
            assert bool(file.sha256 or file.git_sha1) == self.digests_are_listed

    def test_located_bytes_are_those_of_the_file(self, source: Source) -> None:
        snapshot = source.resolve(REPO)
        assert {path: fetch(source.locate(snapshot, path)) for path in FILES} == FILES

    def test_a_long_listing_is_complete(self, tmp_path: Path, settings: Settings) -> None:
        names = {f"part-{n % 3}/{n:04}.json": b"" for n in range(1201)}
        write_files(tmp_path / "many" / REPO, names)
        with self.serve(tmp_path / "many") as endpoint:
            files = open_source(self.hub(endpoint), settings).resolve(REPO).files
        assert {file.path for file in files} == set(names)

    # Revisions

    def test_the_same_content_has_the_same_revision(self, source: Source) -> None:
        assert source.resolve(REPO) == source.resolve(REPO)

    def test_changed_content_has_another_revision(self, source: Source, root: Path) -> None:
        before = source.resolve(REPO)
        (root / REPO / "config.json").write_bytes(b'{"hidden_size": 16}\n')
        after = source.resolve(REPO)
        assert before.revision != after.revision

    @pytest.mark.parametrize("asked", ["main", None])
    def test_the_resolved_revision_can_be_asked_for_again(self, source: Source, asked: str | None) -> None:
        first = source.resolve(REPO, asked)
        again = source.resolve(REPO, first.revision)
        assert (first.requested, again.requested) == (asked, first.revision)
        assert (again.revision, again.files) == (first.revision, first.files)
        assert fetch(source.locate(again, "config.json")) == FILES["config.json"]

    # What is not there

    def test_a_missing_repository_is_not_found(self, source: Source) -> None:
        with pytest.raises(NotFoundError) as caught:
            source.resolve("internlm/no-such-model")
        assert "internlm/no-such-model" in str(caught.value) and "somewhere" in str(caught.value)

    @pytest.mark.parametrize("revision", ["v9.9", "f" * 40])
    def test_a_missing_revision_is_not_found(self, source: Source, revision: str) -> None:
        with pytest.raises(NotFoundError, match=revision):
            source.resolve(REPO, revision)

    def test_a_missing_file_is_not_found(self, source: Source) -> None:
        with pytest.raises(NotFoundError, match=r"model\.safetensors"):
            source.locate(source.resolve(REPO), "model.safetensors")

    @pytest.mark.parametrize("repo", ["no-owner-and-no-slash", "../hub/internlm", "a/b/c/../../../..", ""])
    def test_a_name_that_is_none_is_refused(self, source: Source, repo: str) -> None:
        with pytest.raises(ZooError):
            source.resolve(repo)

    def test_the_name_that_answers_is_reported(self, root: Path, settings: Settings) -> None:
        release = Release(hub="somewhere", repo="internlm/tiny-20b-chat", also_listed_as=("x/y", REPO))
        with self.serve(root) as endpoint:
            assert resolve_release(release, self.hub(endpoint), settings).repo == REPO

    def test_without_any_name_that_answers_the_first_is_reported(
        self, root: Path, settings: Settings
    ) -> None:
        release = Release(hub="somewhere", repo="internlm/first", also_listed_as=("internlm/second",))
        with self.serve(root) as endpoint, pytest.raises(NotFoundError, match="internlm/first"):
            resolve_release(release, self.hub(endpoint), settings)

    def test_nothing_is_written_into_the_users_home(self, source: Source, home: Path, tmp_path: Path) -> None:
        source.locate(source.resolve(REPO), "config.json")
        assert list(home.rglob("*")) == []
        assert not (tmp_path / "store").exists()


class HubContract(SourceContract):
    """What a source on the network must do besides."""

    def opened(self, hub: FaultyHub, settings: Settings, token: str = "") -> Source:
        environ = {**settings.environ, **dict.fromkeys(self.token_env, token)}
        return open_source(self.hub(hub.url), replace(settings, environ=environ))

    def test_the_right_token_opens(self, root: Path, settings: Settings) -> None:
        with FaultyHub(root, tokens={TOKEN}) as hub:
            source = self.opened(hub, settings, TOKEN)
            snapshot = source.resolve(REPO)
            assert fetch(source.locate(snapshot, "config.json")) == FILES["config.json"]

    @pytest.mark.parametrize("token", ["wrong", ""])
    def test_a_refused_token_is_no_access(self, root: Path, settings: Settings, token: str) -> None:
        with FaultyHub(root, tokens={TOKEN}) as hub, pytest.raises((AccessError, NotFoundError)) as caught:
            self.opened(hub, settings, token).resolve(REPO)
        assert isinstance(caught.value, AccessError) or not token
        assert "wrong" not in str(caught.value)

    def test_a_hub_that_names_no_variables_gets_no_credentials(self, root: Path, settings: Settings) -> None:
        environ = {**settings.environ, **dict.fromkeys(self.token_env, TOKEN)}
        with FaultyHub(root) as hub:
            anonymous = self.hub(hub.url).model_copy(update={"token_env": ()})
            open_source(anonymous, replace(settings, environ=environ)).resolve(REPO)
            assert not any(
                "Authorization" in seen.headers or "Cookie" in seen.headers for seen in hub.requests
            )

    def test_credentials_show_in_no_repr(self, root: Path, settings: Settings) -> None:
        with FaultyHub(root, tokens={TOKEN}) as hub:
            source = self.opened(hub, settings, TOKEN)
            location = source.locate(source.resolve(REPO), "config.json")
        assert TOKEN not in repr((location, settings))

    def test_a_hiccup_is_asked_over(self, root: Path, settings: Settings) -> None:
        with FaultyHub(root) as hub:
            hub.fault(503, "/*", times=1)
            assert self.opened(hub, settings).resolve(REPO).files

    @pytest.mark.parametrize("kind", ["reset", 503, "html"])
    def test_a_hub_in_trouble_is_left_soon(self, root: Path, settings: Settings, kind: str | int) -> None:
        with FaultyHub(root) as hub:
            hub.fault(kind, "/*")
            with pytest.raises(NetworkError) as caught:
                self.opened(hub, settings).resolve(REPO)
            assert 1 <= len(hub.requests) <= 2
        assert "somewhere" in str(caught.value) and "127.0.0.1" in str(caught.value)

    def test_a_port_where_nobody_listens_is_left_soon(self, root: Path, settings: Settings) -> None:
        with FaultyHub(root) as hub:
            source = self.opened(hub, settings)
        with pytest.raises(NetworkError, match=r"somewhere at 127.*nobody listens there"):
            source.resolve(REPO)

    def test_a_silent_hub_is_left(self, root: Path, settings: Settings) -> None:
        environ = {**settings.environ, "INTERNLM_ZOO_TIMEOUT": "0.3"}
        with FaultyHub(root) as hub:
            hub.fault("hang", "/*")
            with pytest.raises(NetworkError, match="somewhere"):
                self.opened(hub, replace(settings, environ=environ)).resolve(REPO)

    @pytest.mark.parametrize("path", ["../evil", "/etc/passwd", "C:evil", "a\\evil", "nul.txt"])
    def test_a_hostile_listing_is_refused(self, root: Path, settings: Settings, path: str) -> None:
        with FaultyHub(root) as hub:
            hub.fault("evil-name", path)
            with pytest.raises(IntegrityError) as caught:
                self.opened(hub, settings).resolve(REPO)
        assert repr(path) in str(caught.value) and caught.value.exit_code == 6

    def test_offline_opens_no_socket(
        self, root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with FaultyHub(root) as hub, monkeypatch.context() as patched:
            patched.setattr(socket, "socket", forbidden)
            with pytest.raises(NetworkError, match="offline"):
                self.opened(hub, settings.with_options(offline=True)).resolve(REPO)


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def fetch(location: Location) -> bytes:
    """The bytes at a location, by other means than ours."""
    if urlsplit(location.url).scheme == "file":
        return Path(url2pathname(urlsplit(location.url).path)).read_bytes()
    answer = urllib3.request("GET", location.url, headers=dict(location.headers))
    assert answer.status == 200, answer.data
    return answer.data


def forbidden(*args: object, **kwargs: object) -> None:
    raise AssertionError("opened a socket while offline")

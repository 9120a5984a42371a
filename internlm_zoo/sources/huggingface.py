"""Hugging Face: one request lists a repository at a commit.

The request is that of `huggingface_hub.HfApi.model_info`, and its answer is read by the same package. It is
made here, because the package would go by rules of its own about proxies, certificates, redirects and the
saved login. Digests: sha256 of LFS files, git blob sha1 of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from internlm_zoo.errors import AccessError, UsageError, ZooError
from internlm_zoo.net.addresses import host_of
from internlm_zoo.registry.schema import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Location, RemoteFile, Snapshot
from internlm_zoo.sources.credentials import login_of
from internlm_zoo.sources.http import Answer, Asker, absent, bearer, twice, unreachable
from internlm_zoo.sources.paths import check_snapshot

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

_ERROR = "X-Error-Code"  # huggingface_hub.utils.hf_raise_for_status


class HuggingFaceSource:
    """See `Source`. endpoint: without a trailing slash."""

    def __init__(self, hub: Hub, endpoint: str, settings: Settings) -> None:
        self._hub = hub.name
        self._asker = Asker.of(hub.name, endpoint, settings, bearer(login_of(hub, settings).values))
        self._endpoint = self._asker.endpoint

    def resolve(self, repo: str, revision: str | None = None) -> Snapshot:
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils._validators import validate_repo_id

        try:
            validate_repo_id(repo)
        except HFValidationError as error:
            raise UsageError(f"{repo!r} is not a Hugging Face repository name") from error
        info = twice(lambda: self._info(repo, revision))
        files = tuple(_remote_file(sibling) for sibling in info.siblings or ())
        return check_snapshot(Snapshot(self._hub, repo, str(info.sha), revision, files, info.last_modified))

    def locate(self, snapshot: Snapshot, path: str) -> Location:
        from huggingface_hub import hf_hub_url

        if snapshot.file(path) is None:
            raise absent(self._hub, f"{path} in {snapshot.repo}", self._endpoint)
        url = hf_hub_url(snapshot.repo, path, revision=snapshot.revision, endpoint=self._endpoint)
        return Location(url, self._asker.headers)

    def _info(self, repo: str, revision: str | None) -> ModelInfo:
        from huggingface_hub.hf_api import ModelInfo

        at = "" if revision is None else f"/revision/{quote(revision, safe='')}"
        answer = self._asker.get(f"{self._endpoint}/api/models/{repo}{at}?blobs=true")
        if answer.status != 200:
            raise self._refused(answer, repo, revision)
        try:
            info = ModelInfo(**answer.json())  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._asker.nonsense() from error
        if not info.sha:
            raise unreachable(self._hub, self._endpoint, "its answer names no commit")
        return info

    def _refused(self, answer: Answer, repo: str, revision: str | None) -> ZooError:
        code = answer.headers.get(_ERROR)
        if code == "RevisionNotFound":
            return absent(self._hub, f"revision {revision} of {repo}", self._endpoint)
        if code == "GatedRepo":
            fix = f"accept the conditions on the page of {repo}, then hf auth login"
            return AccessError(f"{repo} is gated on {self._hub}", host_of(self._endpoint), fix)
        return self._asker.refused(answer, repo)


def _remote_file(sibling: RepoSibling) -> RemoteFile:
    """An LFS file's blob id is that of its pointer, so it says nothing about the bytes."""
    if sibling.lfs is None:
        return RemoteFile(sibling.rfilename, sibling.size, git_sha1=sibling.blob_id)
    return RemoteFile(sibling.rfilename, sibling.lfs.size, sha256=sibling.lfs.sha256)

"""Hugging Face: one request lists a repository at a commit.

The request is that of `huggingface_hub.HfApi.model_info`. It is made here, because the package would go by
rules of its own about proxies, certificates, redirects and the saved login, and takes what comes for what it
should be. Digests: sha256 of LFS files, git blob sha1 of the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from pydantic import ConfigDict, TypeAdapter, with_config
from pydantic.alias_generators import to_camel

from internlm_zoo.errors import AccessError, UsageError, ZooError
from internlm_zoo.files import Digests, File
from internlm_zoo.net.addresses import host_of
from internlm_zoo.registry.schema import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Location, Snapshot
from internlm_zoo.sources.credentials import credentials_of
from internlm_zoo.sources.hub_client import HubClient, Response, bearer
from internlm_zoo.sources.paths import check_snapshot
from internlm_zoo.sources.schema import Digest, Several, moment, read

_CAMEL = ConfigDict(alias_generator=to_camel)
_ERROR = "X-Error-Code"  # huggingface_hub.utils.hf_raise_for_status


@dataclass(frozen=True, slots=True)
class _Lfs:
    sha256: Digest
    size: int


@with_config(_CAMEL)
@dataclass(frozen=True, slots=True)
class _Sibling:
    """blob_id: of an LFS file it is that of its pointer, so it says nothing about the bytes."""

    rfilename: str
    size: int | None = None
    blob_id: Digest | None = None
    lfs: _Lfs | None = None

    @property
    def remote(self) -> File:
        if self.lfs is None:
            return File(self.rfilename, self.size, Digests(git_sha1=self.blob_id))
        return File(self.rfilename, self.lfs.size, Digests(sha256=self.lfs.sha256))


@with_config(_CAMEL)
@dataclass(frozen=True)
class _Info:
    sha: str | None = None
    siblings: Several[_Sibling] | None = None
    last_modified: str | None = None


_FORM = TypeAdapter(_Info)


class HuggingFaceSource:
    """See `Source`. endpoint: without a trailing slash."""

    def __init__(self, hub: Hub, endpoint: str, settings: Settings) -> None:
        headers = bearer(credentials_of(hub, settings).values)
        self._client = HubClient.of(hub.name, endpoint, settings, headers)

    def resolve(self, repo: str, revision: str | None = None) -> Snapshot:
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils._validators import validate_repo_id

        try:
            validate_repo_id(repo)
        except HFValidationError as error:
            raise UsageError(f"{repo!r} is not a Hugging Face repository name") from error
        info = self._client.retry_once(lambda: self._info(repo, revision))
        files = tuple(sibling.remote for sibling in info.siblings or ())
        updated = moment(info.last_modified)
        return check_snapshot(Snapshot(self._client.hub, repo, str(info.sha), revision, files, updated))

    def locate(self, snapshot: Snapshot, path: str) -> Location:
        from huggingface_hub import hf_hub_url

        if snapshot.file(path) is None:
            raise self._client.not_found(f"{path} in {snapshot.repo}")
        url = hf_hub_url(snapshot.repo, path, revision=snapshot.revision, endpoint=self._client.endpoint)
        return Location(url, self._client.headers)

    def _info(self, repo: str, revision: str | None) -> _Info:
        at = "" if revision is None else f"/revision/{quote(revision, safe='')}"
        answer = self._client.get(f"{self._client.endpoint}/api/models/{repo}{at}?blobs=true")
        if answer.status != 200:
            raise self._error_of(answer, repo, revision)
        info = read(_FORM, answer, self._client)
        if not info.sha:
            raise self._client.unreachable("its answer names no commit")
        return info

    def _error_of(self, answer: Response, repo: str, revision: str | None) -> ZooError:
        code = answer.headers.get(_ERROR)
        if code == "RevisionNotFound":
            return self._client.not_found(f"revision {revision} of {repo}")
        if code == "GatedRepo":
            fix = f"accept the conditions on the page of {repo}, then hf auth login"
            return AccessError(f"{repo} is gated on {self._client.hub}", host_of(self._client.endpoint), fix)
        return self._client.error_of(answer, repo)

"""Hugging Face, by the official `huggingface_hub.HfApi`: one call lists a repository at a commit.

Digests: sha256 of LFS files, git blob sha1 of the others. `HfApi` is given an endpoint and a token, so that
it reads neither the environment nor the saved login, and a timeout, because by itself it has none. It
follows redirects from https to http; ours are looked at, in the session that it shares among all its users.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from internlm_zoo.errors import AccessError, UsageError, ZooError
from internlm_zoo.registry.schema import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Location, RemoteFile, Snapshot
from internlm_zoo.sources.credentials import huggingface_token
from internlm_zoo.sources.http import (
    Limits,
    absent,
    check_redirect,
    host_of,
    refusal,
    twice,
    unreachable,
    within_limits,
)
from internlm_zoo.sources.paths import check_snapshot

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

_asking: ContextVar[str] = ContextVar("the hub that this thread asks")


class HuggingFaceSource:
    """See `Source`. endpoint: without a trailing slash."""

    def __init__(self, hub: Hub, endpoint: str, settings: Settings) -> None:
        from huggingface_hub import HfApi

        self._hub = hub.name
        self._endpoint = endpoint
        self._token = huggingface_token(hub, settings)
        self._limits = Limits.of(settings)
        self._api = HfApi(endpoint=endpoint, token=self._token or False, library_name="internlm-zoo")

    def resolve(self, repo: str, revision: str | None = None) -> Snapshot:
        def ask() -> ModelInfo:
            _asking.set(self._hub)
            _watch_redirects()
            patience = self._limits.connect
            return self._api.model_info(repo, revision=revision, timeout=patience, files_metadata=True)

        def answer() -> ModelInfo:
            with self._translated(repo, revision):
                return within_limits(ask, self._limits.listing, self._hub, self._endpoint)

        info = twice(answer)
        if not info.sha:
            raise unreachable(self._hub, self._endpoint, "its answer names no commit")
        files = tuple(_remote_file(sibling) for sibling in info.siblings or ())
        return check_snapshot(Snapshot(self._hub, repo, info.sha, revision, files, info.last_modified))

    def locate(self, snapshot: Snapshot, path: str) -> Location:
        from huggingface_hub import hf_hub_url

        if snapshot.file(path) is None:
            raise absent(self._hub, f"{path} in {snapshot.repo}", self._endpoint)
        url = hf_hub_url(snapshot.repo, path, revision=snapshot.revision, endpoint=self._endpoint)
        return Location(url, {"Authorization": f"Bearer {self._token}"} if self._token else {})

    @contextmanager
    def _translated(self, repo: str, revision: str | None) -> Iterator[None]:
        """Turns huggingface_hub's errors, and those of the HTTP library it uses, into ours."""
        from huggingface_hub import errors

        # HTTPError of httpx or requests, whichever this version of huggingface_hub stands on.
        transport: type[Exception] = errors.HfHubHTTPError.__bases__[0]
        try:
            yield
        except ZooError:
            raise
        except errors.HFValidationError as error:
            raise UsageError(f"{repo!r} is not a Hugging Face repository name") from error
        except errors.GatedRepoError as error:
            fix = f"accept the conditions on the page of {repo}, then hf auth login"
            raise AccessError(f"{repo} is gated on {self._hub}", host_of(self._endpoint), fix) from error
        except errors.RevisionNotFoundError as error:
            raise absent(self._hub, f"revision {revision} of {repo}", self._endpoint) from error
        except errors.HfHubHTTPError as error:
            said = error.response
            raise refusal(said.status_code, self._hub, repo, self._endpoint, said.headers) from error
        except (transport, OSError) as error:
            raise unreachable(self._hub, self._endpoint, error) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise unreachable(self._hub, self._endpoint, "it sent something else than a listing") from error


def _watch_redirects() -> None:
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    session: Any = get_session()  # of httpx or requests
    hooks = session.event_hooks if hasattr(session, "event_hooks") else session.hooks
    if _look_at not in hooks["response"]:
        hooks["response"].append(_look_at)


def _look_at(response: Any, *_: Any, **__: Any) -> None:
    """Others who share the session are none of our business."""
    hub, target = _asking.get(None), response.headers.get("Location")
    if hub is not None and target is not None and response.status_code // 100 == 3:
        url = str(response.url)
        check_redirect(hub, url, urljoin(url, target))


def _remote_file(sibling: RepoSibling) -> RemoteFile:
    """An LFS file's blob id is that of its pointer, so it says nothing about the bytes."""
    if sibling.lfs is None:
        return RemoteFile(sibling.rfilename, sibling.size, git_sha1=sibling.blob_id)
    return RemoteFile(sibling.rfilename, sibling.lfs.size, sha256=sibling.lfs.sha256)

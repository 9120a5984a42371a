"""A release as a folder whose weights stay at their hub: read by ranges, checked as they pass, never stored.

Files other than weights are small: they are read whole, held against their digests and kept in memory.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from urllib.parse import unquote, urlsplit

from converters.containers.names import MODEL_CONFIG
from converters.conversion.md5_files import SUFFIX, stated_digest
from converters.formats.bytesource import ByteSource, MemoryFile
from internlm_zoo.downloads.candidates import Candidate, ReleaseFilter, candidate_of, candidates
from internlm_zoo.downloads.listings import Hubs, as_release
from internlm_zoo.downloads.run import first_of
from internlm_zoo.errors import IntegrityError, NotFoundError, UsageError
from internlm_zoo.files import File
from internlm_zoo.hashing import Hasher
from internlm_zoo.net.retry_policy import RetryPolicy
from internlm_zoo.registry import Hub, Model, Registry, Release, load_registry
from internlm_zoo.registry.lock import Lock, LockedRelease
from internlm_zoo.remote.file import CONNECTIONS, RangedFile
from internlm_zoo.settings import Settings
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.ranges import Ranges
from internlm_zoo.transfer.values import Endpoint

_WEIGHTS = re.compile(r".+\.(safetensors|bin|pt|pth|gguf)")
_SMALL = 64 << 20  # bytes that are held in memory whole


class RemoteFolder:
    """A `Folder`, and a context manager; thread-safe. model: of the registry, None if it has no such
    release."""

    in_order = True

    def __init__(
        self, candidate: Candidate, release: LockedRelease, model: Model | None, hubs: Hubs, client: Client
    ) -> None:
        self.model = model
        self._candidate = candidate
        self.release = release
        self._hubs = hubs
        self._client = client
        self._files: dict[str, ByteSource] = {}
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        return self.release.id

    def names(self, below: str = "") -> Sequence[str]:
        """Without MD5 side-cars: what they say is checked as the bytes pass."""
        folder = f"{below}/" if below else ""
        paths = (file.path for file in self.release.files if file.path.startswith(folder))
        here = {name for path in paths if "/" not in (name := path.removeprefix(folder))}
        return sorted(name for name in here if name.removesuffix(SUFFIX) not in here - {name})

    def where(self, name: str) -> str:
        return f"{self.name}/{name}"

    def open(self, name: str) -> ByteSource:
        """Raises NotFoundError, and for a small file what reading it raises."""
        with self._lock:
            if name not in self._files:
                self._files[name] = self._open(name)
            return self._files[name]

    def identity(self, name: str) -> str:
        release, file = self.release, self._file(name)
        return repr((release.hub, release.repo, release.revision, file))

    def known_sha256(self, name: str) -> str | None:
        return self._file(name).sha256

    def known_digest(self, name: str) -> Mapping[str, str] | None:
        """ "verified" says by which published digest; "per tensor": there is none, or it could not be
        computed, because bytes did not pass in order or an earlier run had read them."""
        file = self.open(name)
        if not isinstance(file, RangedFile):
            return None
        return {"from": f"{self.name}@{self.release.revision}", **file.provenance()}

    def confirm(self) -> None:
        """Every answer was of the bytes that the first one was of: see RangedFile."""

    def renew(self, names: Collection[str]) -> Mapping[str, IntegrityError]:
        """Nothing is touched there."""
        return {}

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> RemoteFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _file(self, name: str) -> File:
        file = self.release.file(name)
        if file is None:
            raise NotFoundError("there is no such file", self.where(name))
        return file

    def _open(self, name: str) -> ByteSource:
        file = self._file(name)
        endpoint = Endpoint(self._candidate.hub.name, partial(self._hubs.locate, self._candidate, file))
        ranges = Ranges(self.where(name), file, endpoint, self._client)
        if _WEIGHTS.fullmatch(name) and name != MODEL_CONFIG:
            sidecar = self.release.file(name + SUFFIX)
            return RangedFile(ranges, file, stated_digest(self, name) if sidecar else None)
        return MemoryFile(ranges.name, _whole(ranges, file))


def _whole(ranges: Ranges, wanted: File) -> bytes:
    """A small file, once it is what it should be."""
    if ranges.size > _SMALL:
        raise IntegrityError(f"it has {ranges.size:,} bytes, more than any such file", ranges.name)
    content = b"".join(ranges.chunks(0, ranges.size))
    hasher = Hasher(wanted.algorithms, len(content))
    hasher.update(content)
    wrong = wanted.digests.conflict(hasher.digests)
    if wrong is not None:
        raise IntegrityError(str(wrong), ranges.name, "the hub's copy is wrong: try another hub")
    return content


def open_remote(
    name: str,
    settings: Settings,
    *,
    format: str | None = None,
    tell: Callable[[str], None] = lambda note: None,
) -> RemoteFolder:
    """A model of the registry, or `hub:repo[@revision]`, at the first hub that has it; or the URL of a hub's
    page of a release, or of a directory that a web server lists.

    format: None for whichever there is, hf before original, no quantised one. Digests come from the lock, or
    else from the hub. tell: whom to tell of rejected credentials, and of hubs that are left. Raises
    NotFoundError, AccessError, NetworkError (also in offline mode), IntegrityError, UnsupportedError,
    UsageError.
    """
    hubs = Hubs(settings, tell)
    registry, lock = load_registry(settings), Lock.load(settings)
    found = _candidates(name, registry, lock, settings, format)
    snapshot, failures = first_of(name, [candidate for candidate, _ in found], hubs.snapshot, tell)
    candidate, model = found[len(failures)]
    client = Client(settings.environ, RetryPolicy.of(settings), CONNECTIONS, tell=tell)
    release = candidate.locked or as_release(candidate, snapshot)
    return RemoteFolder(candidate, release, model, hubs, client)


def _candidates(
    name: str, registry: Registry, lock: Lock, settings: Settings, format: str | None
) -> Sequence[tuple[Candidate, Model | None]]:
    """Where to look for it, in that order."""
    if "://" in name:
        return [*_page(name, registry, lock, settings)] or [(_web_directory(name, lock), None)]
    if ":" not in name:
        model = registry.model(name)
        found = candidates(model, registry, lock, settings, ReleaseFilter(format))
        return [(candidate, model) for candidate in found]
    place, _, revision = name.partition("@")
    hub_name, _, repo = place.partition(":")
    if not repo:
        raise UsageError(f"{name!r} is no release", fix="name it as hub:owner/repository, or by its model")
    return [_candidate(registry.hub(hub_name), repo, revision or None, registry, lock)]


def _candidate(
    hub: Hub, repo: str, revision: str | None, registry: Registry, lock: Lock
) -> tuple[Candidate, Model | None]:
    """With what the registry says of the repository, if it knows it."""
    model, release = registry.listing(hub.name, repo) or (None, Release(hub=hub.name, repo=repo))
    release = release.model_copy(update={"repo": repo, "also_listed_as": ()})
    return candidate_of(hub, release, lock, revision), model


def _page(
    url: str, registry: Registry, lock: Lock, settings: Settings
) -> Iterator[tuple[Candidate, Model | None]]:
    """What a hub shows at a URL: a repository, or a revision of one."""
    for hub in registry.hubs.values():
        pages = (hub.page, f"{hub.endpoint_in(settings.environ)}/{{repo}}")
        for before, _, after in (page.partition("{repo}") for page in pages if page):
            pattern = rf"{re.escape(before)}([^/]+/[^/]+){re.escape(after)}(?:/tree/(.+?))?/?"
            if found := re.fullmatch(pattern, url):
                yield _candidate(hub, found[1], found[2], registry, lock)
                return


def _web_directory(url: str, lock: Lock) -> Candidate:
    error = UsageError("this is not the URL of a directory", fix="write it as https://host/directory/")
    try:
        parts = urlsplit(url)
    except ValueError:  # half an IPv6 address
        raise error from None
    repo = unquote(parts.path).strip("/")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or not repo:
        raise error
    endpoint = f"{parts.scheme}://{parts.netloc}"
    hub = Hub(name=parts.netloc, title=parts.netloc, protocol="web", endpoint=endpoint)
    return candidate_of(hub, Release(hub=hub.name, repo=repo), lock, None)

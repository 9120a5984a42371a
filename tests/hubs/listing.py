"""A catalogue whose listings lie, for the faults that are about names, sizes and digests."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

from internlm_zoo.serve.catalogue import Catalogue, Repository, ServedFile
from tests.hubs.faults import Faults

# Whether the request at hand asks for a listing. Bytes always come from the truth.
LISTING: ContextVar[bool] = ContextVar("listing", default=False)


@dataclass(frozen=True)
class LyingRepository(Repository):
    """lies: entries that the listing of the root shows as they are, whatever folder their names lead to."""

    lies: tuple[ServedFile, ...] = ()

    def listing(self, folder: str = "", *, recursive: bool) -> list[str | ServedFile]:
        honest = tuple(entry for entry in self.entries if entry not in self.lies)
        listed = Repository(self.name, self.revision, honest).listing(folder, recursive=recursive)
        return [*listed, *(() if folder else self.lies)]


class LyingCatalogue(Catalogue):
    def __init__(self, root: Path, faults: Faults) -> None:
        super().__init__(root)
        self._faults = faults

    def find(self, hub: str, name: str) -> Repository:
        repository = super().find(hub, name)
        if not LISTING.get():
            return repository
        entries = [self._told(entry) for entry in repository.entries]
        evil = [fault for fault in self._faults.active({"evil-name"}) if fault.take()]
        lies = tuple(replace(repository.entries[0], path=fault.path) for fault in evil)
        return LyingRepository(repository.name, repository.revision, (*entries, *lies), lies)

    def _told(self, entry: ServedFile) -> ServedFile:
        for fault in self._faults.active({"wrong-digest", "wrong-size"}):
            if fault.about(entry.path, None) and fault.take():
                if fault.kind == "wrong-size":
                    return replace(entry, size=entry.size + fault.how.get("by", 1))
                return _misdigested(entry)
        return entry


def _misdigested(entry: ServedFile) -> ServedFile:
    return replace(entry, sha256=entry.sha256[::-1], git_sha1=entry.git_sha1 and entry.git_sha1[::-1])

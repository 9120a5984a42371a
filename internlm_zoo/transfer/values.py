"""What transfer is asked for and what it answers: values only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from internlm_zoo.errors import AccessError, IntegrityError, NetworkError, NotFoundError, UnsupportedError
from internlm_zoo.files import File
from internlm_zoo.net.statuses import Recovery
from internlm_zoo.sources.base import Location
from internlm_zoo.transfer.blocks import BLOCK
from internlm_zoo.transfer.failures import TransferFailure


@dataclass(frozen=True)
class Endpoint:
    """Where one hub has the file. locate: asks the hub where the bytes are now; called again when a signed
    URL has expired; raises NotFoundError, AccessError, NetworkError or IntegrityError when this hub is of
    no use. publishes_digest: it publishes the digest that is wanted, so its bytes should be these."""

    name: str
    locate: Callable[[], Location]
    publishes_digest: bool = True


@dataclass(eq=False)
class LocatedEndpoint:
    """An endpoint and where it has the file now. location: None: to be asked for. fresh: asked for since it
    last delivered a byte."""

    endpoint: Endpoint
    location: Location | None = None
    fresh: bool = True

    def locate(self) -> Location:
        """The location that is known, as long as it holds, else a new one. Raises TransferFailure."""
        known = self.location
        if known is not None and (known.expires is None or known.expires > time.time()):
            return known
        try:
            self.location, self.fresh = self.endpoint.locate(), True
        except (IntegrityError, NotFoundError, AccessError, NetworkError, UnsupportedError) as error:
            raise TransferFailure(error, Recovery.GIVE_UP) from error
        return self.location

    def forget(self, location: Location | None) -> bool:
        """Whether another attempt may find a better one. Not if it never delivered; but others may have asked
        for one meanwhile."""
        if location is self.location:
            if self.fresh:
                return False
            self.location = None
        return True


@dataclass(frozen=True)
class TransferRequest:
    """endpoints: where the file may come from, in the order to be asked. folder, key: where the partial file
    lives and what names its content across runs. block_digests: the BLAKE3 of the file's blocks, if it was
    here and verified once. block_size: of those, in bytes."""

    wanted: File
    endpoints: Sequence[Endpoint]
    folder: Path
    key: str
    block_digests: Sequence[str] = ()
    block_size: int = BLOCK


@dataclass(frozen=True)
class SourceStatistics:
    """What one endpoint did. served: bytes it sent (discarded ones too). retries: how often it had to be
    asked again. seconds: how long its connections were open, together."""

    served: int = 0
    retries: int = 0
    seconds: float = 0.0

    def __add__(self, other: SourceStatistics) -> SourceStatistics:
        return SourceStatistics(
            self.served + other.served, self.retries + other.retries, self.seconds + other.seconds
        )


@dataclass(frozen=True)
class Fetched:
    """A verified file at `path`, still under its partial name, with its journal beside it until it has
    another. blocks: the BLAKE3 of its blocks, in hex. sources: the endpoints its bytes are from. statistics:
    what each endpoint did. resumed: bytes an earlier run had left. notes: what went wrong on the way, a
    sentence each."""

    path: Path
    size: int
    sha256: str
    blocks: tuple[str, ...]
    sources: tuple[str, ...]
    statistics: Mapping[str, SourceStatistics]
    resumed: int
    notes: tuple[str, ...]

    @property
    def served(self) -> dict[str, int]:
        return {name: statistics.served for name, statistics in self.statistics.items() if statistics.served}

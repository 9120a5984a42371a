"""How fast a release is downloaded beside the official clients, curl and aria2c, from nginx on loopback.

One large file, many smaller ones, and the large one again from a server that is slower than SHA-256. The
clients take turns, each into an empty folder on the same disk; what they got is compared with what was
served. Ours computes sha256 of every byte, which only ModelScope's client does as well; beside it runs ours
without hashing, to see what that costs."""

from __future__ import annotations

import filecmp
import hashlib
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from fixtures import bench, clients, processes
from fixtures.clients import OURS
from fixtures.origin import Origin, origin
from fixtures.processes import Cost
from fixtures.releases import Release
from fixtures.results import publish, table

CLIENTS = (OURS, clients.UNHASHED, "hf download", "modelscope download", "curl", "aria2c -x8")
# Those that get no more than one connection from a server as fast as this.
SINGLE = (OURS, clients.UNHASHED, "hf download", "curl")
RATE = 400 << 20
COLUMNS = (
    "client",
    "s",
    "fastest",
    "slowest",
    "GB/s",
    "its time / ours",
    "CPU s per GB",
    "peak MB",
    "requests",
)


@dataclass
class Series:
    """The runs of one client. requests: of the last."""

    costs: list[Cost] = field(default_factory=list)
    requests: int = 0

    @property
    def seconds(self) -> float:
        return statistics.median(cost.seconds for cost in self.costs)


def main() -> None:
    options = bench.options(__doc__)
    parts: list[str] = []
    cases = [
        (options.one_file, CLIENTS, 0),
        (options.many_files, CLIENTS, 0),
        (options.one_file, SINGLE, RATE),
    ]
    for release, names, rate in cases:
        with (
            bench.place(options.directory, [release]) as place,
            origin(place.hub, place.folder / "nginx", rate) as server,
        ):
            series = measure(place, release, names, server, options.rounds)
        parts += [f"{_described(release, rate)}:", table(COLUMNS, rows(series, release))]
    publish(
        "download",
        "Downloads from loopback",
        f"python benchmarks/download.py --rounds {options.rounds}",
        options.directory,
        f"Medians of {options.rounds} rounds in turn. nginx with sendfile and one worker, on the same cores, "
        "its files in the page cache; the target is an empty folder, and nothing is left to be written when "
        "the clock starts. Seconds are of the whole command, Python's start included; peak is the largest "
        f"`ru_maxrss`. One core's SHA-256 does {_sha256_rate():.1f} GB/s here.",
        *parts,
        document=options.document,
    )


def measure(
    place: bench.Place, release: Release, names: Sequence[str], server: Origin, rounds: int
) -> dict[str, Series]:
    """Every client once a round."""
    series = {name: Series() for name in names}
    for number in range(rounds):
        for name, taken in series.items():
            job = place.job(release, server.url)
            clients.empty(job.folder)
            command = clients.prepared(name, job)
            server.forget()
            taken.costs.append(processes.run(command, job.environ, job.folder))
            taken.requests = len(server.answered())
            if number == 0:
                check(name, place, release)
            print(release.model, name, f"{taken.costs[-1].seconds:.2f}", flush=True)
    return series


def check(name: str, place: bench.Place, release: Release) -> None:
    """Ends the benchmark if a client got something else."""
    for file, path in clients.files_in(place.folder / "target", release).items():
        if not filecmp.cmp(path, place.source(release) / file, shallow=False):
            raise SystemExit(f"{name} got {file} wrong")


def rows(series: dict[str, Series], release: Release) -> list[list[object]]:
    return [_row(name, taken, release, series[OURS].seconds) for name, taken in series.items()]


def _row(name: str, taken: Series, release: Release, ours: float) -> list[object]:
    gigabytes = release.size / 1e9
    seconds = [cost.seconds for cost in taken.costs]
    cpu = statistics.median(cost.cpu for cost in taken.costs)
    peak = f"{max(cost.peak for cost in taken.costs):.0f}"
    times = [taken.seconds, min(seconds), max(seconds), gigabytes / taken.seconds, taken.seconds / ours]
    return [f"`{name}`", *times, cpu / gigabytes, peak, taken.requests]


def _described(release: Release, rate: int) -> str:
    sizes = sorted(release.sizes.values())
    if len(sizes) == 1:
        limit = f", from a server that sends {rate / 1e9:.2f} GB/s over a connection" if rate else ""
        return f"One file of {sizes[0] / 2**30:.2g} GiB{limit}"
    between = f"{sizes[0] / 1e6:g} to {sizes[-1] / 1e6:g} MB"
    return f"{len(sizes)} files of {between}, {release.size / 1e9:.2f} GB together"


def _sha256_rate() -> float:
    """GB/s of one core."""
    block, count = bytes(1 << 20), 512
    digest = hashlib.sha256()
    start = time.perf_counter()
    for _ in range(count):
        digest.update(block)
    return count * len(block) / 1e9 / (time.perf_counter() - start)


if __name__ == "__main__":
    main()

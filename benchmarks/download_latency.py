"""How long many small files take when every answer comes 50 ms late: from the faulty hub of the tests."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from fixtures import bench, clients, processes
from fixtures.clients import OURS
from fixtures.releases import Release, many_files
from fixtures.results import publish, table

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.hubs import FaultyHub

CLIENTS = (OURS, "sequential", "hf download", "modelscope download", "curl", "aria2c -x8")
COLUMNS = ("client", "s", "its time / ours", "requests")
DELAY = 0.05


def main() -> None:
    options = bench.options(__doc__)
    release = many_files(100, 10_000, 200_000)
    with bench.place(options.directory, [release]) as place, FaultyHub(place.hub) as hub:
        hub.fault("delay", "/*", seconds=DELAY, head=True)
        series, requests = measure(place, release, hub, options.rounds)
    medians = {name: statistics.median(seconds) for name, seconds in series.items()}
    publish(
        "download-latency",
        "Small files and latency",
        f"python benchmarks/download_latency.py --rounds {options.rounds}",
        options.directory,
        f"100 files of 10 to 200 KB, {release.size / 1e6:.1f} MB together; every answer of the server, which "
        f"is the product's own with the faults of the tests, comes {DELAY * 1000:.0f} ms late. Medians of "
        f"{options.rounds} rounds in turn, of the whole command. The sequential client is a loop with "
        "urllib3 over one connection that is kept open.",
        table(COLUMNS, [[f"`{n}`", s, s / medians[OURS], requests[n]] for n, s in medians.items()]),
        document=options.document,
    )


def measure(
    place: bench.Place, release: Release, hub: FaultyHub, rounds: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of every round, and requests of the last, by client."""
    seconds: dict[str, list[float]] = {name: [] for name in CLIENTS}
    requests: dict[str, int] = {}
    for _ in range(rounds):
        for name, taken in seconds.items():
            job = place.job(release, hub.url)
            clients.empty(job.folder)
            command = clients.prepared(name, job)
            hub.requests.clear()
            taken.append(processes.run(command, job.environ, job.folder).seconds)
            requests[name] = len(hub.requests)
    return seconds, requests


if __name__ == "__main__":
    main()

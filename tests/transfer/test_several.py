"""One file over several connections from several origins, and what becomes of wrong bytes."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from internlm_zoo.errors import IntegrityError
from internlm_zoo.files import Digests, File
from internlm_zoo.net.retry_policy import RetryPolicy
from internlm_zoo.progress import Progress
from internlm_zoo.sources.base import Location
from internlm_zoo.transfer.body import CHUNK
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.engine import transfer
from internlm_zoo.transfer.values import Endpoint, Fetched, TransferRequest
from internlm_zoo.transfer.workers import WorkSharing, work
from tests.hubs import FaultyHub
from tests.timing import PATIENCE, short_silence

REPO, PATH = "acme/tiny", "weights.bin"
BLOCK = 2 * CHUNK
DATA = random.Random(6).randbytes(4 * BLOCK + 4321)
WANTED = File(PATH, len(DATA), Digests(hashlib.sha256(DATA).hexdigest()))
NAMES = ("one", "two", "three")


@pytest.fixture
def hubs(tmp_path: Path) -> Iterator[dict[str, FaultyHub]]:
    (tmp_path / "hub" / REPO).mkdir(parents=True)
    (tmp_path / "hub" / REPO / PATH).write_bytes(DATA)
    with ExitStack() as stack:
        yield {name: stack.enter_context(FaultyHub(tmp_path / "hub")) for name in NAMES}


Fetch = Callable[..., Fetched]


class Sum(Progress):
    def __init__(self) -> None:
        self.done = 0
        self.by: dict[str | None, int] = {}

    def start(self, task: str, total: int | None, done: int = 0) -> None:
        self.done = done

    def advance(self, task: str, amount: int, source: str | None = None) -> None:
        self.done += amount
        self.by[source] = self.by.get(source, 0) + amount


def endpoint(hub: FaultyHub, name: str) -> Endpoint:
    return Endpoint(name, lambda: Location(f"{hub.url}/{REPO}/resolve/main/{PATH}"))


@pytest.fixture
def fetch(tmp_path: Path, hubs: dict[str, FaultyHub]) -> Fetch:
    def fetch(
        *names: str,
        workers: int = 1,
        wanted: File = WANTED,
        progress: Progress | None = None,
        known: Sequence[str] = (),
        stall: float = PATIENCE,
        block_size: int = BLOCK,
    ) -> Fetched:
        endpoints = [endpoint(hubs[name], name) for name in names]
        stop = threading.Event()
        work_sharing = WorkSharing(stop)
        policy = RetryPolicy(connect=PATIENCE, stall=stall, tries=3, first_wait=0.01)
        request = TransferRequest(wanted, endpoints, tmp_path / "partial", "key", known, block_size)
        with closing(Client({}, policy)) as client:
            job = lambda: transfer(  # noqa: E731
                request, client=client, stop=stop, progress=progress or Sum(), work_sharing=work_sharing
            )
            return work([job], workers, stop, when_idle=work_sharing.take_part)[0]

    return fetch


def parts(folder: Path) -> list[str]:
    return sorted(path.suffix for path in (folder / "partial").iterdir())


def test_idle_workers_bring_parts_of_the_file_from_other_origins(
    fetch: Fetch, hubs: dict[str, FaultyHub], tmp_path: Path
) -> None:
    data = DATA * 3
    (tmp_path / "hub" / REPO / PATH).write_bytes(data)
    for hub, after in (("one", ("two", "three")), ("two", ("three",))):
        others = [hubs[name] for name in after]
        begun = lambda others=others: all(other.sent >= BLOCK for other in others)  # noqa: E731
        hubs[hub].fault("stall", PATH, after=BLOCK // 2, until=begun)
    progress = Sum()
    wanted = File(PATH, len(data), Digests(hashlib.sha256(data).hexdigest()))
    done = fetch(*NAMES, workers=3, progress=progress, wanted=wanted)
    assert done.path.read_bytes() == data
    assert set(done.sources) == set(NAMES)
    assert all(done.served[name] >= BLOCK for name in NAMES)
    assert sum(done.served.values()) == len(data)
    assert (progress.done, set(progress.by)) == (len(data), set(NAMES))


@pytest.mark.parametrize("block_size", [1000, 4096, CHUNK - 1, CHUNK + 1])
def test_the_size_of_blocks_may_be_any(fetch: Fetch, hubs: dict[str, FaultyHub], block_size: int) -> None:
    hubs["one"].fault("reset", PATH, times=1, after=3 * block_size + 7)
    hubs["two"].fault("flip", PATH, times=1, after=5 * block_size)
    done = fetch(*NAMES, workers=3, block_size=block_size)
    assert done.path.read_bytes() == DATA
    assert len(done.blocks) == -(-len(DATA) // block_size)


def test_one_connection_asks_once(fetch: Fetch, hubs: dict[str, FaultyHub]) -> None:
    fetch("one")
    assert [seen.headers.get("Range") for seen in hubs["one"].downloads()] == ["bytes=0-"]


@pytest.mark.parametrize("kind", ["reset", pytest.param("stall", marks=pytest.mark.slow), "truncate"])
def test_origins_that_die_on_the_way_are_left_at_their_byte(
    fetch: Fetch, hubs: dict[str, FaultyHub], kind: str
) -> None:
    hubs["one"].fault(kind, PATH, after=BLOCK + 1000)
    hubs["two"].fault(kind, PATH, after=2 * BLOCK + 1000)
    done = fetch(*NAMES, workers=2, stall=short_silence(1.0) if kind == "stall" else PATIENCE)
    assert done.path.read_bytes() == DATA
    assert sum(done.served.values()) == len(DATA)


def test_a_throttled_origin_is_left_for_a_faster_one(fetch: Fetch, hubs: dict[str, FaultyHub]) -> None:
    hubs["one"].fault("slow", PATH, rate=100_000)
    done = fetch("one", "two")
    assert done.path.read_bytes() == DATA
    assert 0 < done.served["one"] < BLOCK < done.served["two"]
    assert any("one: " in note and "delivers only" in note for note in done.notes)


def test_a_wrong_block_is_found_by_a_second_reading_and_its_author_named(
    fetch: Fetch, hubs: dict[str, FaultyHub]
) -> None:
    hubs["one"].fault("flip", PATH, after=2 * BLOCK + 17)
    progress = Sum()
    done = fetch("one", "two", progress=progress)
    assert done.path.read_bytes() == DATA
    blame = next(note for note in done.notes if "was wrong" in note)
    assert f"{PATH} block 2 (bytes {2 * BLOCK:,} to {3 * BLOCK:,}) from one was wrong" in blame
    assert "expected blake3" in blame and "two has it right" in blame
    assert set(done.sources) == {"one", "two"}
    assert progress.done == len(DATA)


def test_a_byte_that_is_wrong_only_once_is_healed_by_its_own_hub(
    fetch: Fetch, hubs: dict[str, FaultyHub]
) -> None:
    hubs["one"].fault("flip", PATH, times=1, after=BLOCK + 1)
    assert fetch("one").path.read_bytes() == DATA


def test_when_nobody_can_say_which_block_is_wrong_the_rest_is_kept(
    fetch: Fetch, hubs: dict[str, FaultyHub], tmp_path: Path
) -> None:
    hubs["one"].fault("flip", PATH, after=17)
    hubs["two"].fault("flip", PATH, after=3 * BLOCK + 17)
    with pytest.raises(IntegrityError) as caught:
        fetch("one", "two")
    assert str(WANTED.sha256) in str(caught.value) and "found" in str(caught.value)
    assert "block 0" in str(caught.value) and "block 3" in str(caught.value)
    assert parts(tmp_path) == [".journal", ".part"]
    done = fetch("three")
    assert done.path.read_bytes() == DATA
    assert done.served == {"three": 2 * BLOCK}


def test_a_hub_that_has_other_bytes_is_told_from_one_that_sent_them_wrongly(fetch: Fetch) -> None:
    other = File(PATH, len(DATA), Digests("0" * 64))
    with pytest.raises(
        IntegrityError, match=f"{PATH} from one is wrong: expected sha256 0.*second reading, from one"
    ):
        fetch("one", wanted=other)


def test_known_blocks_are_checked_as_they_arrive(fetch: Fetch, hubs: dict[str, FaultyHub]) -> None:
    whole = fetch("one")
    known = whole.blocks
    whole.path.unlink()  # the caller's
    hubs["one"].fault("flip", PATH, after=BLOCK + 17)
    done = fetch("one", "two", known=known)
    assert done.path.read_bytes() == DATA
    assert any(
        "one: 127.0.0.1" in note and "sends a wrong weights.bin: block 1" in note for note in done.notes
    )
    assert 0 <= done.served["one"] - 2 * BLOCK < CHUNK
    assert done.served["two"] == len(DATA) - BLOCK


def interrupted(fetch: Fetch, hubs: dict[str, FaultyHub], tmp_path: Path) -> tuple[Path, Path]:
    """The partial file and journal of a download that ended in its fourth block."""
    hubs["one"].fault("reset", PATH, times=1, after=3 * BLOCK + 1000)
    hubs["one"].fault(404, PATH, times=1)
    with pytest.raises(Exception, match="404"):
        fetch("one")
    part = next((tmp_path / "partial").glob("*.part"))
    return part, part.with_suffix(".journal")


def test_what_is_left_is_gone_on_with_at_the_byte(
    fetch: Fetch, hubs: dict[str, FaultyHub], tmp_path: Path
) -> None:
    interrupted(fetch, hubs, tmp_path)
    done = fetch("one")
    assert done.path.read_bytes() == DATA
    assert done.resumed == 3 * BLOCK + 1000
    assert done.served == {"one": len(DATA) - done.resumed}


def test_what_was_left_in_blocks_of_another_size_is_begun_anew(
    fetch: Fetch, hubs: dict[str, FaultyHub], tmp_path: Path
) -> None:
    interrupted(fetch, hubs, tmp_path)
    done = fetch("one", block_size=BLOCK // 2)
    assert (done.path.read_bytes(), done.resumed) == (DATA, 0)


@pytest.mark.parametrize("cut", [1, 40, 150, 350, 10_000])
def test_a_journal_that_was_cut_by_a_loss_of_power_costs_what_it_does_not_say(
    fetch: Fetch, hubs: dict[str, FaultyHub], tmp_path: Path, cut: int
) -> None:
    _, journal = interrupted(fetch, hubs, tmp_path)
    journal.write_bytes(journal.read_bytes()[:-cut])
    done = fetch("one")
    assert done.path.read_bytes() == DATA
    assert done.resumed + done.served["one"] == len(DATA)
    assert done.resumed in (3 * BLOCK, 2 * BLOCK, BLOCK, 0)
    assert parts(tmp_path) == [".journal", ".part"]


def test_blocks_that_never_reached_the_disk_are_fetched_again_and_no_others(
    fetch: Fetch, hubs: dict[str, FaultyHub], tmp_path: Path
) -> None:
    part, _ = interrupted(fetch, hubs, tmp_path)
    with part.open("r+b") as file:
        file.seek(BLOCK)
        file.write(bytes(BLOCK))
    done = fetch("one")
    assert done.path.read_bytes() == DATA
    assert done.served == {"one": len(DATA) - 2 * BLOCK - 1000}


@pytest.mark.parametrize("lost", ["part", "journal", "both"])
def test_a_removed_file_starts_over(
    fetch: Fetch, hubs: dict[str, FaultyHub], tmp_path: Path, lost: str
) -> None:
    part, journal = interrupted(fetch, hubs, tmp_path)
    for path, name in ((part, "part"), (journal, "journal")):
        if lost in (name, "both"):
            path.unlink()
    done = fetch("one")
    assert (done.path.read_bytes(), done.resumed) == (DATA, 0)
    assert parts(tmp_path) == [".journal", ".part"]


def test_a_changed_etag_starts_the_file_over(
    fetch: Fetch, hubs: dict[str, FaultyHub], tmp_path: Path
) -> None:
    interrupted(fetch, hubs, tmp_path)
    hubs["one"].fault("etag-changes", PATH)
    done = fetch("one")
    assert (done.path.read_bytes(), done.resumed) == (DATA, 0)
    assert hubs["one"].sent >= len(DATA)

"""One file from whichever origin delivers: the right bytes, or an error that says who failed and how."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from internlm_zoo.errors import AccessError, IntegrityError, NetworkError, NotFoundError, ZooError
from internlm_zoo.files import Digests, File
from internlm_zoo.net.retry_policy import RetryPolicy
from internlm_zoo.progress import Progress
from internlm_zoo.sources.base import Location
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.engine import transfer
from internlm_zoo.transfer.values import Endpoint, Fetched, TransferRequest
from internlm_zoo.transfer.workers import Stopped
from tests.hubs import FaultyHub
from tests.timing import PATIENCE, short_silence

REPO, PATH = "acme/tiny", "weights.bin"
DATA = random.Random(5).randbytes(700_001)
SHA256 = hashlib.sha256(DATA).hexdigest()
GIT_SHA1 = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()
WANTED = File(PATH, len(DATA), Digests(SHA256))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "hub" / REPO).mkdir(parents=True)
    (tmp_path / "hub" / REPO / PATH).write_bytes(DATA)
    return tmp_path / "hub"


@pytest.fixture
def hubs(root: Path) -> Iterator[dict[str, FaultyHub]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(FaultyHub(root)) for name in ("one", "two")}


def url(hub: FaultyHub) -> str:
    return f"{hub.url}/{REPO}/resolve/main/{PATH}"


def origin(name: str, hub: FaultyHub, **headers: str) -> Endpoint:
    return Endpoint(name, lambda: Location(url(hub), headers))


Fetch = Callable[..., Fetched]


@pytest.fixture
def fetch(tmp_path: Path, hubs: dict[str, FaultyHub]) -> Fetch:
    """Transfer from both hubs in order, or from the origins given."""

    def fetch(
        wanted: File = WANTED,
        origins: list[Endpoint] | None = None,
        stop: threading.Event | None = None,
        progress: Progress | None = None,
        folder: Path = tmp_path / "partial",
        stall: float = PATIENCE,
    ) -> Fetched:
        doors = origins or [origin(name, hub) for name, hub in hubs.items()]
        policy = RetryPolicy(connect=PATIENCE, stall=stall, tries=3, first_wait=0.01)
        request = TransferRequest(wanted, doors, folder, "key")
        with closing(Client({}, policy)) as client:
            return transfer(
                request, client=client, stop=stop or threading.Event(), progress=progress or Progress()
            )

    return fetch


def ranges(hub: FaultyHub) -> list[str | None]:
    return [seen.headers.get("Range") for seen in hub.downloads()]


@pytest.mark.parametrize(
    "wanted",
    [
        WANTED,
        File(PATH, None, Digests(SHA256)),
        File(PATH, len(DATA), Digests(git_sha1=GIT_SHA1)),
        File(PATH),
    ],
    ids=["all known", "no size", "git digest", "nothing known"],
)
def test_the_file_arrives_and_is_checked_against_what_is_known(fetch: Fetch, wanted: File) -> None:
    done = fetch(wanted)
    assert done.path.read_bytes() == DATA
    assert (done.size, done.sha256, done.sources, done.served) == (
        len(DATA), SHA256, ("one",), {"one": len(DATA)},
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["reset", "truncate", "stall"])
def test_the_next_origin_goes_on_at_the_byte_where_the_first_stopped(
    fetch: Fetch, hubs: dict[str, FaultyHub], kind: str
) -> None:
    hubs["one"].fault(kind, PATH, times=1, after=400_000)
    done = fetch(stall=short_silence(0.4) if kind == "stall" else PATIENCE)
    assert done.path.read_bytes() == DATA
    assert done.served == {"one": 400_000, "two": 300_001}
    assert ranges(hubs["two"]) == ["bytes=400000-"]
    assert any("at byte 400,000" in note for note in done.notes)


def test_one_origin_alone_is_asked_again_at_that_byte(fetch: Fetch, hubs: dict[str, FaultyHub]) -> None:
    hubs["one"].fault("reset", PATH, times=2, after=200_000)
    done = fetch(origins=[origin("one", hubs["one"])])
    assert done.path.read_bytes() == DATA
    assert ranges(hubs["one"]) == ["bytes=0-", "bytes=200000-", "bytes=400000-"]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("flip", IntegrityError),
        ("truncate", IntegrityError),
        ("short-length", IntegrityError),
        ("long-length", IntegrityError),
        ("no-length", None),
        ("html", IntegrityError),
        ("lfs-pointer", IntegrityError),
        ("encoding", IntegrityError),
        ("stall", NetworkError),
        ("hang", NetworkError),
        ("reset", NetworkError),
        (401, AccessError),
        (403, AccessError),
        (404, NotFoundError),
        (429, NetworkError),
        (500, NetworkError),
        (503, NetworkError),
    ],
    ids=str,
)
def test_every_fault_has_its_error_and_wrong_bytes_never_pass(
    fetch: Fetch, hubs: dict[str, FaultyHub], kind: Any, error: type[ZooError] | None
) -> None:
    hubs["one"].fault(kind, PATH)
    alone = [origin("one", hubs["one"])]
    stall = short_silence(0.4) if kind in ("stall", "hang") else PATIENCE
    if error is None:
        assert fetch(origins=alone).path.read_bytes() == DATA
        return
    with pytest.raises(error) as caught:
        fetch(origins=alone, stall=stall)
    assert type(caught.value) is error
    assert PATH in str(caught.value)
    assert fetch(stall=stall).path.read_bytes() == DATA


def test_a_range_that_is_ignored_starts_the_file_over(fetch: Fetch, hubs: dict[str, FaultyHub]) -> None:
    hubs["one"].fault("reset", PATH, times=1, after=300_000)
    hubs["two"].fault("ignore-range", PATH)
    done = fetch()
    assert done.path.read_bytes() == DATA
    assert done.served == {"one": 300_000, "two": len(DATA)}


def test_a_range_that_is_not_the_one_asked_for_is_refused(fetch: Fetch, hubs: dict[str, FaultyHub]) -> None:
    hubs["one"].fault("reset", PATH, times=1, after=300_000)
    hubs["two"].fault("wrong-range", PATH)
    done = fetch()
    assert done.path.read_bytes() == DATA
    assert done.served == {"one": len(DATA)}


@pytest.mark.parametrize("wanted", [WANTED, File(PATH)], ids=["all known", "nothing known"])
def test_half_an_answer_is_gone_on_with_at_its_end(
    fetch: Fetch, hubs: dict[str, FaultyHub], wanted: File
) -> None:
    hubs["one"].fault("part", PATH, times=1)
    done = fetch(wanted)
    assert done.path.read_bytes() == DATA
    assert ranges(hubs["one"]) == ["bytes=0-", "bytes=350001-"] and done.notes == ()


def test_a_length_that_is_too_short_shows_without_a_listing(fetch: Fetch, hubs: dict[str, FaultyHub]) -> None:
    hubs["one"].fault("short-length", PATH)
    with pytest.raises(IntegrityError, match="says 700000 bytes and sends 700001"):
        fetch(File(PATH), [origin("one", hubs["one"])])


def test_an_empty_file_has_no_range_and_is_no_error(
    fetch: Fetch, hubs: dict[str, FaultyHub], root: Path
) -> None:
    (root / REPO / PATH).write_bytes(b"")
    done = fetch(File(PATH))
    assert (done.path.read_bytes(), done.size, done.notes) == (b"", 0, ())
    assert [seen.status for seen in hubs["one"].requests] == [416]


def test_a_file_that_changes_under_us_is_started_over(
    fetch: Fetch, hubs: dict[str, FaultyHub], root: Path
) -> None:
    hub, other = hubs["one"], DATA[::-1]
    hub.fault("stall", PATH, times=1, after=300_000)
    changer = threading.Thread(
        target=lambda: (hub.wait(lambda: hub.sent >= 300_000), (root / REPO / PATH).write_bytes(other))
    )
    changer.start()
    done = fetch(File(PATH), [origin("one", hub)], stall=short_silence(0.4))
    changer.join()
    assert done.path.read_bytes() in (DATA, other)


def test_when_two_had_a_part_in_a_wrong_file_the_guilty_one_is_named(
    fetch: Fetch, hubs: dict[str, FaultyHub]
) -> None:
    hubs["one"].fault("reset", PATH, times=1, after=300_000)
    hubs["two"].fault("flip", PATH, after=500_000)
    done = fetch()
    assert (done.path.read_bytes(), done.sources) == (DATA, ("one",))
    assert any("block 0" in note and "from one and two was wrong" in note for note in done.notes)


def test_an_expired_link_is_asked_for_anew_and_goes_on_at_the_byte(
    fetch: Fetch, hubs: dict[str, FaultyHub]
) -> None:
    hub, asked = hubs["one"], []
    hub.fault("reset", PATH, times=1, after=300_000)
    hub.fault("expired", PATH, times=1)

    def locate() -> Location:
        asked.append(time.time())
        return Location(url(hub))

    done = fetch(origins=[Endpoint("one", locate)])
    assert done.path.read_bytes() == DATA
    assert len(asked) == 2
    assert ranges(hub) == ["bytes=0-", "bytes=300000-", "bytes=300000-"]


def test_a_link_known_to_be_over_is_not_tried(fetch: Fetch, hubs: dict[str, FaultyHub]) -> None:
    hub = hubs["one"]
    links = [Location(url(hub) + "?first", {}, expires=time.time()), Location(url(hub) + "?second")]
    hub.fault("reset", PATH, times=1, after=300_000)
    done = fetch(origins=[Endpoint("one", lambda: links.pop(0))])
    assert done.path.read_bytes() == DATA
    assert [list(seen.query) for seen in hub.downloads()] == [["first"], ["second"]]


@pytest.mark.parametrize("to", ["other-host", "other-port"])
def test_credentials_do_not_follow_a_redirect_elsewhere(
    fetch: Fetch, hubs: dict[str, FaultyHub], to: str
) -> None:
    hub = hubs["one"]
    hub.fault("redirect", PATH, to=to)
    done = fetch(origins=[origin("one", hub, Authorization="Bearer secret", Cookie="m=secret")])
    assert done.path.read_bytes() == DATA
    first, second = [seen for seen in hub.requests if seen.path.endswith(PATH)]
    assert first.headers["Authorization"] == "Bearer secret"
    assert "secret" not in str(dict(second.headers))
    assert second.host != first.host


def test_credentials_stay_with_a_redirect_on_the_same_host(fetch: Fetch, hubs: dict[str, FaultyHub]) -> None:
    hubs["one"].fault("redirect", PATH, to="same")
    fetch(origins=[origin("one", hubs["one"], Authorization="Bearer secret")])
    assert [seen.headers.get("Authorization") for seen in hubs["one"].downloads()][-1] == "Bearer secret"


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://example.org/x", "mailto:a@b", "http://[bad"])
def test_a_redirect_to_something_else_than_a_web_address_is_refused(
    fetch: Fetch, hubs: dict[str, FaultyHub], to: str
) -> None:
    hubs["one"].fault("redirect", PATH, to=to)
    with pytest.raises(IntegrityError, match="not a web address"):
        fetch(origins=[origin("one", hubs["one"])])


def test_redirects_without_end_are_refused(fetch: Fetch, hubs: dict[str, FaultyHub]) -> None:
    a, b = url(hubs["one"]), url(hubs["two"])
    hubs["one"].fault("redirect", "/*", to=b)
    hubs["two"].fault("redirect", "/*", to=a)
    with pytest.raises(IntegrityError, match="redirects more than"):
        fetch(origins=[origin("one", hubs["one"])])


def test_retry_after_is_honoured(fetch: Fetch, hubs: dict[str, FaultyHub]) -> None:
    hubs["one"].fault(429, PATH, times=1, retry_after=1)
    begun = time.monotonic()
    assert fetch(origins=[origin("one", hubs["one"])]).path.read_bytes() == DATA
    assert time.monotonic() - begun >= 1


def test_while_one_asks_to_wait_the_other_is_asked(fetch: Fetch, hubs: dict[str, FaultyHub]) -> None:
    hubs["one"].fault(429, PATH, times=1, retry_after=60)
    assert fetch().sources == ("two",)
    assert len(hubs["one"].downloads()) == 1


def test_the_bytes_are_asked_for_as_they_are(fetch: Fetch, hubs: dict[str, FaultyHub]) -> None:
    fetch()
    assert hubs["one"].downloads()[0].headers["Accept-Encoding"] == "identity"


def test_a_directory_is_an_origin_like_any_other(
    fetch: Fetch, hubs: dict[str, FaultyHub], root: Path
) -> None:
    place = Endpoint("folder", lambda: Location((root / REPO / PATH).as_uri()))
    done = fetch(origins=[place])
    assert done.served == {"folder": len(DATA)}
    done.path.unlink()  # the caller's
    gone = Endpoint("folder", lambda: Location((root / "gone").as_uri()))
    assert fetch(origins=[gone, origin("one", hubs["one"])]).sources == ("one",)


def test_a_stop_keeps_what_arrived_for_the_next_run(fetch: Fetch, hubs: dict[str, FaultyHub]) -> None:
    hubs["one"].fault("slow", PATH, rate=2_000_000)
    stop = threading.Event()
    stopper = threading.Thread(
        target=lambda: (hubs["one"].wait(lambda: hubs["one"].sent > 250_000), stop.set())
    )
    stopper.start()
    with pytest.raises(Stopped):
        fetch(stop=stop)
    stopper.join()
    hubs["one"].clear()
    done = fetch()
    assert done.path.read_bytes() == DATA
    assert 0 < done.resumed == len(DATA) - sum(done.served.values())


def test_progress_ends_at_the_size_of_the_file(fetch: Fetch, hubs: dict[str, FaultyHub]) -> None:
    class Sum(Progress):
        total = 0

        def start(self, task: str, total: int | None, done: int = 0) -> None:
            self.total += done

        def advance(self, task: str, amount: int, source: str | None = None) -> None:
            self.total += amount

    hubs["one"].fault("flip", PATH)
    hubs["two"].fault("reset", PATH, times=1, after=1000)
    progress = Sum()
    fetch(progress=progress)
    assert progress.total == len(DATA)


FAULTS = st.tuples(
    st.sampled_from(
        ["flip", "truncate", "short-length", "long-length", "no-length", "ignore-range", "wrong-range",
         "reset", "html", "encoding", "lfs-pointer", "etag-changes", "expired", 404, 429, 503]
    ),
    st.integers(1, 2),
    st.integers(0, len(DATA) - 1),
)  # fmt: skip


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=st.lists(FAULTS, max_size=4), two=st.lists(FAULTS, max_size=4))
def test_whatever_goes_wrong_the_file_is_right_or_there_is_none(
    fetch: Fetch,
    hubs: dict[str, FaultyHub],
    tmp_path_factory: pytest.TempPathFactory,
    one: list[tuple[Any, int, int]],
    two: list[tuple[Any, int, int]],
) -> None:
    for hub, faults in ((hubs["one"], one), (hubs["two"], two)):
        hub.clear()
        for kind, times, after in faults:
            hub.fault(kind, PATH, times=times, after=after)
    try:
        done = fetch(folder=tmp_path_factory.mktemp("partial"))
    except ZooError as error:
        assert "one" in str(error) or "two" in str(error)
    else:
        assert done.path.read_bytes() == DATA

"""How hubs are asked: not sooner than they say, not all at once, over few connections."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import formatdate

import pytest

from internlm_zoo.errors import NetworkError
from internlm_zoo.net.retry_policy import RetryPolicy
from internlm_zoo.net.statuses import retry_after
from tests.downloads.fault_table import LISTINGS
from tests.hubs import FaultyHub, Seen
from tests.timing import short_silence
from tests.world import ENDPOINTS, FILES, REPO, WEIGHTS, World, content_below, write

HUBS = tuple(ENDPOINTS)


def gaps(requests: Sequence[Seen]) -> list[float]:
    """Seconds between the end of an answer and the next request."""
    ended = [seen.ended or seen.began for seen in requests]
    return [later.began - end for end, later in zip(ended, requests[1:], strict=False)]


def most_at_a_time(hub: FaultyHub) -> int:
    requests = hub.downloads()
    hub.wait(lambda: all(seen.ended for seen in requests))
    return max(sum(one.began <= moment < (one.ended or 0) for one in requests)
               for moment in [seen.began for seen in requests])  # fmt: skip


@pytest.fixture(autouse=True)
def asked_again_soon() -> None:
    """Here the pauses are those of the program."""


@pytest.fixture
def patient(world: World) -> World:
    world.environ["INTERNLM_ZOO_TRIES"] = "4"
    return world


def asked_to_wait(form: str, seconds: float) -> Callable[[], str]:
    """What the answer says, from when it is given."""
    # A date has whole seconds, and is cut, not rounded: one more, so that it lies far enough ahead.
    return lambda: (
        f"{seconds:.0f}" if form == "seconds" else formatdate(time.time() + seconds + 1, usegmt=True)
    )


def of_each_hub(world: World, look: Callable[[World, str], object]) -> None:
    """Of all hubs at once, by a user each, for what is looked at is waiting."""
    homes = [str(world.folder / f"store of {name}") for name in HUBS]
    users = [replace(world, environ={**world.environ, "INTERNLM_ZOO_HOME": home}) for home in homes]
    with ThreadPoolExecutor(len(HUBS)) as pool:
        list(pool.map(look, users, HUBS))


@pytest.mark.parametrize(("form", "status"), [("seconds", 429), ("date", 503)])
def test_a_hub_that_asks_to_wait_is_not_asked_for_bytes_sooner(
    patient: World, form: str, status: int
) -> None:
    def look(user: World, name: str) -> None:
        hub = user.hubs[name]
        hub.fault(status, WEIGHTS, times=1, retry_after=asked_to_wait(form, 1))
        assert content_below(user.download(source=name, format="hf").path) == FILES, name
        assert gaps(hub.downloads(WEIGHTS))[0] >= 0.95, name

    of_each_hub(patient, look)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_hub_that_asks_to_wait_is_not_asked_for_a_listing_sooner(patient: World, form: str) -> None:
    def look(user: World, name: str) -> None:
        hub = user.hubs[name]
        hub.fault(429, LISTINGS[name], times=1, retry_after=asked_to_wait(form, 1))
        assert content_below(user.download(source=name, format="hf").path) == FILES, name
        refused = [seen for seen in hub.requests if seen.status == 429]
        again = [seen for seen in hub.requests if seen.path == refused[0].path]
        assert len(refused) == 1 and gaps(again)[0] >= 0.95, name

    of_each_hub(patient, look)


@pytest.mark.parametrize("name", HUBS)
def test_a_hub_that_asks_for_an_hour_is_left_at_once_and_says_so(patient: World, name: str) -> None:
    patient.hubs[name].fault(429, LISTINGS[name], retry_after=3600)
    with pytest.raises(NetworkError, match="asks to wait 3600 s"):
        patient.download(source=name, format="hf")
    assert len([seen for seen in patient.hubs[name].requests if seen.status == 429]) == 1


def test_pauses_double_up_to_a_minute() -> None:
    policy, longest = RetryPolicy(), [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    failures = range(1, len(longest) + 1)
    assert [policy.pause(count, lambda least, most: most) for count in failures] == longest
    assert [policy.pause(count, lambda least, most: least * 2) for count in failures] == longest


def test_no_two_clients_come_back_in_step() -> None:
    assert len({RetryPolicy().pause(3) for _ in range(100)}) == 100


@pytest.mark.slow
def test_no_pause_before_a_hub_in_trouble_is_asked_again_is_shorter_than_it_may_be(patient: World) -> None:
    """Of a client of each hub."""
    for hub in patient.hubs.values():
        hub.fault("reset", WEIGHTS)

    def download(user: World, name: str) -> None:
        with pytest.raises(NetworkError):
            user.download(WEIGHTS, source=name, format="hf")

    of_each_hub(patient, download)
    paused = [gaps(hub.downloads(WEIGHTS)) for hub in patient.hubs.values()]
    for pauses in paused:
        assert len(pauses) == 3
        for pause, longest in zip(pauses, (0.5, 1.0, 2.0), strict=True):
            assert pause >= longest / 2 - 0.06


@pytest.mark.parametrize(("kind", "how"), [("stall", {"after": 5000}), ("hang", {}), ("slow", {"rate": 100})])
def test_a_hub_that_falls_silent_is_left_when_its_time_is_over(
    world: World, kind: str, how: dict[str, int]
) -> None:
    seconds = short_silence(1.0)
    world.environ |= {"INTERNLM_ZOO_TIMEOUT": str(seconds), "INTERNLM_ZOO_TRIES": "5"}
    world.fault(kind, WEIGHTS, "huggingface", **how)
    began = time.monotonic()
    assert content_below(world.download().path) == FILES
    # A trickle is left for a hub that may be quicker after two seconds.
    assert time.monotonic() - began >= 0.9 * min(seconds, 2.0)
    assert len(world.hubs["huggingface"].downloads(WEIGHTS)) < 5


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("name", HUBS)
def test_many_small_files_come_over_as_many_connections_as_workers(
    patient: World, name: str, workers: int
) -> None:
    files = {f"part-{number:02}.json": random.Random(number).randbytes(3000) for number in range(20)}
    write(patient.root / REPO, files)
    hub = patient.hubs[name]
    hub.fault("delay", "*", seconds=0.01)
    done = patient.download(source=name, format="hf", max_workers=workers)
    assert content_below(done.path) == {**FILES, **files}
    assert len({seen.peer for seen in hub.downloads()}) <= workers
    # The listing has a client of its own.
    assert len({seen.peer for seen in hub.requests}) <= workers + 1
    assert 1 <= most_at_a_time(hub) <= workers
    assert workers == 1 or most_at_a_time(hub) > 1


@pytest.mark.parametrize("workers", [1, 3])
def test_one_large_file_takes_no_more_connections_than_workers(patient: World, workers: int) -> None:
    data = random.Random(7).randbytes(40 << 20)
    write(patient.root / REPO, {WEIGHTS: data})
    hub = patient.hubs["modelscope"]
    hub.fault("slow", WEIGHTS, rate=60_000_000)
    done = patient.download(WEIGHTS, source="modelscope", max_workers=workers)
    assert (done.path / WEIGHTS).read_bytes() == data
    assert most_at_a_time(hub) <= workers


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 8])
def test_ten_seconds_worth_of_bytes_come_no_faster_than_the_rate(patient: World, workers: int) -> None:
    sizes = [5_000_000, 3_000_000, *[100_000] * 20]
    files = {f"part-{number}.bin": random.Random(number).randbytes(size) for number, size in enumerate(sizes)}
    write(patient.root / REPO, files)
    began = time.monotonic()
    done = patient.download(*files, source="modelscope", max_workers=workers, max_rate=1_000_000)
    seconds = time.monotonic() - began
    assert content_below(done.path) == files
    assert sum(sizes) / 1_000_000 / seconds <= 1.05  # and not slower: tests/transfer/test_rate.py


@pytest.mark.parametrize("text", ["soon", "²", "-5", "1e9", "Thu, 99 Foo 2026"])
def test_a_wait_that_is_none_is_not_minded(patient: World, text: str) -> None:
    patient.fault(429, WEIGHTS, "modelscope", times=1, retry_after=text)
    patient.fault(429, LISTINGS["modelscope"], "modelscope", times=1, retry_after=text)
    assert retry_after(text) == 0
    assert content_below(patient.download(source="modelscope").path) == FILES

"""Listings and bytes are asked for by one client: what holds for the first holds for the second."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from internlm_zoo.errors import UsageError, ZooError
from internlm_zoo.net.deadline import Deadline, DeadlineSocket
from internlm_zoo.net.retry_policy import Backoff, RetryPolicy
from internlm_zoo.net.statuses import Recovery
from tests.hubs import FaultyHub
from tests.hubs.authority import Authority
from tests.world import ENDPOINTS, FILES, REPO, WEIGHTS, World, content_below

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ENDPOINTS)
def test_silence_is_borne_as_long_for_listings_as_for_bytes(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And as long as the docs say, where the user says nothing."""
    del world.environ["INTERNLM_ZOO_TIMEOUT"]
    borne, limits = set[float | None](), dict[str, float]()
    settimeout, after = DeadlineSocket.settimeout, Deadline.after

    def record(socket: DeadlineSocket, seconds: float | None) -> None:
        borne.add(seconds)
        settimeout(socket, seconds)

    def limit(seconds: float, missing: str) -> Deadline:
        limits.setdefault(missing, seconds)
        return after(seconds, missing)

    monkeypatch.setattr(DeadlineSocket, "settimeout", record)
    monkeypatch.setattr(Deadline, "after", limit)
    assert content_below(world.download(source=name, format="hf").path) == FILES
    silence = documented("cli.md", r"counts as stalled \((\d+)\)")
    assert borne == {10.0, silence}
    assert limits["nothing whole"] == limits["no byte of the file"] == 2 * silence + 2
    assert documented("safety.md", r"a hub's answer, .*\| (\d+) s") == 2 * silence + 2


def documented(page: str, pattern: str) -> float:
    found = re.search(pattern, (DOCS / page).read_text())
    assert found
    return float(found[1])


def test_certificates_that_are_not_there_are_missed_where_bytes_alone_are_encrypted(
    world: World, authority: Authority
) -> None:
    with FaultyHub(world.root, tls=authority.server) as secure:
        world.fault(
            "redirect", f"*{WEIGHTS}", "huggingface", to=f"{secure.url}/{REPO}/resolve/main/{WEIGHTS}"
        )
        world.environ["SSL_CERT_FILE"] = "/nowhere/at-all.pem"
        with pytest.raises(UsageError, match=r"SSL_CERT_FILE names /nowhere.*not there"):
            world.download(source="huggingface", format="hf")
        world.environ["SSL_CERT_FILE"] = str(authority.pem)
        assert content_below(world.download(source="huggingface", format="hf").path) == FILES
        assert {seen.path.rpartition("/")[2] for seen in secure.requests} == {WEIGHTS}


@pytest.mark.parametrize(
    ("status", "code"), [(401, 4), (403, 4), (404, 4), (410, 4), (429, 5), (500, 5), (503, 5)]
)
def test_a_status_means_the_same_of_a_listing_as_of_bytes(world: World, status: int, code: int) -> None:
    codes = []
    for place in (f"*{WEIGHTS}", "/api/*"):
        world.hubs["huggingface"].clear()
        world.fault(status, place, "huggingface")
        with pytest.raises(ZooError) as caught:
            world.download(source="huggingface", format="hf")
        codes.append(caught.value.exit_code)
    assert codes == [code, code]


@pytest.mark.parametrize(("came", "ends"), [((0, 9, 9), 3), ((0, 0, 10, 0, 0), 5)])
def test_a_row_of_failures_ends_with_a_block_and_with_nothing_less(came: tuple[int, ...], ends: int) -> None:
    """Of ten bytes; the third failure in a row is the last."""
    backoff, pauses = Backoff(), []
    for amount in came:
        backoff.delivered(amount, enough=10)
        pauses.append(backoff.pause(Recovery.RETRY, 0, RetryPolicy(tries=3)))
    assert pauses.index(None) == ends - 1


@pytest.mark.parametrize(
    ("recovery", "asked", "tried"),
    [
        (Recovery.GIVE_UP, 0, 0),
        (Recovery.RETRY_ONCE, 0, 1),
        (Recovery.RETRY, 601, 0),
        (Recovery.RETRY, 600, 4),
    ],
)
def test_who_may_not_be_asked_again_has_no_pause(recovery: Recovery, asked: float, tried: int) -> None:
    backoff, policy = Backoff(), RetryPolicy()
    for _ in range(tried):
        pause = backoff.pause(recovery, asked, policy)
        assert pause is not None and pause >= asked
    assert backoff.pause(recovery, asked, policy) is None

"""Listings and bytes are asked for by one client: what holds for the first holds for the second."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from internlm_zoo.errors import UsageError
from internlm_zoo.net.deadline import Deadline, PunctualSocket
from tests.hubs import FaultyHub
from tests.hubs.authority import Authority
from tests.store.world import ENDPOINTS, FILES, REPO, WEIGHTS, World, content_below

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ENDPOINTS)
def test_silence_is_borne_as_long_for_listings_as_for_bytes(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And as long as the docs say, where the user says nothing."""
    del world.environ["INTERNLM_ZOO_TIMEOUT"]
    borne, limits = set[float | None](), dict[str, float]()
    settimeout, after = PunctualSocket.settimeout, Deadline.after

    def record(socket: PunctualSocket, seconds: float | None) -> None:
        borne.add(seconds)
        settimeout(socket, seconds)

    def limit(seconds: float, thing: str) -> Deadline:
        limits.setdefault(thing, seconds)
        return after(seconds, thing)

    monkeypatch.setattr(PunctualSocket, "settimeout", record)
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

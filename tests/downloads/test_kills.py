"""Whenever a download is killed, the next one ends with the right bytes, asks for few of them again, and
leaves nothing behind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from internlm_zoo.store.layout import Store
from internlm_zoo.store.removal import leftovers, remove
from tests.downloads import kills
from tests.downloads.kills import BLOCK, WORKERS, Outcome, Range


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Range]:
    with kills.shooting_range(tmp_path_factory.mktemp("kills")) as place:
        yield place


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Range]:
    with kills.shooting_range(tmp_path_factory.mktemp("steps"), {}) as place:
        yield place


def assert_sound(outcome: Outcome, again: int) -> None:
    assert (outcome.wrong, outcome.left) == ((), ())
    assert outcome.again <= again


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (0, 7))])
def test_a_killed_download_goes_on_and_leaves_nothing(place: Range, seed: int) -> None:
    assert_sound(kills.killed(place, seed, 1), WORKERS * BLOCK)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "times"), [(10, 1), (5, 2)])
def test_the_same_at_many_points(tmp_path: Path, seeds: int, times: int) -> None:
    outcomes = kills.outcomes(tmp_path, seeds, times)
    assert len(outcomes) == seeds
    for outcome in outcomes:
        assert_sound(outcome, times * WORKERS * BLOCK)


def dies_at(small: Range, step: int) -> bool:
    """Whether a download can be killed there; the next one must be right then."""
    small.begin()
    died = small.kill_at_step(step)
    assert_sound(small.finish(), 600_007)
    return died


@pytest.mark.parametrize("step", random.Random(5).sample(range(70), 4))
def test_whatever_it_was_about_to_do_in_the_store(small: Range, step: int) -> None:
    assert dies_at(small, step)


@pytest.mark.slow
def test_the_same_at_every_eleventh_step(small: Range) -> None:
    step = 0
    while dies_at(small, step):
        step += 11
    assert step > 70


@pytest.mark.parametrize("seed", [2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("lost", ["end of the journal", "journal", "part"])
def test_what_the_disk_lost_with_the_kill_is_fetched_again(place: Range, lost: str, seed: int) -> None:
    place.begin()
    place.kill(0.8)
    (part,) = (path for path in place.world.home.glob("partial/*.part") if path.stat().st_size > BLOCK)
    journal = part.with_suffix(".journal")
    if lost == "end of the journal":
        with journal.open("r+b") as file:
            file.truncate(random.Random(seed).randrange(journal.stat().st_size))
    else:
        (part if lost == "part" else journal).unlink()
    assert_sound(place.finish(), kills.TOTAL)


@pytest.mark.parametrize("source", ["auto", pytest.param("openxlab", marks=pytest.mark.slow)])
def test_of_a_release_that_was_changed_meanwhile_nothing_old_is_left_in_it(
    tmp_path: Path, source: str
) -> None:
    """Even where the hub tells no digests, and all files have the size that they had."""
    with kills.shooting_range(tmp_path) as place:
        world = place.world
        world.environ |= {} if source == "auto" else {"INTERNLM_ZOO_SOURCES": source}
        place.begin()
        place.kill(0.7)
        old = {path.name for path in world.home.glob("partial/*.part")}
        kills.fill(world, seed=1)
        outcome = place.finish()
        assert outcome.wrong == ()
        begun = {name.partition(".")[0] for name in old}
        stay = {path for path in outcome.left if path.startswith("partial/")}
        assert all(path.removeprefix("partial/").partition(".")[0] in begun for path in stay)
        remove(Store(world.home), leftovers(Store(world.home)))
        assert not list(world.home.glob("partial/*"))
        assert {path.name for path in world.home.glob("blobs/*/*/*")} == {
            kills.digest(path) for path in kills.files_of(place.root)
        }

"""A store that is complete serves whoever may read it, and nothing is written into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.environment import ENVIRONMENTS
from tests.world import FILES, World, content_below

pytestmark = pytest.mark.slow

GOOD = ("download", "tiny", "--format", "hf")
READERS = (
    GOOD,
    (*GOOD, "--json"),
    (*GOOD, "config.json"),
    (*GOOD, "--dry-run"),
    (*GOOD, "--offline"),
    ("verify", "tiny"),
    ("cache", "verify"),
    ("cache", "list"),
    ("cache", "path", "tiny"),
    ("list", "--cached"),
    ("show", "tiny", "--files"),
)


def seen(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything in a folder, with size and time of change."""
    stats = {path.relative_to(folder).as_posix(): path.lstat() for path in folder.rglob("*")}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


@pytest.fixture
def complete(world: World, zoo_in) -> World:
    done = zoo_in("plain", *GOOD)
    assert done.code == 0, done.err
    return world


@pytest.mark.parametrize("name", ["read-only", "not ours"])
def test_every_verb_that_reads_it_works_and_writes_nothing(complete, zoo_in, name):
    before, sent = seen(complete.home), complete.sent
    for args in READERS:
        done = zoo_in(name, *args)
        assert done.code == 0, f"{args}: {done.err}"
        assert "Traceback" not in done.err
    assert seen(complete.home) == before
    assert complete.sent == sent


@pytest.mark.parametrize("name", ["read-only", "not ours"])
@pytest.mark.parametrize(
    "args", [("cache", "rm", "tiny"), ("download", "tiny", "--format", "original"), ("lock", "tiny")]
)
def test_a_verb_that_changes_it_says_that_it_cannot(complete, zoo_in, name, args):
    before = content_below(complete.home)
    done = zoo_in(name, *args)
    assert done.code in (2, 4), done.err
    assert ("Read-only" in done.err or "Permission denied" in done.err) and str(complete.home) in done.err
    assert "Traceback" not in done.err
    assert content_below(complete.home) == before


def test_what_a_kill_left_in_it_does_not_matter(complete, zoo_in):
    (complete.home / "partial" / "release.free-0badcafe.part").mkdir(parents=True)
    for file in complete.home.glob("blobs/sha256/*/*"):
        (complete.home / "partial" / f"{file.name}.lock").touch()
    done = zoo_in("read-only", *GOOD)
    assert done.code == 0, done.err


def test_it_serves_a_folder_elsewhere(complete, zoo_in, tmp_path):
    sent = complete.sent
    done = zoo_in("read-only", *GOOD, "--local-dir", tmp_path / "out")
    assert done.code == 0, done.err
    assert content_below(tmp_path / "out") == FILES
    assert complete.sent == sent


def test_a_whole_folder_that_is_read_only_is_right_as_it_is(world, zoo_in):
    out = world.folder / "out"
    assert zoo_in("plain", *GOOD, "--local-dir", out).code == 0
    before = seen(out)
    done = zoo_in("read-only", *GOOD, "--local-dir", out, odd=out)
    assert (done.code, done.out.strip()) == (0, str(out)), done.err
    assert seen(out) == before
    assert ENVIRONMENTS["read-only"].complete

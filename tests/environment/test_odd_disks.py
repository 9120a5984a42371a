"""Whatever a file system does not know, a download into it ends well, and the next one finds it right."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.environment import ENVIRONMENTS, Environment
from tests.world import FILES, REPO, WEIGHTS, content_below, write

GOOD = ("download", "tiny", "--format", "hf")
QUICK = ["no fsync"]
WORKED_AROUND = [
    "no modes",
    "no lock server",
    "no times",
    "no flock",
    "unlock fails",
    "lying flock",
    "no links",
    "no symbolic links",
    "full of links",
    "no moves",
    "no exchange",
    "no reservation",
    "no temporaries",
    "no copying in the kernel",
    "no mapping",
    "no room known",
    "few threads",
    "few files",
    "no /proc",
    "no /tmp",
    "squashed root",
]


def is_whole(out: str, world) -> bool:
    """Whether the folder that was printed holds the release, and nothing is under way."""
    return content_below(Path(out.strip())) == FILES and not list(world.home.glob("partial/*.part"))


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in WORKED_AROUND)])
def test_what_is_not_known_there_is_worked_around(world, zoo_in, name):
    done = zoo_in(name, *GOOD)
    assert done.code == 0, done.err
    assert is_whole(done.out, world)
    sent = sum(world.sent.values())
    again = zoo_in(name, *GOOD)
    assert (again.code, again.out) == (0, done.out), again.err
    assert sum(world.sent.values()) == sent
    checked = zoo_in(name, "verify", "tiny")
    assert checked.code == 0, checked.err
    assert "Traceback" not in done.err + again.err + checked.err and "Warning" not in done.err


@pytest.mark.slow
def test_all_at_once_as_on_a_memory_card(world, zoo_in):
    card = Environment(
        "memory card", "", "chmod=EPERM utime=EPERM symlink=EPERM link=EPERM allocate=EOPNOTSUPP flock=ENOSYS"
    )
    for args in (GOOD, GOOD, ("verify", "tiny"), ("cache", "list"), ("cache", "rm", "tiny"), GOOD):
        done = zoo_in(card, *args)
        assert done.code == 0, done.err
    assert is_whole(done.out, world)


REFUSED = {
    "failing fsync": (4, "the disk fails: Input/output error"),
    "bad disk": (4, "the disk fails: Input/output error"),
    "stale handle": (4, "the disk fails: Stale file handle"),
    "quota": (8, "this account may use no more: Disk quota exceeded"),
    "small files": (8, "no file may be larger than 204,800 bytes here (ulimit -f)"),
    "small disk": (8, "more bytes and the disk has 258,048"),
    "read-only and empty": (2, "cannot write there: Read-only file system"),
    "no renames": (2, "cannot write there: Invalid cross-device link"),
    "no home": (2, "this account has no home directory"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_a_sentence_with_a_way_out_and_the_rerun_works(world, zoo_in, name):
    code, words = REFUSED[name]
    done = zoo_in(name, *GOOD)
    assert (done.code, done.out) == (code, ""), done.err
    assert words in done.err and "fix: " in done.err and "Traceback" not in done.err
    assert str(world.home) in done.err or name == "no home"
    assert "going on to the next source" not in done.err  # no hub is to blame
    again = zoo_in("plain", *GOOD)
    assert again.code == 0, again.err
    assert is_whole(again.out, world)


@pytest.mark.slow
def test_bytes_that_fsync_lost_are_not_gone_on_from(world, zoo_in):
    """They can be read still, for a while: lwn.net/Articles/752063."""
    assert zoo_in("failing fsync", *GOOD, WEIGHTS, "--source", "modelscope").code == 4
    assert not list(world.home.glob("partial/*.part"))
    zoo_in("plain", *GOOD, WEIGHTS, "--source", "modelscope")
    assert world.sent["modelscope"] == 2 * len(FILES[WEIGHTS])


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", ["blobs", "releases", "partial", "blocks"])
def test_parts_of_the_store_may_lie_on_other_disks(world, zoo_in, elsewhere):
    folder = f"$ODD/{elsewhere}"
    apart = Environment(
        "apart",
        "",
        namespaces="-m",
        before=f'mkdir -p "{folder}" && mount -t tmpfs tmpfs "{folder}"',
        # What lies on the other disk goes with the namespace: it is looked at in there.
        through="""sh -c '"$@" && cp -rL "$ODD" "$ODD.seen"' sh""",
    )
    done = zoo_in(apart, *GOOD)
    assert done.code == 0, done.err
    seen = Path(f"{world.home}.seen") / Path(done.out.strip()).relative_to(world.home)
    assert content_below(seen) == FILES


@pytest.mark.slow
def test_a_copy_without_links_is_verified_and_gone_on_from(world, zoo_in):
    assert zoo_in("plain", *GOOD, "--exclude", WEIGHTS).code == 0
    copy = world.folder / "copy"
    shutil.copytree(world.home, copy, symlinks=False)
    assert not any(path.is_symlink() for path in copy.rglob("*"))
    here = {"INTERNLM_ZOO_HOME": str(copy)}
    before = sum(world.sent.values())
    done = zoo_in("no links", *GOOD, odd=copy, **here)
    assert done.code == 0, done.err
    assert content_below(Path(done.out.strip())) == FILES
    assert sum(world.sent.values()) - before == len(FILES[WEIGHTS])
    assert zoo_in("no links", "verify", "tiny", odd=copy, **here).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["ulimit -n 30", "ulimit -n 20"])
def test_few_files_may_be_open_and_many_are_fetched(world, zoo_in, limit):
    many = {f"part-{n}.bin": random.Random(n).randbytes(200_000) for n in range(24)}
    write(world.root / REPO, many)
    world.fault("slow", "part-*", rate=2_000_000)
    try:
        done = zoo_in(Environment("few", "", before=limit), *GOOD, "--max-workers", "8")
    finally:
        for name in many:
            (world.root / REPO / name).unlink()
    assert done.code == 0, done.err
    assert content_below(Path(done.out.strip())) == FILES | many


@pytest.mark.slow
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_even_fewer_threads_are_enough(world, zoo_in, threads):
    few = Environment("few", "", f"thread@{threads}=EAGAIN")
    for args in (GOOD, ("verify", "tiny"), ("lock", "tiny"), (*GOOD, "--local-dir", world.folder / "out")):
        done = zoo_in(few, *args)
        assert done.code == 0, done.err
        assert "can't start new thread" not in done.err


def test_every_environment_has_its_test():
    """Those of homes and accounts are in test_homes.py; test_verbs.py tries all of them."""
    elsewhere = {"plain", "image layer", "read-only", "not ours", "nobody", "no threads"}
    assert {*QUICK, *WORKED_AROUND, *REFUSED, *elsewhere} == set(ENVIRONMENTS)

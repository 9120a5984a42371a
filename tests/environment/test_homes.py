"""Accounts without a home, with one that is closed or none, and what they can do all the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from internlm_zoo.errors import UsageError
from internlm_zoo.settings import Settings
from tests.environment import ENVIRONMENTS, Environment
from tests.world import FILES, World, content_below

GOOD = ("download", "tiny", "--format", "hf")
LOOKING_UP = (("list",), ("show", "tiny"), ("evals",), ("cache", "list"), ("registry", "validate"))
NOBODY = ENVIRONMENTS["nobody"]
# An account that kept somebody else's HOME, as after `su` or in an image with another USER.
STRANGER = replace(NOBODY, before=NOBODY.before.replace("unset HOME;", ""))


@pytest.fixture
def closed(world: World) -> Path:
    """A home that only its owner may enter, with everything in it that clients leave there."""
    home = world.folder / "closed"
    for folder in (".cache/huggingface/hub", ".cache/modelscope/hub", ".modelscope/credentials", ".openxlab"):
        (home / folder).mkdir(parents=True)
    (home / ".cache/huggingface/token").write_text("hf_secret")
    (home / ".openxlab/config.json").write_text('{"ak": "a", "sk": "b"}')
    home.chmod(0o700)
    return home


@pytest.mark.slow
@pytest.mark.parametrize("name", ["no home", "nobody"])
def test_without_a_home_all_that_needs_no_store_works(world, zoo_in, name):
    for args in LOOKING_UP:
        done = zoo_in(name, *args)
        assert done.code == 0, f"{args}: {done.err}"
        assert "Traceback" not in done.err
    done = zoo_in(name, *GOOD, "--local-dir", world.folder / "out")
    assert done.code == 0, done.err
    assert content_below(world.folder / "out") == FILES


@pytest.mark.slow
@pytest.mark.parametrize(
    "args",
    [
        GOOD,
        ("cache", "prune"),
        ("cache", "rm", "tiny"),
        ("verify", "tiny"),
        ("lock", "tiny"),
        ("cache", "adopt", "."),
    ],
)
def test_without_a_home_what_needs_the_store_says_so(zoo_in, args):
    done = zoo_in("no home", *args)
    assert done.code in (0, 2, 4), done.err
    assert "Traceback" not in done.err and "fault of internlm-zoo" not in done.err
    assert done.code == 0 or "fix: " in done.err, done.err


@pytest.mark.slow
@pytest.mark.parametrize("source", ["huggingface", "modelscope", "openxlab"])
def test_the_closed_homes_of_clients_are_said_and_left(world, zoo_in, closed, source):
    out = world.folder / "out"
    out.mkdir(mode=0o777)
    out.chmod(0o777)
    done = zoo_in(STRANGER, *GOOD, "--local-dir", out / source, "--source", source, HOME=str(closed))
    assert done.code == 0, done.err
    assert content_below(out / source) == FILES
    assert "cannot be looked into: Permission denied" in done.err
    assert "cannot write there" not in done.err


@pytest.mark.slow
def test_a_store_in_a_closed_home_is_left_by_a_folder_elsewhere_and_refused_by_name(world, zoo_in, closed):
    home = {"HOME": str(closed), "INTERNLM_ZOO_HOME": str(closed / "store")}
    out = world.folder / "out"
    out.mkdir()
    out.chmod(0o777)
    done = zoo_in(STRANGER, *GOOD, "--local-dir", out / "tiny", **home)
    assert done.code == 0, done.err
    assert content_below(out / "tiny") == FILES
    for args in (("list",), ("show", "tiny")):
        assert zoo_in(STRANGER, *args, **home).code == 0
    for args in (GOOD, ("cache", "list"), ("cache", "rm", "tiny"), ("verify", "tiny")):
        refused = zoo_in(STRANGER, *args, **home)
        assert refused.code in (2, 4) and str(closed / "store") in refused.err, refused.err
        assert "going on to the next source" not in refused.err and "Traceback" not in refused.err


@pytest.mark.slow
def test_a_home_that_takes_nothing_does_not_stop_a_folder_elsewhere(world, zoo_in):
    done = zoo_in("read-only and empty", *GOOD, "--local-dir", world.folder / "out")
    assert done.code == 0, done.err
    assert content_below(world.folder / "out") == FILES
    assert "could not be locked: Read-only file system" in done.err


def test_a_home_that_is_a_link_to_nowhere_or_a_file_is_named(world, zoo_in):
    for make, words in ((_dangling, "is a link that leads nowhere"), (Path.touch, "is a file")):
        make(world.home)
        done = zoo_in("plain", *GOOD)
        assert done.code == 2, done.err
        assert f"{world.home} {words}" in done.err and "fix: " in done.err
        world.home.unlink()


def _dangling(path: Path) -> None:
    path.symlink_to("/nonexistent/store")


def test_odd_names_are_names(world, zoo_in):
    home = world.folder / "a\nb 'c' 模"
    done = zoo_in("plain", *GOOD, "--json", INTERNLM_ZOO_HOME=str(home))
    assert done.code == 0, done.err
    assert any(home.glob("releases/*/*/*/config.json"))
    with pytest.raises(UsageError, match="zero byte"):
        Settings.from_environment({"INTERNLM_ZOO_HOME": "a\0b"})


def test_a_name_that_is_too_long_is_a_sentence(world, zoo_in):
    done = zoo_in("plain", *GOOD, INTERNLM_ZOO_HOME=str(world.folder / ("x" * 300)))
    assert done.code == 2, done.err
    assert "cannot write there: File name too long" in done.err


def test_an_account_is_another_one(world, zoo_in):
    """Or the tests above would show nothing."""
    who = Environment("who", "", namespaces="-m", before=NOBODY.before, through=f"{NOBODY.through} id -u #")
    assert zoo_in(who).out.strip() == "54321"

"""A second account goes on with what the first began, as far as modes allow, and says what they do not."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.environment import Environment
from tests.environment.places import COMMAND, words
from tests.environment.table import in_the_open
from tests.store.leftovers import noted
from tests.timing import PATIENCE, wait_for
from tests.world import REPO, WEIGHTS, World, open_world, write

SIZE = 6_000_000
GROUP = 54320
DOWNLOAD = ("download", "tiny", WEIGHTS, "--source", "huggingface")

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Account:
    """uid: also of its group, unless it has the shared one."""

    uid: int
    umask: str
    shared: bool = True

    def start(self, world: World, *args: str) -> subprocess.Popen[str]:
        group = GROUP if self.shared else self.uid
        through = f"setpriv --reuid={self.uid} --regid={group} --clear-groups"
        before = f"{in_the_open()}; umask {self.umask}"
        command = words(
            Environment("account", "", namespaces="-m", before=before, through=through), world.home
        )
        env = {**os.environ, **world.environ, "ODD": str(world.home), "NO_COLOR": "1"}
        return subprocess.Popen(
            [*command, sys.executable, *COMMAND, *args],
            env=env, cwd=world.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip


def first(umask: str, shared: bool = True) -> Account:
    return Account(54321, umask, shared)


def second(umask: str = "022", shared: bool = True) -> Account:
    return Account(54322, umask, shared)


@pytest.fixture
def world(everybodys: Path) -> Iterator[World]:
    with ExitStack() as stack:
        world = open_world(everybodys / "world", stack)
        write(world.root / REPO, {WEIGHTS: random.Random(8).randbytes(SIZE)})
        world.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
        hub = world.hubs["huggingface"]
        hub.fault("slow", WEIGHTS, rate=2_000_000, flows=lambda: not noted(world))
        yield world


def furnish(world: World, home: int, partial: int | None) -> None:
    """A store with folders of these modes, of the shared group."""
    for folder, mode in ((world.home, home), (world.home / "partial", partial)):
        if mode is not None:
            folder.mkdir()
            os.chown(folder, 0, GROUP)
            folder.chmod(mode)


def begin(world: World, account: Account) -> int:
    """Killed when something of the weights is noted: how much."""
    process = account.start(world, *DOWNLOAD)
    wait_for(lambda: process.poll() is not None or noted(world))
    assert process.poll() is None, process.communicate()[1]
    process.kill()
    process.communicate()
    world.hubs["huggingface"].clear()
    return noted(world)


def go_on(world: World, account: Account, code: int = 0) -> tuple[int, str]:
    """Bytes that the hub sent, and what was said."""
    before = world.sent["huggingface"]
    process = account.start(world, *DOWNLOAD)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, err
    assert "Traceback" not in err
    if code == 0:
        assert (Path(out.strip()) / WEIGHTS).read_bytes() == (world.root / REPO / WEIGHTS).read_bytes()
    return world.sent["huggingface"] - before, err


@pytest.mark.parametrize(
    ("umask", "home", "partial", "left"),
    [
        pytest.param("002", 0o2775, None, 0, id="one group"),
        pytest.param("000", 0o777, None, 0, id="open to everybody"),
        pytest.param("022", 0o777, 0o777, 0, id="files to be read only"),
        pytest.param("022", 0o777, 0o1777, 2, id="a sticky folder"),
    ],
)
def test_what_the_first_began_is_gone_on_with(
    world: World, umask: str, home: int, partial: int | None, left: int
) -> None:
    """left: files of the first account's that are not the second's to remove."""
    furnish(world, home, partial)
    kept = begin(world, first(umask))
    assert 0 < kept < SIZE
    sent, err = go_on(world, second())
    assert sent <= SIZE - kept and "waiting" not in err
    assert len(list(world.home.glob("partial/*.[pj]*"))) == left


def test_what_is_closed_to_the_second_is_left_and_said(world: World) -> None:
    furnish(world, 0o777, 0o777)
    begun = begin(world, first("077"))
    assert begun
    sent, err = go_on(world, second())
    assert sent >= SIZE
    assert f"{WEIGHTS}: another account's part of it cannot be read, and it begins anew" in err
    assert list(world.home.glob("partial/*")) == []  # of no use any more


def test_a_folder_that_is_closed_to_the_second_is_a_sentence_with_a_way_out(world: World) -> None:
    furnish(world, 0o777, None)
    begin(world, first("022"))
    _, err = go_on(world, second(), code=2)
    assert "cannot write there: Permission denied" in err and str(world.home / "partial") in err
    assert "INTERNLM_ZOO_HOME" in err

"""Two names of a release that some disks take for one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from internlm_zoo.errors import IntegrityError
from tests.environment import shim
from tests.environment.places import COMMAND
from tests.environment.table import ROOT
from tests.world import FILES, REPO, World, content_below, write

ACCENTS = {"caf\u00e9.txt": b"one character\n", "cafe\u0301.txt": b"two characters\n"}
CASES = {"README.md": b"# Tiny\n", "readme.md": b"tiny\n"}
# Stand in front of a command, with the folder and an image beside it: a disk on which case does not count.
NTFS = """
set -e; truncate -s 16M "$0.img"; mkfs.ntfs -q -F -f "$0.img" >/dev/null; mkdir -p "$0"
lowntfs-3g -o ignore_case "$0.img" "$0"; cleanup() { umount "$0"; }; trap cleanup EXIT
exec 3>&1; "$@"
"""


@pytest.fixture
def twins(world: World) -> dict[str, bytes]:
    """What the release holds then."""
    write(world.root / REPO, CASES)
    return FILES | CASES


def run(world: World, disk: Path, kind: str, *args: object) -> tuple[int, str, str]:
    """The command line, with case counting for nothing on a disk: by the shim, or by a real one."""
    command = [sys.executable, *COMMAND, *map(str, args)]
    env = {**os.environ, **world.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    if kind == "shim":
        env |= shim.folding(disk)
    else:
        command = ["unshare", "-m", "sh", "-c", NTFS, str(disk), *command]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


KINDS = [
    pytest.param("shim", marks=pytest.mark.skipif(bool(shim.why_not()), reason=shim.why_not() or "")),
    pytest.param("ntfs", marks=pytest.mark.skipif(not shutil.which("lowntfs-3g"), reason="no lowntfs-3g")),
]


def test_where_the_disk_tells_them_apart_both_come(world: World, twins: dict[str, bytes]) -> None:
    assert content_below(world.download(source="huggingface").path) == twins
    assert content_below(world.download(source="modelscope", local_dir=world.folder / "out").path) == twins
    assert not list(world.home.glob("partial/*"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_where_it_does_not_the_pair_is_named_and_one_can_be_left_out(
    world: World, twins: dict[str, bytes], kind: str
) -> None:
    disk = world.folder / "disk"
    disk.mkdir()
    sent = world.sent
    for place in ({"INTERNLM_ZOO_HOME": str(disk / "home")}, {}):
        world.environ |= place
        into = () if place else ("--local-dir", disk / "out")
        code, out, err = run(world, disk, kind, "download", "tiny", "--source", "modelscope", *into)
        assert code == 7, err
        assert "one file on this disk: 'README.md' and 'readme.md'" in err
        assert "--exclude README.md" in err
        assert world.sent == sent
    command = ("download", "tiny", "--source", "modelscope", "--exclude", "README.md", "--json")
    code, out, err = run(world, disk, kind, *command, "--local-dir", disk / "out")
    assert code == 0, err
    assert {file["path"] for file in json.loads(out)["files"]} == twins.keys() - {"README.md"}
    if kind == "shim":  # its twin, later, does not take its place
        into = ("--local-dir", disk / "out")
        assert (
            run(world, disk, kind, "download", "tiny", "README.md", "--source", "modelscope", *into)[0] == 7
        )
        assert run(world, disk, kind, *command)[0] == 0
        assert run(world, disk, kind, "download", "tiny", "README.md", "--source", "modelscope")[0] == 7
        assert run(world, disk, kind, "verify", "tiny")[0] == 0


@pytest.mark.slow
@pytest.mark.skipif(bool(shim.why_not()), reason=shim.why_not() or "")
def test_twins_by_accent_are_shown_by_their_characters(world: World, twins: dict[str, bytes]) -> None:
    write(world.root / REPO, ACCENTS)
    disk = world.folder / "disk"
    disk.mkdir()
    command = ("download", "tiny", "--source", "modelscope", "--local-dir", disk / "out")
    code, _, err = run(world, disk, "shim", *command)
    assert code == 7 and "'cafe\\u0301.txt' and 'caf\\xe9.txt', 'README.md' and 'readme.md'" in err
    assert run(world, disk, "shim", *command, "--exclude", "README.md", "--exclude", "caf\u00e9.txt")[0] == 0
    assert (disk / "out" / "cafe\u0301.txt").read_bytes() == ACCENTS["cafe\u0301.txt"]


def test_the_same_name_twice_is_still_refused(world: World) -> None:
    world.fault("evil-name", "config.json/x")
    with pytest.raises(IntegrityError):
        world.download(format="hf")


@pytest.mark.slow
@pytest.mark.skipif(bool(shim.why_not()), reason=shim.why_not() or "")
def test_a_disk_that_spells_a_file_otherwise_has_it_all_the_same(world: World) -> None:
    """A file is renamed onto another spelling, which stays: as on macOS and Windows."""
    disk = world.folder / "disk"
    (disk / "out").mkdir(parents=True)
    command = ("download", "tiny", "--source", "modelscope", "--local-dir", disk / "out")
    assert run(world, disk, "shim", *command)[0] == 0
    (disk / "out" / "config.json").rename(disk / "out" / "Config.JSON")
    code, out, err = run(world, disk, "shim", "verify", disk / "out")
    assert code == 0, out + err
    (disk / "out" / "other.JSON").write_bytes(b"x")
    assert run(world, disk, "shim", "verify", disk / "out")[0] == 1

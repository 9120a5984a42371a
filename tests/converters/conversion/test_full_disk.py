"""A disk that fills up during a conversion: exit code 8, nothing under the final name, and it goes on later.

The disk is a real one of a few megabytes, mounted in a mount namespace that goes with the test.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest

import converters
from converters.errors import NoSpaceError
from tests.converters.oracle import INTERNLM2, make_model, write_original
from tests.mounts import run_after

WAYS = {
    "hf": ["--to", "hf", "--max-shard-size", "500KB"],
    "original": ["--to", "original", "--tp", "4", "--pp", "2"],
}
COMMAND = """
import json, os, sys
from contextlib import contextmanager
from pathlib import Path

import internlm_zoo.cli.progress as shown
from internlm_zoo.cli.shell import run
from internlm_zoo.progress import Progress
import internlm_zoo.cli.checkpoints, internlm_zoo.cli.convert

disk, steps = Path(sys.argv[1]), json.loads(sys.argv[2])
ballast = disk / "ballast"

class Filling(Progress):
    left = 0
    def advance(self, task, amount, source=None):
        Filling.left -= 1
        if Filling.left == 0:
            self.fill()
    def note(self, text):
        print(text, file=sys.stderr)
    def fill(self):
        with open(ballast, "wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)): pass
            except OSError: pass

@contextmanager
def filling(console, *, quiet):
    yield Filling()

shown.open_progress = filling
for number, (fill_after, *command) in enumerate(steps):
    Filling.left = fill_after
    code = run(["convert", *command])
    names = sorted(path.name for path in disk.iterdir())
    (disk / ".." / f"{number}.json").write_text(json.dumps([code, names]))
    ballast.unlink(missing_ok=True)
    sys.stderr.write("--\\n")
if (disk / "dst").exists():
    os.execlp("cp", "cp", "-r", str(disk / "dst"), str(disk / ".." / "copy"))
"""


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def src(tmp_path_factory):
    """About 9 MB, in some tens of tensors."""
    dims = replace(INTERNLM2, layers=4, hidden=256, inter=1024, vocab=2048)
    return write_original(tmp_path_factory.mktemp("full") / "src", make_model(dims), dims, 2)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run conversions on a disk of some size, each filling it after so many blocks were written (0: never).
    Gives exit code, names left on the disk and stderr of each; the result's copy is in tmp_path / "copy"."""
    monkeypatch.setenv("INTERNLM_ZOO_HOME", str(tmp_path / "home"))

    def call(size, *steps):
        disk = tmp_path / "disk"
        disk.mkdir()
        command = [sys.executable, "-c", COMMAND, disk, json.dumps(steps)]
        done = run_after(f"-t tmpfs -o size={size} tmpfs {disk}", *command)
        errors = done.stderr.split("--\n")
        return [
            (*json.loads((tmp_path / f"{number}.json").read_text()), errors[number])
            for number in range(len(steps))
        ]

    return call


def weights(folder):
    return sum(path.stat().st_size for path in folder.glob("model*") if "config" not in path.name)


@pytest.mark.parametrize("way", WAYS)
def test_filled_in_the_middle_it_exits_with_8_and_goes_on_where_it_stopped(tmp_path, zoo, run, src, way):
    """The disk holds the result once, so that what is written already must not be asked for again."""
    command = [str(src), str(tmp_path / "disk" / "dst"), *WAYS[way], "--workers", "1"]
    assert zoo("convert", src, tmp_path / "wanted", *WAYS[way])[0] == 0
    wanted = content(tmp_path / "wanted")
    size = int(weights(tmp_path / "wanted") * 1.2)
    (code, names, err), (again, left, later) = run(size, (8, *command), (0, *command))
    assert code == NoSpaceError.exit_code == 8, err
    assert names == [".dst.converting", "ballast"]
    assert "the disk is full" in err and "goes on where it stopped" in err
    assert (again, left) == (0, ["dst"])
    assert content(tmp_path / "copy") == wanted
    assert needed(later) < needed(err)


def test_what_a_run_with_other_options_left_is_not_in_the_way(tmp_path, run, src):
    """It is removed first, so that its space counts as free."""
    converters.convert(src, tmp_path / "wanted", to="hf")
    size = int(weights(tmp_path / "wanted") * 1.2)
    command = [str(src), str(tmp_path / "disk" / "dst"), "--to", "hf", "--workers", "1", "--max-shard-size"]
    (code, *_), (again, left, _) = run(size, (30, *command, "500KB"), (0, *command, "5GB"))
    assert (code, again, left) == (8, 0, ["dst"])
    assert content(tmp_path / "copy") == content(tmp_path / "wanted")


def needed(stderr):
    (line,) = [line for line in stderr.splitlines() if line.startswith("needs ")]
    number, unit = line.split(";")[0].split()[1:]
    assert line.endswith(" are free")
    return float(number) * {"kB": 1e3, "MB": 1e6}[unit]


def test_too_small_a_disk_is_refused_before_anything_is_written(run, src, tmp_path):
    command = [str(src), str(tmp_path / "disk" / "dst"), "--to", "hf"]
    ((code, names, err),) = run(4 << 20, (0, *command))
    assert code == 8
    assert names == []
    assert "bytes are needed and" in err


def test_a_sentence_says_what_is_needed_and_what_is_free(zoo, src, tmp_path):
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "hf")
    assert code == 0
    assert needed(err) == pytest.approx(weights(tmp_path / "dst"), rel=0.01)
    assert "needs" not in zoo("convert", src, tmp_path / "quiet", "--to", "hf", "-q")[2]
    assert converters.fingerprint(tmp_path / "dst") == converters.fingerprint(src)

"""How a result takes the place of what was there: old or new under the name at any moment, or a refusal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

import converters
from converters.errors import UsageError
from tests.converters.oracle import INTERNLM2, make_model, write_original
from tests.mounts import run_after

CHILD = """
import os, signal, sys
import converters
import converters.sinks.staging as staging

src, dst, left, exchanges = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "exchange"
if not exchanges:
    staging.exchange = lambda one, other: False

def watch(event, args):
    # Removing its bookkeeping is the first step of publishing.
    global left
    if event in ("os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
        left -= left < STEPS or ".converting" in str(args[0]) and event == "os.remove"
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

STEPS = left
sys.addaudithook(watch)
converters.convert(src, dst, to="hf", force=True, evidence=False, workers=1)
"""


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("INTERNLM_ZOO_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def src(tmp_path_factory):
    return write_original(tmp_path_factory.mktemp("publishing") / "src", make_model(INTERNLM2), INTERNLM2)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory, src):
    dst = tmp_path_factory.mktemp("wanted") / "dst"
    converters.convert(src, dst, to="hf", evidence=False)
    return content(dst)


OLD = {"model.safetensors": b"what was there", "notes": b"of a person"}


def fill(folder):
    folder.mkdir(parents=True)
    for name, data in OLD.items():
        (folder / name).write_bytes(data)
    return folder


def convert_killed_at(step, src, dst, how):
    """False if it was over before that step of publishing."""
    command = [sys.executable, "-c", CHILD, str(src), str(dst), str(step), how]
    code = subprocess.run(command).returncode
    assert code in (0, -signal.SIGKILL)
    return code != 0


def kills(tmp_path, src, how):
    """The target after a kill at each step of publishing."""
    for step in range(1, 100):
        dst = fill(tmp_path / str(step) / "dst")
        if not convert_killed_at(step, src, dst, how):
            assert step > 5
            return
        yield dst


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="the system cannot exchange two names")
def test_killed_at_any_step_of_publishing_old_or_new_is_there_whole_and_a_rerun_cleans_up(
    tmp_path, src, wanted
):
    found = []
    for dst in kills(tmp_path, src, "exchange"):
        assert content(dst) in (OLD, wanted)
        found.append(content(dst) == wanted)
        if found[-1]:
            assert converters.convert(src, dst, to="hf", evidence=False).unchanged
            assert [path.name for path in dst.parent.iterdir()] == ["dst"]
        converters.convert(src, dst, to="hf", evidence=False, force=True)
        assert content(dst) == wanted
        assert [path.name for path in dst.parent.iterdir()] == ["dst"]
    assert found == sorted(found) and set(found) == {False, True}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.slow
def test_where_names_cannot_be_exchanged_what_was_there_comes_back(tmp_path, src, wanted):
    """Between two renames the name is free; the next run, whatever it is asked, puts the old one back."""
    gaps = 0
    for dst in kills(tmp_path, src, "rename"):
        gaps += not dst.exists()
        before = wanted if dst.exists() and content(dst) == wanted else OLD
        if before is wanted:
            assert converters.convert(src, dst, to="hf", evidence=False).unchanged
            assert [path.name for path in dst.parent.iterdir()] == ["dst"]
        else:
            with pytest.raises(UsageError):
                converters.convert(src, dst, to="hf", evidence=False)
        assert content(dst) == before
        converters.convert(src, dst, to="hf", evidence=False, force=True)
        assert content(dst) == wanted
        assert [path.name for path in dst.parent.iterdir()] == ["dst"]
    assert gaps == 1


@pytest.mark.parametrize("kind", ["empty", "file"])
def test_an_empty_directory_or_with_force_a_file_is_replaced_too(tmp_path, src, wanted, kind):
    dst = tmp_path / "dst"
    dst.mkdir() if kind == "empty" else dst.write_bytes(b"a file")
    converters.convert(src, dst, to="hf", evidence=False, force=kind == "file")
    assert content(dst) == wanted
    assert [path.name for path in tmp_path.iterdir()] == ["dst"]


def test_what_a_system_left_in_a_target_is_no_content_and_stays(tmp_path, src, wanted):
    dst, left = tmp_path / "dst", {".DS_Store": b"icons", "Thumbs.db": b"pictures"}
    (dst / ".Trash-1000" / "files").mkdir(parents=True)
    (dst / ".Trash-1000" / "files" / "thesis.pdf").write_bytes(b"deleted by mistake")
    for name, data in left.items():
        (dst / name).write_bytes(data)
    converters.convert(src, dst, to="hf", evidence=False)
    assert (dst / ".Trash-1000" / "files" / "thesis.pdf").read_bytes() == b"deleted by mistake"
    assert {path.name: path.read_bytes() for path in dst.iterdir() if path.is_file()} == wanted | left
    assert [path.name for path in tmp_path.iterdir()] == ["dst"]
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_bytes(b"mine")
    with pytest.raises(UsageError, match="not empty"):
        converters.convert(src, tmp_path / "used", to="hf", evidence=False)


MAIN = "import sys; from internlm_zoo.cli import main; sys.exit(main())"


@pytest.mark.parametrize("mount", ["-t tmpfs tmpfs {dst}", "--bind {other} {dst}"], ids=["tmpfs", "bind"])
def test_a_mount_point_is_refused_before_any_work(tmp_path, src, mount):
    dst, other = tmp_path / "dst", fill(tmp_path / "other")
    dst.mkdir()
    command = [sys.executable, "-c", MAIN, "convert", src, dst, "--to", "hf", "--force"]
    done = run_after(mount.format(dst=dst, other=other), *command)
    assert done.returncode == 2
    assert "mount point" in done.stderr and "a directory in it" in done.stderr
    assert "needs" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dst", "other"]
    assert content(other) == OLD
    inside = [*command[:5], dst / "in", "--to", "hf"]
    assert run_after(mount.format(dst=dst, other=other), *inside).returncode == 0


def test_a_place_that_cannot_be_written_to_is_refused_before_any_work(tmp_path, src):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [sys.executable, "-c", MAIN, "convert", src, disk / "dst", "--to", "hf"]
    done = run_after(f"-t tmpfs -o ro tmpfs {disk}", *command)
    assert done.returncode == 2
    assert f"{disk} cannot be written to ({disk / 'dst'})" in done.stderr
    assert "needs" not in done.stderr


def test_a_target_below_a_file_is_refused(tmp_path, src):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file is not a directory"):
        converters.convert(src, tmp_path / "file" / "dst", to="hf")


def test_a_directory_that_an_overlay_cannot_rename_stays_and_the_result_is_kept(tmp_path, src, wanted):
    """What an image's lower layer holds gives EXDEV, and only then."""
    fill(tmp_path / "lower" / "dst")
    for name in ("upper", "work", "over"):
        (tmp_path / name).mkdir()
    layers = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work,redirect_dir=off"
    mount = f"-t overlay overlay -o {layers} {tmp_path}/over"
    if run_after(mount, "true").returncode:
        pytest.skip("needs the right to mount an overlay")
    dst = tmp_path / "over" / "dst"
    command = [sys.executable, "-c", MAIN, "convert", src, dst, "--to", "hf", "--force", "--no-evidence"]
    done = run_after(mount, *command)
    assert done.returncode == 2
    assert f"{dst.with_name('.dst.converting')}, to be moved by hand" in done.stderr
    assert content(tmp_path / "upper" / ".dst.converting") == wanted
    assert content(tmp_path / "lower" / "dst") == OLD

"""--engine ray on a cluster of two nodes: the bytes of --engine threads, whatever becomes of its workers."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import converters
from converters.errors import PartlyDoneError, UnsupportedError, UsageError
from tests.converters.engines.writers import SHARDS, Kills, Waiters, Writers, content
from tests.converters.oracle import INTERNLM2, make_model, write_original

pytest.importorskip("ray", reason="the [ray] extra has no wheel for this Python or system")

GRID = {"to": "original", "tp": 4, "pp": 2}
NOBODY = "127.0.0.1:9"  # the discard port


@pytest.mark.slow
@pytest.mark.parametrize("way", [SHARDS, GRID], ids=["hf", "original"])
@pytest.mark.parametrize("evidence", [True, False], ids=["evidence", "no evidence"])
def test_it_writes_what_threads_write(tmp_path, on_cluster, src, way, evidence):
    converters.convert(src, tmp_path / "threads", **way, evidence=evidence)
    converters.convert(src, tmp_path / "ray", **way, evidence=evidence, engine="ray")
    assert content(tmp_path / "ray") == content(tmp_path / "threads")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ray", "threads"]


@pytest.mark.slow
def test_all_nodes_write(tmp_path, on_cluster, src):
    with Writers(on_cluster, Waiters(2)) as writers:
        converters.convert(src, tmp_path / "ray", **SHARDS, engine="ray")
    assert writers.seen == writers.raylets


@pytest.mark.slow
def test_the_file_of_a_killed_worker_is_done_again(tmp_path, on_cluster, src):
    converters.convert(src, tmp_path / "threads", **SHARDS)
    for _ in range(5):  # workers may be too quick to be killed
        kills = Kills(2)
        shutil.rmtree(tmp_path / "ray", ignore_errors=True)
        with Writers(on_cluster, kills):
            done = command_line(src, tmp_path / "ray")
        if kills.left < 2:
            break
    assert kills.left < 2
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'ray'}\n")
    assert done.stderr.count("WorkerCrashedError; it is written again") == 2 - kills.left
    assert content(tmp_path / "ray") == content(tmp_path / "threads")


@pytest.mark.slow  # a file so large that no killing comes too late
def test_a_file_whose_workers_are_killed_again_and_again_is_given_up(tmp_path, on_cluster):
    dims = replace(INTERNLM2, layers=1, hidden=1024, inter=1024, vocab=1 << 16)
    src = write_original(tmp_path / "src", make_model(dims), dims)
    kills = Kills(100)
    with Writers(on_cluster, kills), pytest.raises(PartlyDoneError, match="lost 4 times") as caught:
        converters.convert(src, tmp_path / "ray", to="hf", engine="ray")
    assert kills.left == 96
    assert caught.value.exit_code == 3
    left = [path.name for path in (tmp_path / ".ray.converting").iterdir()]
    assert sorted(left) == ["config.json", "generation_config.json", "identity", "journal"]
    assert not (tmp_path / "ray").exists()
    converters.convert(src, tmp_path / "ray", to="hf", engine="ray")
    assert converters.compare(src, tmp_path / "ray").same


CHILD = """
import os, signal, sys
import converters
from converters.progress import NullProgress

class DiesAfterSomeFiles(NullProgress):
    left = 5
    def advance(self, task, amount):
        self.left -= 1
        if not self.left: os.kill(os.getpid(), signal.SIGKILL)

converters.convert(sys.argv[1], sys.argv[2], **eval(sys.argv[3]), engine="ray", progress=DiesAfterSomeFiles())
"""


@pytest.mark.slow
def test_a_killed_conversion_goes_on_with_the_files_that_were_not_whole(tmp_path, on_cluster, src):
    converters.convert(src, tmp_path / "threads", **SHARDS)
    dst = tmp_path / "ray"
    command = [sys.executable, "-c", CHILD, str(src), str(dst), repr(SHARDS)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    report = converters.convert(src, dst, **SHARDS, engine="ray")
    assert len(report.kept) == 5
    assert content(dst) == content(tmp_path / "threads")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ray", "threads"]


@pytest.mark.slow
def test_what_threads_left_behind_is_not_taken_for_whole_files(tmp_path, on_cluster, src):
    converters.convert(src, tmp_path / "threads", **SHARDS)
    dst = tmp_path / "ray"
    threads = CHILD.replace('engine="ray"', "workers=1").replace("left = 5", "left = 30")
    command = [sys.executable, "-c", threads, str(src), str(dst), repr(SHARDS)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert converters.convert(src, dst, **SHARDS, engine="ray").kept == ()
    assert content(dst) == content(tmp_path / "threads")


@pytest.mark.slow
def test_an_error_on_a_node_is_the_error_that_threads_raise(tmp_path, on_cluster):
    dims = replace(INTERNLM2, dtype="float32")
    model = make_model(dims)
    model["model.norm.weight"] = np.full_like(model["model.norm.weight"], 0x7F000000)  # about 1.7e38
    src = write_original(tmp_path / "src", model, dims)
    found = []
    for engine in ("threads", "ray"):
        with pytest.raises(UnsupportedError) as caught:
            converters.convert(src, tmp_path / "dst", to="hf", dtype="float16", engine=engine)
        found.append((type(caught.value), caught.value.what, caught.value.where, caught.value.exit_code))
    assert found[0] == found[1]


def command_line(src, dst):
    main = "import sys; from internlm_zoo.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", main, "convert", str(src), str(dst), "--to", "hf"]
    return subprocess.run(
        [*command, "--max-shard-size", "2MB", "--engine", "ray"], capture_output=True, text=True
    )


@pytest.mark.slow
def test_on_the_command_line_ray_is_not_heard(tmp_path, on_cluster, src):
    done = command_line(src, tmp_path / "dst")
    assert done.returncode == 0
    assert done.stdout == f"{tmp_path / 'dst'}\n"
    assert "tensors as in the source" in done.stderr
    assert [line for line in done.stderr.splitlines() if "ray" in line.lower()] == []


def test_where_no_cluster_answers_it_says_how_to_start_one(tmp_path, src, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", NOBODY)
    done = command_line(src, tmp_path / "dst")
    assert done.returncode == UsageError.exit_code
    assert NOBODY in done.stderr and "ray start --head" in done.stderr
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())


def test_without_ray_only_its_engine_is_missing(tmp_path, src):
    code = """
import sys
sys.modules["ray"] = None
import converters
converters.convert(sys.argv[1], sys.argv[2], to="hf")
try:
    converters.convert(sys.argv[1], sys.argv[2] + "2", to="hf", engine="ray")
except converters.errors.UnsupportedError as error:
    print(error.fix)
"""
    command = [sys.executable, "-c", code, str(src), str(tmp_path / "dst")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "pip install 'internlm-zoo[ray]'\n"

"""--engine ray on a cluster of two nodes: the bytes of --engine threads, whatever becomes of its workers."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import psutil
import pytest

import converters
from converters.errors import PartlyDoneError, UnsupportedError, UsageError
from tests.converters.mounts import mounted
from tests.converters.oracle import INTERNLM2, make_model, write_original

ray = pytest.importorskip("ray", reason="the [ray] extra has no wheel for this Python or system")
from ray.cluster_utils import Cluster  # noqa: E402

SHARDS = {"to": "hf", "max_shard_size": "2MB"}
GRID = {"to": "original", "tp": 4, "pp": 2}
NOBODY = "127.0.0.1:9"  # the discard port


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with a processor each, that are two raylets of this machine."""
    quiet = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=quiet)
    cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    cluster.wait_for_nodes()
    yield cluster
    logs = cluster.head_node.get_session_dir_path()
    cluster.shutdown()
    shutil.rmtree(logs)


@pytest.fixture
def on_cluster(cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    return cluster


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("INTERNLM_ZOO_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def src(tmp_path_factory):
    """About 40 MB, in some tens of tensors."""
    dims = replace(INTERNLM2, layers=4, hidden=512, inter=2048, vocab=4096)
    return write_original(tmp_path_factory.mktemp("ray") / "src", make_model(dims), dims, 2)


class Writers:
    """While it is open, looks for processes of the cluster that are writing a file of a conversion, and calls
    `found` with each; keeps which raylets they belong to."""

    def __init__(self, cluster, found=lambda process: None):
        self.raylets = {node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()}
        self.seen = set()
        self._found = found
        self._thread = threading.Thread(target=self._look)
        self._over = threading.Event()

    def _look(self):
        while not self._over.is_set():
            for raylet in self.raylets:
                with suppress(psutil.Error):  # a process that has just ended
                    for process in psutil.Process(raylet).children():
                        if writes(process):
                            self.seen.add(raylet)
                            self._found(process)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._over.set()
        self._thread.join()


def writes(process):
    with suppress(psutil.Error):
        return any(file.path.endswith(".safetensors") for file in process.open_files())
    return False


class Kills:
    """Kills processes in the middle of a file, as many as there are to kill."""

    def __init__(self, left):
        self.left = left
        self._killed = set()

    def __call__(self, process):
        process.suspend()
        if self.left and process.pid not in self._killed and writes(process):
            self._killed.add(process.pid)
            self.left -= 1
            process.kill()
        process.resume()


class Waiters:
    """Stops a process that writes until processes of as many nodes do."""

    def __init__(self, nodes):
        self._nodes = nodes
        self._stopped = {}

    def __call__(self, process):
        if len(self._stopped) < self._nodes and process.ppid() not in self._stopped:
            process.suspend()
            self._stopped[process.ppid()] = process
            if len(self._stopped) == self._nodes:
                for stopped in self._stopped.values():
                    stopped.resume()


class Loses:
    """Kills a node in the middle of a file; until it has one, who writes elsewhere is stopped."""

    def __init__(self, raylet):
        self.done = False
        self._raylet = psutil.Process(raylet)
        self._stopped = []

    def __call__(self, process):
        if self.done:
            return
        process.suspend()
        self._stopped.append(process)
        if process.ppid() == self._raylet.pid:
            self.done = True
            self._raylet.kill()
            self._stopped.pop().kill()
            for stopped in self._stopped:
                stopped.resume()


@pytest.mark.parametrize("way", [SHARDS, GRID], ids=["hf", "original"])
@pytest.mark.parametrize("evidence", [True, False], ids=["evidence", "no evidence"])
def test_it_writes_what_threads_write(tmp_path, on_cluster, src, way, evidence):
    converters.convert(src, tmp_path / "threads", **way, evidence=evidence)
    converters.convert(src, tmp_path / "ray", **way, evidence=evidence, engine="ray")
    assert content(tmp_path / "ray") == content(tmp_path / "threads")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ray", "threads"]


def test_all_nodes_write(tmp_path, on_cluster, src):
    with Writers(on_cluster, Waiters(2)) as writers:
        converters.convert(src, tmp_path / "ray", **SHARDS, engine="ray")
    assert writers.seen == writers.raylets


def test_the_file_of_a_killed_worker_is_done_again(tmp_path, on_cluster, src):
    converters.convert(src, tmp_path / "threads", **SHARDS)
    kills = Kills(2)
    with Writers(on_cluster, kills):
        done = command_line(src, tmp_path / "ray")
    assert kills.left == 0
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'ray'}\n")
    assert done.stderr.count("WorkerCrashedError; it is written again") == 2
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
    assert sorted(left) == ["config.json", "identity", "journal"]
    assert not (tmp_path / "ray").exists()
    converters.convert(src, tmp_path / "ray", to="hf", engine="ray")
    assert converters.compare(src, tmp_path / "ray").same


CHILD = """
import os, signal, sys
import converters
from converters.progress import Silence

class DiesAfterSomeFiles(Silence):
    left = 5
    def advance(self, task, amount):
        self.left -= 1
        if not self.left: os.kill(os.getpid(), signal.SIGKILL)

converters.convert(sys.argv[1], sys.argv[2], **eval(sys.argv[3]), engine="ray", progress=DiesAfterSomeFiles())
"""


def test_a_killed_conversion_goes_on_with_the_files_that_were_not_whole(tmp_path, on_cluster, src):
    converters.convert(src, tmp_path / "threads", **SHARDS)
    dst = tmp_path / "ray"
    command = [sys.executable, "-c", CHILD, str(src), str(dst), repr(SHARDS)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    report = converters.convert(src, dst, **SHARDS, engine="ray")
    assert len(report.kept) == 5
    assert content(dst) == content(tmp_path / "threads")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ray", "threads"]


def test_what_threads_left_behind_is_not_taken_for_whole_files(tmp_path, on_cluster, src):
    converters.convert(src, tmp_path / "threads", **SHARDS)
    dst = tmp_path / "ray"
    threads = CHILD.replace('engine="ray"', "workers=1").replace("left = 5", "left = 30")
    command = [sys.executable, "-c", threads, str(src), str(dst), repr(SHARDS)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert converters.convert(src, dst, **SHARDS, engine="ray").kept == ()
    assert content(dst) == content(tmp_path / "threads")


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


@pytest.mark.slow  # Ray takes its time to give a node up
def test_the_files_of_a_lost_node_are_done_again_elsewhere(tmp_path, on_cluster, src):
    converters.convert(src, tmp_path / "threads", **SHARDS)
    node = on_cluster.add_node(num_cpus=2, object_store_memory=80 << 20)
    lose = Loses(node.all_processes["raylet"][0].process.pid)
    with Writers(on_cluster, lose):
        converters.convert(src, tmp_path / "ray", **SHARDS, engine="ray")
    on_cluster.remove_node(node)
    assert lose.done
    assert content(tmp_path / "ray") == content(tmp_path / "threads")


def wait_for(nodes):
    until = time.monotonic() + 60
    while sum(node["Alive"] for node in ray.nodes()) != nodes:
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.fixture
def strange_node(on_cluster):
    """Adds a node that sees something else where a file system is mounted for it."""
    ray.init(address=on_cluster.address, log_to_driver=False)
    nodes = len(on_cluster.list_all_nodes())
    started = []

    def add(mount):
        options = ["--address", on_cluster.address, "--num-cpus=8", "--object-store-memory=80000000"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *options]
        started.append(subprocess.Popen([*mounted(mount), *command], stdout=subprocess.DEVNULL))
        wait_for(nodes + 1)

    yield add
    for process in started:
        process.terminate()
        process.wait(60)
    wait_for(nodes)
    ray.shutdown()


@pytest.mark.slow
def test_a_node_that_sees_other_files_is_named(tmp_path, strange_node, src):
    strange_node(f"-t tmpfs tmpfs {tmp_path}")
    with pytest.raises(UsageError, match="does not see the same files"):
        converters.convert(src, tmp_path / "dst", **SHARDS, engine="ray")
    assert not (tmp_path / "dst").exists()


@pytest.mark.slow
def test_a_node_without_the_package_is_told_what_to_install(tmp_path, strange_node, src):
    strange_node(f"-t tmpfs tmpfs {Path(converters.__file__).parent}")
    with pytest.raises(UsageError, match="a node cannot do the work") as caught:
        converters.convert(src, tmp_path / "dst", **SHARDS, engine="ray")
    assert "No module named 'converters" in caught.value.what
    assert f"pip install 'internlm-zoo[ray]=={metadata.version('internlm-zoo')}'" in caught.value.fix


@pytest.mark.slow
def test_a_node_with_another_version_is_named(tmp_path, strange_node, src):
    version = metadata.version("internlm-zoo")
    installed = Path(str(metadata.distribution("internlm-zoo").locate_file("")))
    other = tmp_path / "other"
    other.mkdir()
    (other / "METADATA").write_text("Name: internlm-zoo\nVersion: 0.0.1\n")
    strange_node(f"--bind {other} {installed / f'internlm_zoo-{version}.dist-info'}")
    with pytest.raises(UsageError, match=rf"has internlm-zoo 0\.0\.1, not {version}"):
        converters.convert(src, tmp_path / "dst", **SHARDS, engine="ray")

"""--engine ray where a node goes, or should not have come: lost, without the package, with other files."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

import converters
from converters.errors import UsageError
from tests.converters.engines.writers import SHARDS, Loses, Writers, content
from tests.mounts import mounted
from tests.timing import PATIENCE

ray = pytest.importorskip("ray", reason="the [ray] extra has no wheel for this Python or system")
pytestmark = pytest.mark.slow  # Ray takes its time to take a node in and to give it up


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


def occupy(processors):
    """Tasks that come later find no room on the nodes that are there now."""

    class Occupant:
        def ready(self):
            return True

    occupants = [ray.remote(num_cpus=1)(Occupant).remote() for _ in range(processors)]
    assert all(ray.get([occupant.ready.remote() for occupant in occupants]))
    return occupants


@pytest.fixture
def strange_node(on_cluster):
    """Adds a node that sees something else where a file system is mounted for it, and that gets the work."""
    ray.init(address=on_cluster.address, log_to_driver=False)
    nodes = len(on_cluster.list_all_nodes())
    occupants = occupy(nodes)
    started = []

    def add(*mounts):
        options = ["--address", on_cluster.address, "--num-cpus=8", "--object-store-memory=80000000"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *options]
        inside = [word for mount in mounts for word in mounted(mount)]
        started.append(subprocess.Popen([*inside, *command], stdout=subprocess.DEVNULL))
        wait_for(nodes + 1)

    yield add
    for process in started:
        process.terminate()
        process.wait(PATIENCE)
    wait_for(nodes)
    for occupant in occupants:
        ray.kill(occupant)
    ray.shutdown()


def test_a_node_that_sees_other_files_is_named(tmp_path, strange_node, src):
    strange_node(f"-t tmpfs tmpfs {tmp_path}")
    with pytest.raises(UsageError, match="does not see the same files"):
        converters.convert(src, tmp_path / "dst", **SHARDS, engine="ray")
    assert not (tmp_path / "dst").exists()


def test_a_node_without_the_package_is_told_what_to_install(tmp_path, strange_node, src):
    places = {
        Path(entry).resolve() / "converters" for entry in sys.path
    }  # a checkout, and one that is installed
    strange_node(*(f"-t tmpfs tmpfs {place}" for place in places if place.is_dir()))
    with pytest.raises(UsageError, match="a node cannot do the work") as caught:
        converters.convert(src, tmp_path / "dst", **SHARDS, engine="ray")
    assert "No module named 'converters" in caught.value.what
    assert f"pip install 'internlm-zoo[ray]=={metadata.version('internlm-zoo')}'" in caught.value.fix


def test_a_node_with_another_version_is_named(tmp_path, strange_node, src):
    version = metadata.version("internlm-zoo")
    installed = Path(str(metadata.distribution("internlm-zoo").locate_file("")))
    other = tmp_path / "other"
    other.mkdir()
    (other / "METADATA").write_text("Name: internlm-zoo\nVersion: 0.0.1\n")
    strange_node(f"--bind {other} {installed / f'internlm_zoo-{version}.dist-info'}")
    with pytest.raises(UsageError, match=rf"has internlm-zoo 0\.0\.1, not {version}"):
        converters.convert(src, tmp_path / "dst", **SHARDS, engine="ray")

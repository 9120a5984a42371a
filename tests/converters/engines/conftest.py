"""A cluster of two nodes, and a checkpoint to convert on it."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from tests.converters.oracle import INTERNLM2, make_model, write_original


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with a processor each, that are two raylets of this machine."""
    from ray.cluster_utils import Cluster

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

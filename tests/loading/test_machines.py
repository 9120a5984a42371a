"""Ranks on several machines, two launchers here, and what is left of them when one ends or is silent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.loading.demo import MODELS
from tests.loading.launched import Ended, free_port, run_ranks

pytestmark = pytest.mark.slow
CHAT = MODELS[1]


def launched(*directories: Path) -> list[Ended]:
    """torchrun on as many machines, each with a directory of its own for the model."""
    rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(len(directories))]
    launcher += ["--nproc-per-node", "1", *rendezvous, "--rdzv-id", "zoo", "--local-addr", "127.0.0.1"]
    env = {**os.environ, "PYTHONPATH": os.getcwd(), "INTERNLM_ZOO_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def machine(directory: Path) -> Ended:
        asked = ["generate", str(directory), "-p", "Where is the library?", "--dtype", "float32"]
        asked += ["--devices", "cpu", "--parallel", "tensor"]
        command = [*launcher, "-m", "internlm_zoo", *asked]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        return Ended(done.returncode, done.stdout, done.stderr)

    with ThreadPoolExecutor(len(directories)) as pool:
        return list(pool.map(machine, directories))


def test_two_machines_with_files_of_their_own_say_what_one_process_says(zoo, directories):
    asked = ("generate", directories[CHAT, "hf"], "-p", "Where is the library?", "--dtype", "float32")
    code, wanted, err = zoo(*asked, "--devices", "cpu")
    assert code == 0, err
    ended = launched(directories[CHAT, "hf"], directories[CHAT, "original tp2 pp2"])
    assert [one.code for one in ended] == [0, 0], ended[0].err + ended[1].err
    assert sorted(one.out for one in ended) == ["", wanted], "the first rank alone answers"


@pytest.mark.parametrize("how", ["ends while it writes", "is silent while it loads"])
def test_where_a_rank_ends_or_is_silent_the_others_say_so_and_end(directories, tmp_path, how):
    asked = {"home": str(tmp_path), "model": str(directories[CHAT, "llama"]), "as": CHAT, "how": how}
    first, second = run_ranks(2, [sys.executable, "-m", "tests.loading.lost_rank", json.dumps(asked)])
    assert second.code == 9
    assert first.code == 0, first.err
    said, code, way_out = json.loads(first.out)
    assert said.startswith("another of the 2 ranks has ended, or does not answer: ")
    assert code == 5 and way_out == "see what that rank says, and start all of them again"

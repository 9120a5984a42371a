"""A server that may open few files: its clients wait, and get everything."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time

import pytest

from internlm_zoo.serve.app import environment
from tests.environment import ENVIRONMENTS, run_in, words
from tests.environment.places import COMMAND
from tests.environment.table import ROOT
from tests.world import FILES, OVERLAY, REPO, content_below, write

MANY = {f"part-{n}.bin": random.Random(n).randbytes(300_000) for n in range(40)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["few files", "few threads", "no home"])
def test_a_server_with_little_serves_all(tmp_path, name):
    write(tmp_path / "hub" / REPO, FILES | MANY)
    (tmp_path / "overlay.yaml").write_text(OVERLAY)
    user = {"HOME": str(tmp_path), "INTERNLM_ZOO_HOME": str(tmp_path / "store")}
    environ = {**os.environ, **user, "PYTHONPATH": str(ROOT), "ODD": str(tmp_path / "odd")}
    serve = [
        *words(ENVIRONMENTS[name], tmp_path / "odd"),
        sys.executable,
        *COMMAND,
        "serve",
        tmp_path / "hub",
    ]
    log = tmp_path / "log"
    with log.open("w") as out:
        server = subprocess.Popen([*serve, "--port", "0"], env=environ, stdout=out, stderr=out)
    try:
        while not (found := re.search(r"at (http://[0-9.:]+);", log.read_text())):
            assert server.poll() is None, log.read_text()
            time.sleep(0.05)
        user |= environment(found[1]) | {"INTERNLM_ZOO_REGISTRY": str(tmp_path / "overlay.yaml")}
        get = ("download", "tiny", "--format", "hf", "--max-workers", "16", "--local-dir", tmp_path / "out")
        done = run_in(ENVIRONMENTS["plain"], get, user, tmp_path / "store")
    finally:
        server.terminate()
        server.wait()
    assert done.code == 0, done.err
    assert content_below(tmp_path / "out") == FILES | MANY
    assert "Error handling request" not in log.read_text()

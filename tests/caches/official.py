"""Fills the caches of the hubs' own, unmodified clients, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.timing import PATIENCE
from tests.world import REPO, World

HF, MS = "huggingface", "modelscope"
_CALLS = {
    HF: "from huggingface_hub import snapshot_download as get; print(get({repo!r}, **{options!r}))",
    MS: "from modelscope import snapshot_download as get; print(get({repo!r}, **{options!r}))",
}


def cached(world: World, hub: str, repo: str = REPO, /, **options: object) -> str:
    """What the client of a hub answers to `snapshot_download`: the folder of the release in its cache."""
    return python(world, _CALLS[hub].format(repo=repo, options=options))


def python(world: World, program: str, interpreter: str = sys.executable, **more: str) -> str:
    """What a program prints last, in the user's environment. more: variables besides."""
    hidden = ("HF_", "HUGGINGFACE_", "MODELSCOPE_", "XDG_", "INTERNLM_", "HTTP", "http", "ALL_", "all_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    quiet = {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    done = subprocess.run(
        [interpreter, "-c", program],
        env=env | quiet | world.environ | more,
        cwd=world.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]

"""The command line as a process of its own, to be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.world import World

COMMAND = """
import sys
import internlm_zoo.cli.catalogue, internlm_zoo.cli.download
from internlm_zoo.cli.shell import run
sys.exit(run(sys.argv[1:]))
"""


def start(world: World, *args: str, before: str = "") -> subprocess.Popen[str]:
    """before: what the process does first, in Python."""
    command = [sys.executable, "-c", before + COMMAND, *args]
    env = {**os.environ, **world.environ}
    return subprocess.Popen(
        command,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=None if os.name == "nt" else interruptible,
    )


def interruptible() -> None:
    """A test run in the background of a shell ignores Ctrl-C, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

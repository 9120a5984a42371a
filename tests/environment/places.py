"""Runs the command line in one of the environments.

done = run_in(ENVIRONMENTS["read-only"], ["verify", "tiny"], world.environ, odd=world.home)
done.code, done.out, done.err
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.environment import shim, warm
from tests.environment.table import ROOT, Environment

COMMAND = ("-c", "from internlm_zoo.cli import main; main()")


@dataclass(frozen=True)
class Done:
    """What a command came to. code: its exit code, negative for a signal."""

    code: int
    out: str
    err: str


def run_in(environment: Environment, args: Sequence[object], environ: Mapping[str, str], odd: Path) -> Done:
    """Run the command line there, in a process of its own; skips the test where that is not to be had.

    environ: on top of the process's own. odd: the folder that is odd.
    """
    before = words(environment, odd)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "ODD": str(odd), **environ}
    if environment.strikes_late and shim.why_not() is None:
        return Done(*warm.run([*map(str, args)], env | shim.preloaded(environment.faults, odd), odd.parent))
    command = [*before, sys.executable, *COMMAND, *map(str, args)]
    done = subprocess.run(command, env=env, cwd=odd.parent, capture_output=True, text=True, errors="replace")
    return Done(done.returncode, done.stdout, done.stderr)


def words(environment: Environment, odd: Path) -> list[str]:
    """What stands before a command that is to run there, with $ODD in its environment."""
    if reason := environment.why_not:
        pytest.skip(f"{environment.name}: {reason}")
    preloaded = shim.preloaded(environment.faults, odd) if environment.faults else {}
    spelt = " ".join(f"{name}='{value}'" for name, value in preloaded.items())
    script = f'{{ {environment.before}; }} && exec {environment.through} env {spelt} "$@"'
    namespaces = ["unshare", *environment.namespaces.split()] if environment.namespaces else []
    return [*namespaces, "sh", "-c", script, "sh"]


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every account may enter and write to."""
    folder = Path(tempfile.mkdtemp(prefix="everybodys-"))
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)

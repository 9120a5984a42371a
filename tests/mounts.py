"""Child processes that see a file system mounted for them alone; the mount goes when they end."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache

import pytest

NAMESPACES = (["unshare", "-m"], ["unshare", "-rm"])
SCRIPT = 'mount $1 && shift && exec "$@"'


def mounted(mount):
    """The words before a command that runs after `mount`; skips the test where nobody may mount."""
    namespace = _namespace()
    if namespace is None:
        pytest.skip("needs the right to mount a file system: root, or user namespaces")
    return [*namespace, "sh", "-c", SCRIPT, "sh", mount]


def run_after(mount, *command):
    return subprocess.run([*mounted(mount), *command], capture_output=True, text=True)


@cache
def _namespace():
    for command in NAMESPACES if shutil.which("unshare") else ():
        trial = [*command, "sh", "-c", SCRIPT, "sh", "-t tmpfs tmpfs /mnt", "true"]
        if subprocess.run(trial, capture_output=True).returncode == 0:
            return command
    return None

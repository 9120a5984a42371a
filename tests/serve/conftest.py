"""Runs the official packages, unmodified, each in a process and a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from internlm_zoo.serve.app import environment
from tests.conftest import OFFICIAL_CALL
from tests.timing import PATIENCE

CLIENTS = Path(__file__).parent / "clients"
_HUBS = ("HF_", "HUGGINGFACE_", "MODELSCOPE_", "OPENXLAB_", "OPENMIND_")
_HIDDEN = (*_HUBS, "XDG_", "HTTP", "http", "ALL_PROXY", "all_proxy")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path, hub: Any) -> Run:
    """Run a program of an official package against the module's hub."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(_HIDDEN)}
    env |= environment(hub.url)
    env |= {
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "MODELSCOPE_CACHE": str(tmp_path / "ms"),
        "PYTHONIOENCODING": "utf-8",
    }

    def run(*argv: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        command = [str(part) for part in argv]
        return subprocess.run(
            command, env=env | more, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE
        )

    return run


@pytest.fixture
def calls(run: Run, record_property: Callable[[str, object], None]) -> Callable[..., dict[str, Any]]:
    """Run one of the programs in `clients`, return what became of each call, and count them."""

    def calls(
        package: str, program: str, asked: Mapping[str, object], python: str = sys.executable, **more: str
    ) -> dict[str, Any]:
        done = run(python, CLIENTS / program, json.dumps(asked), **more)
        assert done.returncode == 0, done.stderr
        made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        for _ in made:
            record_property(OFFICIAL_CALL, package)
        return made

    return calls

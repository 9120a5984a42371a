"""Environments of their own for packages that do not fit beside ours, below .cache/venvs."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".cache" / "venvs"
_PIP = ("-m", "pip", "-qq", "--disable-pip-version-check", "--no-input", "install")


def python_of(
    name: str, requirements: Sequence[str], made_from: str = "", interpreter: Path | None = None
) -> Path:
    """The Python of an environment that has these packages; made if it is not there or was made from others.

    requirements: as pip takes them. made_from: whatever else decides what is in it. interpreter: another
    Python than this one.
    Raises subprocess.CalledProcessError, with pip's words as its stderr, if they do not install.
    """
    home = HOME / name
    home.parent.mkdir(parents=True, exist_ok=True)
    python = home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    parts = (str(interpreter or sys.version), *requirements, made_from)
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    stamp = home / "made-from"
    with FileLock(f"{home}.lock"):
        if not stamp.exists() or stamp.read_text() != key:
            shutil.rmtree(home, ignore_errors=True)
            subprocess.run([interpreter or sys.executable, "-m", "venv", home], check=True)
            subprocess.run([python, *_PIP, *requirements], check=True, capture_output=True, text=True)
            stamp.write_text(key)
    return python

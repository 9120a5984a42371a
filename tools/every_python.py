"""Runs the suites of the command line and of the Python API on every other Python that this machine has.

From the oldest that pyproject.toml declares on: those on the PATH, and pyenv's. Each gets an environment with
the light core; tests that need torch are skipped there. A Python that is not here is named.

    python tools/every_python.py [pytest options]

Exits with 1 if a suite fails on one of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.venvs import python_of  # noqa: E402

VERSIONS = tuple(f"3.{minor}" for minor in range(10, 15))
SUITES = ("tests/cli", "tests/registry", "tests/api/test_api.py", "tests/api/test_download.py")


def main(options: Sequence[str]) -> int:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = {version: interpreter(version) for version in VERSIONS if version != here}
    missing = [version for version, python in found.items() if python is None]
    if missing:
        print(f"not on this machine, so not tried: Python {', '.join(missing)}", flush=True)
    failed = [version for version, python in found.items() if python and not passes(version, python, options)]
    if failed:
        print(f"failed on Python {', '.join(failed)}")
    return 1 if failed else 0


def interpreter(version: str) -> Path | None:
    """The first that starts: a shim of pyenv may stand for a version that is not selected."""
    return next((path for path in _candidates(version) if _starts(path, version)), None)


def _candidates(version: str) -> Iterator[Path]:
    if on_path := shutil.which(f"python{version}"):
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True)


def _starts(path: Path, version: str) -> bool:
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    asked = subprocess.run([path, "-c", code], capture_output=True, text=True)
    return asked.returncode == 0 and asked.stdout.strip() == version


def passes(version: str, interpreter: Path, options: Sequence[str]) -> bool:
    print(f"-- Python {version}", flush=True)
    made_from = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    try:
        python = python_of(f"python{version}", ("--editable", f"{ROOT}[dev]"), made_from, interpreter)
    except subprocess.CalledProcessError as error:
        print(error.stderr)
        return False
    command = [python, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-m", "not slow"]
    return subprocess.run([*command, *options, *SUITES], cwd=ROOT).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

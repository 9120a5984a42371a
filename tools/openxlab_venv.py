"""Creates the environment in which the official openxlab package lives, and prints its Python.

The package pins setuptools, rich, requests, filelock, tqdm and packaging to old versions, so it cannot
share the environment that has torch. `make openxlab` and the tests call this; it does nothing when the
environment is there and was made from the same pyproject.toml by the same Python.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".cache" / "venvs" / "openxlab"


def main() -> int:
    HOME.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{HOME}.lock"):
        stamp = HOME / "made-from"
        if not stamp.exists() or stamp.read_text() != _key():
            _create()
            stamp.write_text(_key())
    print(_python())
    return 0


def _key() -> str:
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes())
    digest.update(sys.version.encode())
    return digest.hexdigest()


def _create() -> None:
    shutil.rmtree(HOME, ignore_errors=True)
    venv.create(HOME, with_pip=True)
    pip = [str(_python()), "-m", "pip", "-qq", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*pip, "install", "--editable", f"{ROOT}[openxlab]"], check=True, stdout=sys.stderr)


def _python() -> Path:
    return HOME / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


if __name__ == "__main__":
    sys.exit(main())

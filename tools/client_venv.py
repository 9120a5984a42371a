"""Creates an environment in which one official client lives, and prints its Python.

    python tools/client_venv.py openxlab

Such packages ask for exact versions of others, so they cannot share the environment that has torch: openxlab
of setuptools, rich, requests, filelock, tqdm and packaging, openmind-hub of requests. `make clients` and the
tests call this; it does nothing when the environment is there and was made from the same by the same Python.
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
HOMES = ROOT / ".cache" / "venvs"
# What pip is asked for. openxlab is an extra of ours, so this also shows that it fits beside the light core.
PACKAGES = {"openxlab": ("--editable", f"{ROOT}[openxlab]"), "modelers": ("openmind-hub>=1.3",)}


def main(name: str) -> int:
    home = HOMES / name
    HOMES.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{home}.lock"):
        stamp = home / "made-from"
        if not stamp.exists() or stamp.read_text() != _key(name):
            _create(home, PACKAGES[name])
            stamp.write_text(_key(name))
    print(python_of(name))
    return 0


def python_of(name: str) -> Path:
    return HOMES / name / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _key(name: str) -> str:
    is_ours = PACKAGES[name][0] == "--editable"
    made_from = (ROOT / "pyproject.toml").read_bytes() if is_ours else " ".join(PACKAGES[name]).encode()
    return hashlib.sha256(made_from + sys.version.encode()).hexdigest()


def _create(home: Path, packages: tuple[str, ...]) -> None:
    shutil.rmtree(home, ignore_errors=True)
    venv.create(home, with_pip=True)
    pip = [str(python_of(home.name)), "-m", "pip", "-qq", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*pip, "install", *packages], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

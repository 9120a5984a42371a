"""Creates an environment in which one official client lives, and prints its Python.

    python tools/client_venv.py openxlab

Such packages ask for exact versions of others, so they cannot share the environment that has torch: openxlab
of setuptools, rich, requests, filelock, tqdm and packaging, openmind-hub of requests. `make clients` and the
tests call this; it does nothing when the environment is there and was made from the same by the same Python.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What pip is asked for. openxlab is an extra of ours, so this also shows that it fits beside the light core.
PACKAGES = {"openxlab": ("--editable", f"{ROOT}[openxlab]"), "modelers": ("openmind-hub>=1.3",)}


def main(name: str) -> int:
    sys.path.insert(0, str(ROOT))
    from tools.venvs import python_of

    is_ours = PACKAGES[name][0] == "--editable"
    made_from = (ROOT / "pyproject.toml").read_text(encoding="utf-8") if is_ours else ""
    try:
        print(python_of(name, PACKAGES[name], made_from))
    except subprocess.CalledProcessError as error:
        print(error.stderr, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

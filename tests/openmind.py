"""Leads the unmodified openmind_hub to hubs on this machine, by nothing but the environment any user has.

It speaks https, and only to hosts whose names end like modelers.cn: so the hubs have a certificate for such a
name, and a proxy leads there.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.hubs.authority import MODELERS, Authority
from tests.net.proxy import Proxy

TOOLS = Path(__file__).parents[1] / "tools"


def client_python(name: str) -> str:
    """The Python of the environment that one official client has to itself."""
    if name == "modelers" and sys.version_info >= (3, 14):
        pytest.skip("openmind-hub has no release for this Python")
    made = subprocess.run([sys.executable, TOOLS / "client_venv.py", name], capture_output=True, text=True)
    assert made.returncode == 0, f"the environment for the {name} client could not be made: {made.stderr}"
    return made.stdout.strip()


def named(url: str) -> str:
    """A hub's URL as the client takes it."""
    return url.replace("127.0.0.1", MODELERS)


@contextmanager
def leading_to(url: str, authority: Authority, folder: Path) -> Iterator[dict[str, str]]:
    """folder: where the client may write."""
    with Proxy() as proxy:
        yield {
            "OPENMIND_HUB_ENDPOINT": named(url),
            "HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}",
            "NO_PROXY": "",
            "no_proxy": "",
            "REQUESTS_CA_BUNDLE": str(authority.pem),
            "OM_HUB_DISABLE_PROGRESS_BARS": "1",
            "HUB_WHITE_LIST_PATHS": str(folder),
        }

"""YAML that users and others write: registry files, locks, the description of a mirror."""

from __future__ import annotations

from pathlib import Path

from internlm_zoo.mirror.reading import read_mirror_file
from internlm_zoo.registry import lock
from internlm_zoo.registry.load import read_registry
from internlm_zoo.registry.lock import Lock
from internlm_zoo.settings import Settings
from tests.fuzz.contract import Reader
from tests.fuzz.readers.files import in_file
from tests.fuzz.readers.store import RELEASE

OVERLAY = b"""
hubs:
  lab: {title: Lab, protocol: web, endpoint: "http://127.0.0.1:9"}
models:
  demo-internlm2-chat:
    release_date: 2024-01-17
    releases:
    - {hub: lab, repo: demo, format: hf}
"""
MIRROR = b"destination: ./mirror\nmodels: [demo-*]\nformats: [original]\nprune: true\nmax_delete: 10%\n"


def _mirror_file(path: Path) -> object:
    return read_mirror_file(path, read_registry(), Settings(home=path.parent))


READERS = {
    "overlay": Reader(in_file("overlay.yaml", read_registry), lambda: [OVERLAY]),
    "lock": Reader(in_file("registry.lock", lock.read), lambda: [lock.dump(Lock((RELEASE,))).encode()]),
    "mirror-file": Reader(in_file("mirror.yaml", _mirror_file), lambda: [MIRROR]),
}

"""What the store, the transfer and a mirror wrote down, and read again after who knows what."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from internlm_zoo.mirror import index as mirror_index
from internlm_zoo.registry.lock import LockedFile, LockedRelease
from internlm_zoo.serve.index import read_index
from internlm_zoo.store.ledger import Ledger
from internlm_zoo.store.record import Record, read_record
from tests.fuzz.contract import Reader
from tests.fuzz.readers.files import in_file

FILE = LockedFile("config.json", 2, "a" * 64)
RELEASE = LockedRelease("huggingface", "org/name", "0" * 40, None, "hf", "hub", (FILE,))
MIRRORED = {
    "path": "org/name",
    "model": "demo",
    "format": "hf",
    "revision": "0" * 40,
    "source": {"hub": "huggingface", "repo": "org/name", "revision": "0" * 40},
    "trust": "hub",
    "names": [{"hub": "huggingface", "repo": "org/name"}],
    "files": [{"path": "config.json", "size": 2, "sha256": "a" * 64, "git_sha1": None, "stamp": "1"}],
}
INDEX = {"schema": 1, "releases": [MIRRORED]}
LEDGER = {
    "path": "x",
    "size": 1,
    "mtime_ns": 1,
    "ctime_ns": 1,
    "inode": 1,
    "sha256": "a" * 64,
    "git_sha1": None,
}


def _ledger(path: Path) -> object:
    return Ledger(path.parent, keep=False).remembered(path)


def _json(value: object) -> Callable[[], list[bytes]]:
    return lambda: [json.dumps(value).encode()]


def _served(path: Path) -> object:
    return read_index(path.parent)


READERS = {
    "release": Reader(
        in_file(".internlm-zoo/release.json", lambda path: read_record(path.parents[1])),
        _json(asdict(Record("demo", RELEASE, total=1, checked={"config.json": 1}))),
        is_json=True,
    ),
    "ledger": Reader(in_file("adopted.jsonl", _ledger), lambda: [json.dumps(LEDGER).encode() + b"\n"]),
    "mirror-index": Reader(lambda data: mirror_index.parse(data, "mirror.json"), _json(INDEX), is_json=True),
    "served-index": Reader(in_file("mirror.json", _served), _json(INDEX), is_json=True),
}

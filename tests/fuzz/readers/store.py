"""What the store, the transfer and a mirror wrote down, and read again after who knows what."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from converters.formats.folder import LocalFolder
from converters.locking.holder import decoded, encoded, this_process
from converters.record.expected import expected
from converters.sinks.journal import Journal
from internlm_zoo.files import Digests, File
from internlm_zoo.fs.ownership import Owner
from internlm_zoo.registry.lock import LockedRelease
from internlm_zoo.store.aliases import remembered
from internlm_zoo.store.block_digests import read_blocks
from internlm_zoo.store.hash_cache import HashCache
from internlm_zoo.store.layout import Store
from internlm_zoo.store.mirror_index import read_index
from internlm_zoo.store.record import read_record
from internlm_zoo.store.smoke_record import is_current, read_smoke
from internlm_zoo.transfer import journal
from internlm_zoo.transfer.blocks import BLOCK
from tests.fuzz.contract import Reader
from tests.fuzz.readers.files import in_file

DIGEST = "a" * 64
FILE = File("config.json", 2, Digests(DIGEST))
RELEASE = LockedRelease("huggingface", "org/name", "0" * 40, None, "hf", "hub", (FILE,))
LOCKED = {**vars(RELEASE), "files": [FILE.facts]}
MIRRORED = {
    "path": "org/name",
    "model": "demo",
    "format": "hf",
    "revision": "0" * 40,
    "source": {"hub": "huggingface", "repo": "org/name", "revision": "0" * 40},
    "trust": "hub",
    "names": [{"hub": "huggingface", "repo": "org/name"}],
    "files": [{"path": "config.json", "size": 2, "sha256": DIGEST, "git_sha1": None, "stamp": "1"}],
}
INDEX = {"schema": 1, "releases": [MIRRORED]}
_ENTRY = json.dumps(
    {"schema": 1, "batch": 0, "crcs": {"model_tp0_pp0.pt": {"output.weight": 7}}, "digests": {"head": "ab"}}
).encode()
JOURNAL = _ENTRY + b" %08x\n" % zlib.crc32(_ENTRY)
RECORD = {
    "schema": 1,
    "target": {"files": [{"name": "model.safetensors", "size": 8}], "other_files": [], "digests": {}},
    "fingerprint": {"tensors": {"norm.weight": "ab"}},
}
BLOCKS = {
    "schema": 1,
    "block": 1 << 23,
    "blake3": ["a" * 64, "b" * 64],
    "check": blake3(("a" * 64 + "b" * 64).encode()).hexdigest(),
}
DOWNLOADED = [
    json.dumps(line).encode() + b"\n"
    for line in (
        {"schema": 2, "block": BLOCK, "wanted": File("config.json", 64, Digests(DIGEST)).facts},
        {"door": "hub", "etag": '"x"'},
        {"block": 0, "filled": 64, "blake3": "b" * 64, "authors": ["hub"]},
    )
]
TESTED = {
    "schema": 1,
    "model": "demo",
    "outcome": "passed",
    "sentence": "it speaks",
    "checks": [{"name": "tokens", "outcome": "passed"}],
    "when": "2026-11-28T00:00:00+00:00",
    "tool": "0.2.0",
    "files": {"model.safetensors": {"size": 8, "mtime_ns": 1}},
    "fingerprint": "ab",
    "given": {"rope_theta": 10000},
    "weights": None,
}
LEDGER = {
    "schema": 1,
    "path": "x",
    "size": 1,
    "mtime_ns": 1,
    "ctime_ns": 1,
    "inode": 1,
    "sha256": DIGEST,
    "git_sha1": None,
}


def _ledger(path: Path) -> object:
    return HashCache(path.parent, keep=False).remembered(path)


def _json(value: object) -> Callable[[], list[bytes]]:
    return lambda: [json.dumps(value).encode()]


def _mirrored(path: Path) -> object:
    return read_index(path.parent)


def _digests(path: Path) -> object:
    return read_blocks(Store(path.parents[2]), DIGEST)


def _conversion(path: Path) -> object:
    with Journal(path) as journal:
        return journal.entries


def _downloaded(path: Path) -> object:
    """What a killed download left; its part has the bytes that the journal speaks of."""
    path.with_suffix(".part").write_bytes(bytes(64))
    with Owner(path.parent) as owner:
        begun = journal.Journal(File("config.json", 64, Digests(DIGEST)), BLOCK)
        return journal.claim(owner, path.parent, "aa", begun).journal


def _alias(path: Path) -> object:
    return remembered(path.parents[1], "a" * 40)


def _tested(folder: Path) -> object:
    record = read_smoke(folder)
    return record and is_current(folder, record)


def _recorded(path: Path) -> object:
    return expected(LocalFolder(path.parent))


READERS = {
    "release": Reader(
        in_file(".internlm-zoo/release.json", lambda path: read_record(path.parents[1])),
        _json({"model": "demo", "release": LOCKED, "total": 1, "checked": {"config.json": 1}, "version": 1}),
        is_json=True,
    ),
    "smoke": Reader(
        in_file(".internlm-zoo/smoke.json", lambda path: _tested(path.parents[1])),
        _json(TESTED),
        is_json=True,
    ),
    "ledger": Reader(in_file("adopted.jsonl", _ledger), lambda: [json.dumps(LEDGER).encode() + b"\n"]),
    "block-digests": Reader(in_file(f"blocks/aa/{DIGEST}.json", _digests), _json(BLOCKS), is_json=True),
    "download-journal": Reader(in_file("aa.free-00.journal", _downloaded), lambda: [b"".join(DOWNLOADED)]),
    "alias": Reader(in_file(f"aa/{'a' * 40}.{DIGEST}", _alias), lambda: [b"1 huggingface"]),
    "conversion-journal": Reader(in_file("journal", _conversion), lambda: [JOURNAL]),
    "conversion-record": Reader(in_file("conversion.json", _recorded), _json(RECORD), is_json=True),
    "holder": Reader(decoded, lambda: [encoded(this_process(0))], is_json=True),
    "mirror-index": Reader(in_file("mirror.json", _mirrored), _json(INDEX), is_json=True),
}

"""Content digests of served files: computed once per file state, remembered in memory.

A file's state is its device, inode, size and times of change, of which nobody can set back the second.
Hugging Face lists a large file by its sha256 and the git blob sha1 of its LFS pointer, a small one by its own
git blob sha1 (format facts: git hash-object, the git-lfs pointer specification v1).
"""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import Future
from pathlib import Path, PurePosixPath

LFS_THRESHOLD = 10 * 1024 * 1024
# fmt: off
LFS_SUFFIXES = frozenset({
    ".7z", ".bin", ".bz2", ".ckpt", ".gguf", ".gz", ".h5", ".jpeg", ".jpg", ".model", ".msgpack", ".npy",
    ".npz", ".onnx", ".ot", ".parquet", ".pb", ".pickle", ".pkl",
    ".png", ".pt", ".pth", ".rar", ".safetensors",
    ".tar", ".tflite", ".tgz", ".wasm", ".xz", ".zip", ".zst",
})
# fmt: on
_CHUNK = 1024 * 1024


def is_lfs(path: str, size: int) -> bool:
    """Whether a hub keeps this file in LFS: large, or binary by its name."""
    return size > LFS_THRESHOLD or PurePosixPath(path).suffix.lower() in LFS_SUFFIXES


def lfs_pointer(sha256: str, size: int) -> bytes:
    """The small text that git holds in place of an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def git_blob_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class DigestCache:
    """Digests by file state; two requests for the same new file hash it once. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[object, ...], Future[str]] = {}

    def sha256(self, file: Path, stat: os.stat_result) -> str:
        return self._once("sha256", file, stat)

    def git_sha1(self, file: Path, stat: os.stat_result) -> str:
        return self._once("git", file, stat)

    def _once(self, kind: str, file: Path, stat: os.stat_result) -> str:
        key = (kind, stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        with self._lock:
            found = self._known.get(key)
            if found is None:
                mine = self._known[key] = Future()
        if found is not None:
            return found.result()
        try:
            mine.set_result(_hash(kind, file, stat.st_size))
        except OSError as error:
            with self._lock:
                del self._known[key]
            mine.set_exception(error)
        return mine.result()


def _hash(kind: str, file: Path, size: int) -> str:
    digest = hashlib.sha1(b"blob %d\0" % size) if kind == "git" else hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()

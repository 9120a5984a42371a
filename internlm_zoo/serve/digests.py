"""Which digests hubs list of a file, and what git holds of it.

Hugging Face lists a large file by its sha256 and the git blob sha1 of its LFS pointer, a small one by its own
git blob sha1 (format facts: git hash-object, the git-lfs pointer specification v1).
"""

from __future__ import annotations

from pathlib import PurePosixPath

from internlm_zoo.files import ALGORITHMS

LFS_THRESHOLD = 10 * 1024 * 1024  # larger ones the Hub takes by LFS alone
# fmt: off
LFS_SUFFIXES = frozenset({
    ".7z", ".bin", ".bz2", ".ckpt", ".gguf", ".gz", ".h5", ".jpeg", ".jpg", ".model", ".msgpack", ".npy",
    ".npz", ".onnx", ".ot", ".parquet", ".pb", ".pickle", ".pkl",
    ".png", ".pt", ".pth", ".rar", ".safetensors",
    ".tar", ".tflite", ".tgz", ".wasm", ".xz", ".zip", ".zst",
})
# fmt: on


def is_lfs(path: str, size: int) -> bool:
    """Whether a hub keeps this file in LFS: large, or binary by its name."""
    return size > LFS_THRESHOLD or PurePosixPath(path).suffix.lower() in LFS_SUFFIXES


def lfs_pointer(sha256: str, size: int) -> bytes:
    """The small text that git holds in place of an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def git_blob_sha1(content: bytes) -> str:
    hash = ALGORITHMS["git_sha1"].begin(len(content))
    hash.update(content)
    return hash.hexdigest()

"""What every rank reads of checkpoints of which nothing is cached, to the logits of one forward pass.

    python -m tests.loading.cold_shares '[["NAME", PP, ["FOLDER OF RANK 0", "FOLDER OF RANK 1"]], ...]'

The page cache belongs to all processes of a machine, so every rank has a copy of the files: pages of it that
are cached in the end (mincore(2)) are those that this rank had the system fetch. Each rank prints a line of
JSON for each checkpoint.
"""

from __future__ import annotations

import ctypes
import gc
import json
import mmap
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.loading.launched import run_ranks

ROWS, COLUMNS, WHOLE = "row shards", "column shards", "whole"
PAGE = mmap.PAGESIZE


@dataclass(frozen=True)
class Share:
    """In bytes. held: what this rank has, by how it is cut. fetched: pages of tensors that are cut so. total:
    all pages of the files. asked: read by system calls, and pages of mapped files that it looked at. warm:
    what stayed cached before it began, where a file system does not let go of it."""

    name: str
    held: Mapping[str, int]
    fetched: Mapping[str, int]
    total: int
    asked: int
    warm: int


def measured(cases: list[tuple[str, int, list[Path]]]) -> dict[str, list[Share]]:
    """Name -> shares of all ranks. cases: name, stages, a copy of the checkpoint for each rank."""
    (count,) = {len(folders) for _, _, folders in cases}
    told = json.dumps([(name, pp, [str(folder) for folder in folders]) for name, pp, folders in cases])
    ended = run_ranks(count, [sys.executable, "-m", __name__, told])
    if any(one.code for one in ended):
        raise RuntimeError(next(one.err for one in ended if one.code))
    each = [[Share(**json.loads(line)) for line in one.out.splitlines()] for one in ended]
    return {shares[0].name: list(shares) for shares in zip(*each, strict=True)}


def main(told: str) -> None:
    import torch
    import torch.distributed as dist

    from internlm_zoo.settings import Settings

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), offline=True)
        cases = json.loads(told)
        _share("imports", Path(cases[0][2][rank]), cases[0][1], settings)  # is not asked of the checkpoint
        for name, pp, folders in cases:
            gc.collect()  # maps no files any more
            print(json.dumps(asdict(_share(name, Path(folders[rank]), pp, settings))), flush=True)
    dist.destroy_process_group()


def _share(name: str, folder: Path, pp: int, settings: Any) -> Share:
    import torch

    import internlm_zoo as zoo

    files = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".pt"))
    warm = sum(_forgotten(file) for file in files)
    before = _asked()
    model, _ = zoo.load(folder, parallel="tensor", pp=pp, settings=settings)
    asked = _asked() - before
    with torch.no_grad():
        model(torch.arange(1, 9)[None])
    held = Counter[str]()
    for key, parameter in model.named_parameters():
        held[_cut(key)] += getattr(parameter, "_local_tensor", parameter).nbytes
    fetched, total = _fetched(folder, files)
    return Share(name, dict(held), dict(fetched), total, asked + _looked_at(folder), warm)


def _cut(name: str) -> str:
    """By the name that Llama or the table of logical tensors has for it."""
    if "norm" in name or name.startswith("score") or name.endswith(("o_proj.bias", "o.bias")):
        return WHOLE
    rows = ("o_proj.weight", "down_proj.weight", ".o.weight", "down.weight")
    return ROWS if name.endswith(rows) else COLUMNS


def _fetched(folder: Path, files: list[Path]) -> tuple[Counter[str], int]:
    cached = {file.name: _cached(file) for file in files}
    found = Counter[str]()
    for file, kind, first, last in _extents(folder):
        found[kind] += PAGE * int(cached[file][-(-first // PAGE) : -(-last // PAGE)].sum())
    return found, PAGE * sum(int(pages.sum()) for pages in cached.values())


def _extents(folder: Path) -> Iterator[tuple[str, str, int, int]]:
    """File, kind, first byte and end of every stored tensor."""
    import converters
    from converters.formats.tensors import ELEMENT_TYPES
    from converters.geometry.pieces import extent_of

    places: dict[tuple[str, str, str], tuple[int, int]] = {}
    for name, tensor in converters.open_checkpoint(folder).tensors.items():
        for piece in (*tensor.pieces, *tensor.replicas):
            offset, length, _ = extent_of(piece, piece.box, ELEMENT_TYPES[tensor.dtype].itemsize)
            key = Path(piece.file).name, _cut(name), piece.tensor
            first, last = places.get(key, (offset, offset + length))
            places[key] = min(first, offset), max(last, offset + length)
    for (file, kind, _), (first, last) in places.items():
        yield file, kind, first, last


def _forgotten(path: Path) -> int:
    """Have the system drop what it caches of a file, posix_fadvise(2); bytes that it keeps nevertheless."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return PAGE * int(_cached(path).sum())


def _cached(path: Path) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """For each page of a file, whether it is in the page cache: mincore(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    size = path.stat().st_size
    found = np.zeros(-(-size // PAGE), np.uint8)
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) as memory:
        view = (ctypes.c_char * size).from_buffer(memory)
        start, out = ctypes.c_void_p(ctypes.addressof(view)), found.ctypes.data_as(ctypes.c_void_p)
        failed = libc.mincore(start, ctypes.c_size_t(size), out)
        del view
    if failed:
        raise OSError(ctypes.get_errno(), "mincore")
    return (found & 1).astype(bool)


def _asked() -> int:
    """proc_pid_io(5): rchar."""
    return int(Path("/proc/self/io").read_text().split()[1])


def _looked_at(folder: Path) -> int:
    """Bytes of the folder's files that are mapped, and were looked at: Rss of proc_pid_smaps(5)."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line.split(None, 1)[0].endswith(":"):
            ours = line.endswith((".safetensors", ".pt")) and str(folder) in line
        elif ours and line.startswith("Rss:"):
            total += 1024 * int(line.split()[1])
    return total


if __name__ == "__main__":
    main(sys.argv[1])

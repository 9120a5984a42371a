"""Same input, same options: the same bytes, whatever the workers, the place and the day."""

from __future__ import annotations

import os

import pytest

import converters
from tests.converters.oracle import BOTH, Variant, make_model, write_hf, write_original

FAMILY = pytest.mark.parametrize("dims", BOTH, ids=lambda dims: dims.family)
WAYS = pytest.mark.parametrize(
    "way",
    [
        {"to": "hf", "max_shard_size": "10KB"},
        {"to": "llama"},
        {"to": "original", "tp": 4, "pp": 3},
    ],
    ids=lambda way: way["to"],
)


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@FAMILY
@WAYS
def test_any_number_of_workers_writes_the_same_bytes(tmp_path, dims, way):
    src = write_original(tmp_path / "src", make_model(dims), dims, 2, (1, 2), Variant(adapt_hf=False))
    for workers in (1, 2, 7, None):
        converters.convert(src, tmp_path / f"dst{workers}", workers=workers, **way)
    first = content(tmp_path / "dst1")
    assert len(first) > 1
    for workers in (2, 7, None):
        assert content(tmp_path / f"dst{workers}") == first


@FAMILY
@WAYS
def test_no_trace_of_place_or_time_is_written(tmp_path, dims, way):
    one = write_hf(tmp_path / "src", make_model(dims), dims)
    (tmp_path / "there").mkdir()
    other = write_hf(tmp_path / "there" / "another", make_model(dims), dims)
    for path in other.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    converters.convert(one, tmp_path / "one", **way)
    converters.convert(other, tmp_path / "two", **way)
    assert content(tmp_path / "one") == content(tmp_path / "two")

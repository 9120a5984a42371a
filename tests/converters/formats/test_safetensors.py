"""safetensors files against the safetensors library, and headers made to deceive."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters.errors import IntegrityError, UnsupportedError, UsageError
from converters.formats import safetensors as ours
from converters.formats.tensors import ELEMENT_TYPES, TensorSpec, nbytes
from tests.converters.formats.filling import fill

theirs = pytest.importorskip("safetensors")

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=10).filter(
    lambda name: name != "__metadata__"
)
TENSORS = st.dictionaries(
    NAMES,
    st.tuples(st.sampled_from(list(ELEMENT_TYPES)), st.lists(st.integers(0, 5), max_size=4).map(tuple)),
    max_size=8,
)
QUICK = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def contents(tensors):
    return {
        name: bytes((i * 7 + len(name)) % 251 for i in range(nbytes(*kind))) for name, kind in tensors.items()
    }


def serialize(tensors, data, metadata=None):
    """What the library writes for the same tensors."""
    buffers = {name: np.frombuffer(data[name] or b"-", np.uint8) for name in tensors}
    specs = {
        name: theirs.TensorSpec(
            dtype=ELEMENT_TYPES[dtype].torch,
            shape=shape,
            data_ptr=buffers[name].ctypes.data,
            data_len=len(data[name]),
        )
        for name, (dtype, shape) in tensors.items()
    }
    return bytes(theirs.serialize(specs, metadata=metadata))


@QUICK
@given(TENSORS)
def test_written_bytes_equal_the_librarys(tensors):
    data = contents(tensors)
    written = fill(ours.layout([TensorSpec(name, *kind) for name, kind in tensors.items()]), data)
    assert written == serialize(tensors, data, {"format": "pt"})


@QUICK
@given(TENSORS)
def test_what_the_library_writes_is_located(tmp_path, tensors):
    data = contents(tensors)
    content = serialize(tensors, data)
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    index = ours.read_index(path)
    assert {n: (t.dtype, t.shape) for n, t in index.tensors.items()} == tensors
    for name, stored in index.tensors.items():
        assert content[stored.offset : stored.offset + stored.nbytes] == data[name]


def header(fields, body=b"", **raw):
    text = raw.get("text", json.dumps(fields).encode())
    return raw.get("length", len(text)).to_bytes(8, "little") + text + body


def one(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}}


TWO = {"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}

HOSTILE = {
    "shorter than a header": b"\x05\x00",
    "header longer than the file": header({}, length=1000),
    "header of 2^63 bytes": header({}, length=2**63),
    "not JSON": header({}, text=b"{nope}"),
    "a list": header({}, text=b"[1]"),
    "leading space": header({}, text=b" {}"),
    "bytes that are no text": header({}, text=b'{"\xff":1}'),
    "a lone surrogate": header({}, text=b'{"\\ud800":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}', body=b"1"),  # noqa: E501
    "nested beyond reason": header({}, text=b'{"a":' * 100000),
    "a number without end": header({}, text=b'{"a":' + b"1" * 100000 + b"}"),
    "a key twice": header({}, text=b'{"w":{"dtype":"U8","shape":[],"data_offsets":[0,0]},"w":1}'),
    "a field twice": header({}, text=b'{"w":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
    "metadata that is no text": header({"__metadata__": {"a": 1}}),
    "a tensor that is a number": header({"w": 3}),
    "a missing field": header({"w": {"dtype": "U8", "shape": [1]}}, b"1"),
    "an extra field": header(one(more=1), bytes(8)),
    "a shape of floats": header(one(shape=[2.0]), bytes(8)),
    "a shape of booleans": header(one(shape=[True], offsets=[0, 4]), bytes(4)),
    "a negative shape": header(one(shape=[-2]), bytes(8)),
    "a shape beyond 64 bits": header(one(shape=[2**70]), bytes(8)),
    "three offsets": header(one(offsets=[0, 8, 8]), bytes(8)),
    "offsets backwards": header(one(offsets=[8, 0]), bytes(8)),
    "wrong size for the shape": header(one(offsets=[0, 4]), bytes(4)),
    "a hole at the start": header(one(offsets=[4, 12]), bytes(12)),
    "a hole between": header(TWO | {"b": {"dtype": "U8", "shape": [2], "data_offsets": [5, 7]}}, bytes(7)),
    "an overlap": header(TWO | {"b": {"dtype": "U8", "shape": [2], "data_offsets": [3, 5]}}, bytes(5)),
    "the same bytes twice": header(TWO | {"b": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}, bytes(4)),  # noqa: E501
    "bytes after the last tensor": header(one(), bytes(9)),
    "bytes missing": header(one(), bytes(7)),
    "an offset far outside": header(one(offsets=[2**60, 2**60 + 8]), bytes(8)),
    "an LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "a web page": b"<!doctype html><title>Sign in</title>",
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_header_is_refused(tmp_path, name):
    path = tmp_path / "model.safetensors"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(IntegrityError) as caught:
        ours.read_index(path)
    assert caught.value.where == str(path)


def test_the_benign_form_of_these_headers_is_read(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(header({"__metadata__": {"format": "pt"}} | one(), bytes(8)))
    index = ours.read_index(path)
    assert index.metadata == {"format": "pt"} and index.tensors["w"].shape == (2,)


def test_element_type_of_part_bytes_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(header(one("F4", (16,)), bytes(8)))
    with pytest.raises(UnsupportedError, match="F4"):
        ours.read_index(path)


def test_every_truncation_is_an_integrity_error(tmp_path):
    specs = [TensorSpec("a", "BF16", (5, 3)), TensorSpec("b", "F32", (2,))]
    whole = fill(ours.layout(specs), {"a": bytes(30), "b": bytes(8)})
    path = tmp_path / "cut.safetensors"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(IntegrityError):
            ours.read_index(path)


def test_name_used_twice_or_reserved_is_refused():
    for names in (["a", "a"], ["__metadata__"]):
        with pytest.raises(UsageError):
            ours.layout([TensorSpec(name, "U8", (1,)) for name in names])

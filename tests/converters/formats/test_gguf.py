"""GGUF headers against the gguf package's own writer, and headers made to deceive."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from converters.errors import IntegrityError, UnsupportedError
from converters.formats import gguf as ours
from converters.formats.tensors import TensorSpec
from tests.converters.formats.filling import fill

METADATA = {
    "general.architecture": "llama",
    "llama.block_count": 3,
    "llama.rope.freq_base": 10000,
    "tokenizer.ggml.tokens": ["a", "\u2581b", ""],
    "tokenizer.ggml.scores": [0.5, -1.0, -2.5],
    "tokenizer.ggml.token_type": [1, 3, 6],
    "tokenizer.ggml.add_bos_token": True,
    "left.out": None,
}
TENSORS = {"one": np.arange(12, dtype="<f4").reshape(3, 4), "two": np.arange(5, dtype="<f2")}
CODES = {"<f4": "F32", "<f2": "F16"}


def written():
    specs = [TensorSpec(name, CODES[array.dtype.str], array.shape) for name, array in TENSORS.items()]
    return fill(ours.layout(specs, METADATA), {name: array.tobytes() for name, array in TENSORS.items()})


def test_what_is_written_is_what_the_gguf_packages_writer_writes(tmp_path):
    theirs = pytest.importorskip("gguf", reason="make installs the gguf package; here it is not")
    writer = theirs.GGUFWriter(tmp_path / "theirs.gguf", "llama")
    writer.add_block_count(3)
    writer.add_rope_freq_base(10000)
    writer.add_token_list(METADATA["tokenizer.ggml.tokens"])
    writer.add_token_scores(METADATA["tokenizer.ggml.scores"])
    writer.add_token_types(METADATA["tokenizer.ggml.token_type"])
    writer.add_add_bos_token(True)
    for name, array in TENSORS.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert written() == (tmp_path / "theirs.gguf").read_bytes()


def test_what_is_written_is_read_again(tmp_path):
    (tmp_path / "x.gguf").write_bytes(written())
    found = ours.read_index(tmp_path / "x.gguf")
    assert found.metadata == {key: value for key, value in METADATA.items() if value is not None}
    content = (tmp_path / "x.gguf").read_bytes()
    for name, array in TENSORS.items():
        tensor = found.tensors[name]
        assert (tensor.dtype, tensor.shape) == (CODES[array.dtype.str], array.shape)
        assert content[tensor.offset : tensor.offset + tensor.nbytes] == array.tobytes()


def test_every_truncation_is_damage(tmp_path):
    whole = written()
    file = tmp_path / "x.gguf"
    for length in [*range(0, len(whole) - 32, 7), len(whole) - 32]:
        file.write_bytes(whole[:length])
        with pytest.raises(IntegrityError):
            ours.read_index(file)


@pytest.mark.parametrize(
    ("at", "patch", "kind"),
    [
        (0, b"GGML", IntegrityError),
        (4, struct.pack("<I", 1), UnsupportedError),
        (4, struct.pack(">I", 3), UnsupportedError),  # of the other byte order
        (8, struct.pack("<Q", 1 << 62), IntegrityError),
        (16, struct.pack("<Q", 1 << 62), IntegrityError),
        (24, struct.pack("<Q", 1 << 62), IntegrityError),
    ],
)
def test_headers_made_to_deceive_are_refused(tmp_path, at, patch, kind):
    content = bytearray(written())
    content[at : at + len(patch)] = patch
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(kind):
        ours.read_index(tmp_path / "x.gguf")

"""File containers of weights, and the header or index of each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import converters
from converters.formats import gguf, pickle_write, pickles, safetensors, shards, torchzip, zip_read
from converters.formats.bytesource import MemoryFile
from converters.formats.jsontext import json_value
from converters.tokenizer.model_proto import read_model
from internlm_zoo.errors import UsageError
from tests.fuzz.contract import Reader
from tests.fuzz.readers.memory import TOKENIZER, MemoryFolder, checkpoint


def _held(data: bytes) -> MemoryFile:
    return MemoryFile("memory/file", data)


def _weights(*kinds: str) -> Iterator[bytes]:
    for kind in kinds:
        yield from (data for name, data in checkpoint(kind).items() if name.startswith(("model", "pytorch")))


def _gguf() -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        made = converters.convert(MemoryFolder(checkpoint("hf")), Path(folder) / "out", to="gguf")
        yield from (path.read_bytes() for path in made.path.glob("*.gguf"))


def _pickles() -> Iterator[bytes]:
    yield pickle_write.dump_object({"hidden_size": 4, "dtype": "torch.bfloat16", "x": [1, None, 0.5, True]})
    for data in _weights("original"):
        entry = zip_read.read_directory(_held(data))["data.pkl"]
        yield data[entry.offset : entry.offset + entry.size]


def _json(data: bytes) -> object:
    """As its readers do: a clause becomes the end of a sentence."""
    try:
        return json_value(data, 1 << 20)
    except ValueError as error:
        raise UsageError(f"it is not JSON: {error}") from error


READERS = {
    "json": Reader(_json, lambda: (b'{"a": [1, -2.5e3, null, true, "\\u00e9"]}',), is_json=True),
    "pickle": Reader(lambda data: pickles.loads(data, "memory/file"), _pickles),
    "torch-tensors": Reader(
        lambda data: torchzip.read_index(_held(data)), lambda: _weights("original", "bin")
    ),
    "torch-object": Reader(
        lambda data: torchzip.read_object(_held(data)), lambda: (checkpoint("original")["model_config.pt"],)
    ),
    "safetensors": Reader(lambda data: safetensors.read_index(_held(data)), lambda: _weights("hf", "llama")),
    "gguf": Reader(lambda data: gguf.read_index(_held(data)), _gguf),
    "index": Reader(
        lambda data: shards.read_index(_held(data)),
        lambda: (checkpoint("shards")["model.safetensors.index.json"],),
        is_json=True,
    ),
    "sentencepiece": Reader(lambda data: read_model(_held(data)), lambda: (TOKENIZER.read_bytes(),)),
}

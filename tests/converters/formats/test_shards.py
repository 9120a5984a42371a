"""Shard names, grouping and index against huggingface_hub and transformers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.errors import IntegrityError, UsageError
from converters.formats import shards
from converters.formats.tensors import TensorSpec, nbytes

LENGTHS = st.lists(st.integers(0, 40), max_size=30)


@settings(max_examples=300)
@given(LENGTHS, st.integers(1, 120))
def test_grouping_equals_huggingface_hub(lengths, limit):
    serialization = pytest.importorskip("huggingface_hub.serialization")
    specs = [TensorSpec(f"t{n}", "BF16", (length,)) for n, length in enumerate(lengths)]
    expected = serialization.split_state_dict_into_shards_factory(
        {spec.name: spec for spec in specs},
        get_storage_size=lambda spec: nbytes(spec.dtype, spec.shape),
        filename_pattern=shards.SAFETENSORS_PATTERN,
        max_shard_size=limit,
    )
    mine = shards.split(specs, limit)
    assert {s.file: [t.name for t in s.tensors] for s in mine} == expected.filename_to_tensors


@pytest.mark.parametrize("size", ["200KB", "1MB", "100MB"])
def test_files_and_index_equal_save_pretrained(tmp_path, size):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, vocab_size=1000
    )
    model = transformers.LlamaForCausalLM(config)
    model.save_pretrained(tmp_path, max_shard_size=size)
    specs = [TensorSpec(name, "F32", tuple(t.shape)) for name, t in model.state_dict().items()]
    mine = shards.split(specs, size)
    assert sorted(s.file for s in mine) == sorted(p.name for p in tmp_path.glob("*.safetensors"))
    index = tmp_path / shards.SAFETENSORS_INDEX
    if len(mine) > 1:
        assert shards.index_json(mine) == index.read_text()
        assert shards.read_index(index) == {t.name: s.file for s in mine for t in s.tensors}


def test_sizes_are_decimal_as_the_hub_counts():
    assert [shards.parse_size(s) for s in ("5GB", " 1.5 mb", "2TB", "7kb", 12)] == [
        5 * 10**9,
        1_500_000,
        2 * 10**12,
        7000,
        12,
    ]
    for wrong in ("5", "GB", "-1GB", "0KB", "nanGB", "infGB", "5GiB", "", 0):
        with pytest.raises(UsageError):
            shards.parse_size(wrong)


NO_INDEX = ["", "{", "[]", '{"weight_map": 1}', '{"metadata": {}}', "[" * 100000]
NO_FILE = [1, "../w", "/etc/passwd", "a\\b", "..", ""]


@pytest.mark.parametrize("content", NO_INDEX + [json.dumps({"weight_map": {"w": file}}) for file in NO_FILE])
def test_index_that_is_no_map_to_plain_file_names_is_refused(tmp_path, content):
    path = tmp_path / shards.SAFETENSORS_INDEX
    path.write_text(content)
    with pytest.raises(IntegrityError):
        shards.read_index(path)


def test_index_of_pickled_shards_is_read(tmp_path):
    path = tmp_path / shards.TORCH_INDEX
    path.write_text(json.dumps({"metadata": {}, "weight_map": {"w": "pytorch_model-00001-of-00002.bin"}}))
    assert shards.read_index(path) == {"w": "pytorch_model-00001-of-00002.bin"}

"""Weights that lie in several places of files are mapped where their pages fit, and equal to those that are
read."""

from __future__ import annotations

import gc
import json
import math
import mmap
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from converters import convert
from converters.formats import safetensors
from converters.formats.bytesource import LocalFile
from converters.formats.tensors import TensorSpec
from converters.sinks import tensor_reader
from tests.loading.demo import home_of, load_model, mappings

pytestmark = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells")

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, INTER, VOCAB = 1024, 8, 2, 128, 1024, 512
LAYER = {
    "input_layernorm": (HIDDEN,),
    "post_attention_layernorm": (HIDDEN,),
    "self_attn.q_proj": (HEADS * HEAD_DIM, HIDDEN),
    "self_attn.k_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
    "self_attn.v_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HEADS * HEAD_DIM),
    "mlp.gate_proj": (INTER, HIDDEN),
    "mlp.up_proj": (INTER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INTER),
}
SHAPES = {
    "model.embed_tokens.weight": (VOCAB, HIDDEN),
    **{f"model.layers.0.{name}.weight": shape for name, shape in LAYER.items()},
    "model.norm.weight": (HIDDEN,),
    "lm_head.weight": (VOCAB, HIDDEN),
}
FUSED = {f"model.layers.0.self_attn.{part}_proj.weight" for part in "qkv"}
ACROSS = {"model.layers.0.self_attn.o_proj.weight", "model.layers.0.mlp.down_proj.weight"}
CUT = FUSED | {"model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight", "lm_head.weight"}
READ = {"hf": set(), "original": ACROSS | {"model.embed_tokens.weight"}}


@pytest.fixture(scope="module")
def forms(tmp_path_factory) -> dict[str, Path]:
    """An InternLM2 of one layer whose heads are pages; the original is of two ranks."""
    folder = tmp_path_factory.mktemp("spliced")
    llama = written(folder / "llama")
    return {
        "hf": convert(llama, folder / "hf", to="hf", evidence=False).path,
        "original": convert(llama, folder / "original", to="original", tp=2, evidence=False).path,
    }


def written(folder: Path) -> Path:
    layout = safetensors.layout([TensorSpec(name, "BF16", shape) for name, shape in SHAPES.items()])
    config = {
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INTER,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": VOCAB,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "attention_bias": False,
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "conversion.json").write_text(json.dumps({"family": "internlm2"}))
    random = torch.Generator().manual_seed(0)
    with (folder / "model.safetensors").open("wb") as file:
        for span in layout.spans:
            file.seek(span.offset)
            drawn = torch.randn(span.shape, generator=random, dtype=torch.bfloat16)
            file.write(drawn.view(torch.uint8).numpy().tobytes())
        for offset, data in (*layout.fixed, *layout.finalize({span.name: 0 for span in layout.spans})):
            file.seek(offset)
            file.write(data)
    return folder


def loaded_from(folder, tmp_path, **how):
    return load_model(folder, settings=home_of(tmp_path), **how)


def assert_same_weights(one, other):
    weights = dict(other.model.named_parameters())
    for name, tensor in one.model.named_parameters():
        assert torch.equal(tensor, weights.pop(name)), name
    assert not weights


@pytest.mark.parametrize("form", READ)
def test_what_lies_in_several_places_is_mapped(forms, form, tmp_path):
    mapped = loaded_from(forms[form], tmp_path)
    assert set(mappings(mapped)) == SHAPES.keys() - READ[form]
    read = loaded_from(forms[form], tmp_path, mmap=False)
    assert not mappings(read)
    assert_same_weights(mapped, read)


@pytest.mark.parametrize("form", READ)
def test_writing_to_it_changes_no_file_and_letting_go_of_it_returns_the_memory(forms, form, tmp_path):
    folder = forms[form]
    before = {file: file.read_bytes() for file in folder.iterdir()}
    loaded = loaded_from(folder, tmp_path)
    for parameter in loaded.model.parameters():
        parameter.fill_(1)
    assert all(parameter.eq(1).all() for parameter in loaded.model.parameters())
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
    assert mapped_of(folder)
    del loaded, parameter
    gc.collect()
    assert not mapped_of(folder)


def mapped_of(folder: Path) -> list[str]:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in lines if str(folder) in line]


def test_ranks_whose_tensors_lie_elsewhere_in_a_page_are_read(forms, tmp_path):
    folder = shutil.copytree(forms["original"], tmp_path / "copy")
    moved(folder / "model_tp1_pp0.pt", 64)
    loaded = loaded_from(folder, tmp_path)
    assert not CUT & set(mappings(loaded))
    assert_same_weights(loaded, loaded_from(forms["original"], tmp_path))


def moved(file: Path, nbytes: int) -> None:
    """Written again with every tensor as many bytes further on in its page."""
    with zipfile.ZipFile(file) as old:
        members = {member: old.read(member) for member in old.infolist()}
    with zipfile.ZipFile(file, "w") as new:
        for old_member, content in members.items():
            member = zipfile.ZipInfo(old_member.filename)
            bare = new.fp.tell() + 30 + len(member.filename.encode()) + 4
            at = old_member.header_offset + 30 + len(member.filename.encode()) + len(old_member.extra)
            blanks = (at + nbytes - bare) % mmap.PAGESIZE
            member.extra = b"FB" + blanks.to_bytes(2, "little") + b"Z" * blanks
            new.writestr(member, content)


def test_a_process_with_many_mappings_keeps_half_of_what_is_left(forms, tmp_path):
    most = int(Path("/proc/sys/vm/max_map_count").read_text())
    if most > 1 << 17:
        pytest.skip(f"this system allows {most:,} mappings, which would take long")
    pages = most // 2
    with mmap.mmap(-1, pages * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        for page in range(0, pages, 2):  # each becomes a mapping of its own
            memory.madvise(mmap.MADV_DONTFORK, page * mmap.PAGESIZE, mmap.PAGESIZE)
        crowded = loaded_from(forms["hf"], tmp_path)
        assert not FUSED & set(mappings(crowded))
    assert_same_weights(crowded, loaded_from(forms["hf"], tmp_path))


def test_a_system_that_lays_no_files_into_memory_reads_them(forms, tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_reader, "can_lay", lambda: False)
    assert not FUSED & set(mappings(loaded_from(forms["hf"], tmp_path)))


def test_the_system_is_told_of_what_lies_in_several_places(forms, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(LocalFile, "announce", lambda self, ranges: told.extend(ranges))
    loaded_from(forms["hf"], tmp_path)
    assert sum(length for _, length in told) >= sum(2 * math.prod(SHAPES[name]) for name in FUSED)

"""A GGUF file holds what the gguf package's own reader finds in it: every tensor, fact and token."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import converters
from converters.errors import UnsupportedError, UsageError
from converters.progress import NullProgress
from tests.converters.bits import to_torch
from tests.converters.conversion.test_crash import Counter, child, content
from tests.converters.oracle import INTERNLM, INTERNLM2, make_model, stages_of, write_hf, write_original
from tests.converters.refusal import refused
from tests.timing import PATIENCE

gguf = pytest.importorskip("gguf", reason="make installs the gguf package; here it is not")

DEMOS = Path(__file__).parents[3] / "internlm_zoo/demo/models"
SMALL = replace(INTERNLM2, layers=2)
BIASED = replace(INTERNLM, layers=2, hidden=64, inter=96)
FAMILIES = pytest.mark.parametrize("dims", [BIASED, SMALL], ids=lambda dims: dims.family)
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem.startswith("model.layers."):
        number, inside = stem.removeprefix("model.layers.").split(".", 1)
        return f"blk.{number}.{NAMES[inside]}.{kind}"
    return f"{NAMES[stem]}.{kind}"


def turned(tensor, head_dim):
    """llama.cpp's permute: rows i and head_dim/2 + i of a head become neighbours."""
    heads = tensor.shape[0] // head_dim
    pairs = tensor.reshape(heads, 2, head_dim // 2, *tensor.shape[1:])
    return pairs.swapaxes(1, 2).reshape(tensor.shape)


def wanted(model, dims):
    """Name -> float32 values."""
    values = {name: to_torch(bits, dims.dtype).float() for name, bits in model.items()}
    return {
        gguf_name(name): turned(value, dims.head_dim) if ".q_proj" in name or ".k_proj" in name else value
        for name, value in values.items()
    }


def tensors(folder):
    """Name -> (ggml type, shape, values in float32) by the package's reader and its own dequantiser."""
    found = {}
    for tensor in gguf.GGUFReader(folder / "model.gguf").tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        found[tensor.name] = tensor.tensor_type.name, values.shape, torch.tensor(values)
    return found


def fields(folder):
    reader = gguf.GGUFReader(folder / "model.gguf")
    return {name: field.contents() for name, field in reader.fields.items()}


@FAMILIES
@pytest.mark.parametrize(("dtype", "code"), [("keep", "BF16"), ("float32", "F32")])
@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (4, 2)])
def test_every_tensor_is_where_llama_cpp_looks_for_it(tmp_path, dims, dtype, code, tp, pp):
    model = make_model(dims)
    src = write_original(tmp_path / "src", model, dims, tp, stages_of(dims.layers, pp))
    converters.convert(src, tmp_path / "dst", to="gguf", dtype=dtype)
    found, expected = tensors(tmp_path / "dst"), wanted(model, dims)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        kind, shape, values = found[name]
        assert kind == ("F32" if value.ndim == 1 else code), name
        assert shape == tuple(value.shape), name
        assert torch.equal(values, value), name


def test_float16_is_rounded_as_torch_rounds(tmp_path):
    model = make_model(SMALL)
    converters.convert(write_hf(tmp_path / "src", model, SMALL), tmp_path / "dst", to="gguf", dtype="float16")
    for name, value in wanted(model, SMALL).items():
        values = tensors(tmp_path / "dst")[name][2]
        assert torch.equal(values, value if value.ndim == 1 else value.half().float()), name


@pytest.mark.parametrize(
    "dims", [BIASED, replace(SMALL, vocab=5000)], ids=["internlm", "internlm2 in several blocks"]
)
def test_q8_0_is_what_the_gguf_package_makes_of_whole_tensors(tmp_path, dims):
    model = make_model(dims)
    src = write_original(tmp_path / "src", model, dims, 2)
    report = converters.convert(src, tmp_path / "dst", to="gguf", dtype="q8_0")
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "dst/model.gguf").tensors}
    for name, value in wanted(model, dims).items():
        if value.ndim == 1:
            assert np.array_equal(stored[name].data, value.numpy()), name
            continue
        assert stored[name].tensor_type.name == "Q8_0", name
        q8_0 = gguf.quants.quantize(value.numpy(), gguf.GGMLQuantizationType.Q8_0)
        assert np.array_equal(stored[name].data, q8_0), name
    assert any("lossy" in note and "Q8_0" in note for note in report.notes)
    assert len(json.loads((tmp_path / "dst/conversion.json").read_text())["lossy"]) == 16


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_q8_0_conversion_goes_on_to_the_same_bytes(tmp_path):
    src = write_hf(tmp_path / "src", make_model(SMALL), SMALL)
    asked = {"to": "gguf", "dtype": "q8_0", "workers": 1}
    counter = Counter()
    converters.convert(src, tmp_path / "whole", progress=counter, **asked)
    again = Counter()
    with child(src, tmp_path / "dst", asked, counter.steps // 2) as process:
        assert process.wait(PATIENCE) == -signal.SIGKILL
    converters.convert(src, tmp_path / "dst", progress=again, **asked)
    assert content(tmp_path / "dst") == content(tmp_path / "whole")
    assert again.steps < counter.steps * 3 / 4


def test_matrices_whose_rows_are_no_whole_blocks_stay_float32(tmp_path):
    dims = replace(BIASED, inter=48)
    model = make_model(dims)
    converters.convert(write_hf(tmp_path / "src", model, dims), tmp_path / "dst", to="gguf", dtype="q8_0")
    found = tensors(tmp_path / "dst")
    assert found["blk.0.ffn_down.weight"][0] == "F32"
    assert torch.equal(found["blk.0.ffn_down.weight"][2], wanted(model, dims)["blk.0.ffn_down.weight"])
    assert found["blk.0.ffn_up.weight"][0] == "Q8_0"


def test_the_header_says_what_the_config_says(tmp_path):
    src = write_hf(tmp_path / "src", make_model(SMALL), SMALL, eos_token_id=[2, 5])
    converters.convert(src, tmp_path / "dst", to="gguf")
    found = fields(tmp_path / "dst")
    said = {name.removeprefix("llama."): value for name, value in found.items() if name.startswith("llama.")}
    assert said["rope.freq_base"] == SMALL.rope_base
    assert said["attention.layer_norm_rms_epsilon"] == pytest.approx(SMALL.eps)
    assert {name: said[name] for name in ("block_count", "embedding_length", "context_length")} == {
        "block_count": SMALL.layers,
        "embedding_length": SMALL.hidden,
        "context_length": SMALL.positions,
    }
    assert (said["attention.head_count"], said["attention.head_count_kv"]) == (SMALL.heads, SMALL.kv_heads)
    ends = found["tokenizer.ggml.eos_token_id"], found["tokenizer.ggml.eot_token_id"]
    assert ends == (2, 5)
    assert found["general.file_type"] == gguf.LlamaFileType.MOSTLY_BF16
    assert found["tokenizer.ggml.model"] == "no_vocab"


def test_the_tokenizer_is_the_sentencepiece_model_with_its_chat_tokens(tmp_path, zoo):
    sentencepiece = pytest.importorskip("sentencepiece")
    src = DEMOS / "demo-internlm2-chat"
    assert zoo("convert", src, tmp_path / "dst", "--to", "gguf")[0] == 0
    found = fields(tmp_path / "dst")
    model = sentencepiece.SentencePieceProcessor(model_file=str(src / "tokenizer.model"))
    chat = {2047: "<|im_start|>", 2046: "<|im_end|>"}
    tokens, kinds = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    assert len(tokens) == model.vocab_size()
    for id, text in enumerate(tokens[:2042]):
        assert text == model.id_to_piece(id)
        assert found["tokenizer.ggml.scores"][id] == pytest.approx(model.get_score(id))
    assert {id: tokens[id] for id in chat} == chat
    assert {gguf.TokenType(kinds[id]) for id in (1, 2, *chat)} == {gguf.TokenType.CONTROL}
    assert gguf.TokenType(kinds[0]) == gguf.TokenType.UNKNOWN
    assert gguf.TokenType(kinds[model.piece_to_id("<0x0A>")]) == gguf.TokenType.BYTE
    assert found["tokenizer.ggml.pre"] == "default"
    assert found["tokenizer.ggml.add_bos_token"] is True
    assert found["tokenizer.ggml.add_space_prefix"] is False
    assert "<|im_start|>" in found["tokenizer.chat_template"]
    assert (found["tokenizer.ggml.eos_token_id"], found["tokenizer.ggml.eot_token_id"]) == (2, 2046)


def test_ids_below_zero_and_no_added_tokens_are_left_out(tmp_path):
    """-1 is how configs say that there is none; the header's numbers have no sign."""
    src = write_hf(tmp_path / "src", make_model(SMALL), SMALL, pad_token_id=-1)
    shutil.copy(DEMOS / "demo-internlm2-chat" / "tokenizer.model", src)
    pieces = {"type": "BPE", "vocab": {"<unk>": 0}, "merges": []}
    (src / "tokenizer.json").write_text(json.dumps({"added_tokens": None, "model": pieces}))
    (src / "generation_config.json").write_text('{"eos_token_id": -1}')
    converters.convert(src, tmp_path / "dst", to="gguf")
    assert not {
        name for name in fields(tmp_path / "dst") if name.endswith(("eos_token_id", "padding_token_id"))
    }


def test_rows_beyond_the_pieces_have_a_text_of_their_own(tmp_path, zoo):
    src = DEMOS / "demo-internlm-base"
    assert zoo("convert", src, tmp_path / "dst", "--to", "gguf", "--pad-vocab-to-multiple", "1000")[0] == 0
    found = fields(tmp_path / "dst")
    tokens, kinds = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    assert len(tokens) == len(set(tokens)) == len(kinds) == found["llama.vocab_size"] == 2000
    assert {gguf.TokenType(kind) for kind in kinds[1792:]} == {gguf.TokenType.UNUSED}


@FAMILIES
def test_a_gguf_file_is_a_checkpoint_like_the_others(tmp_path, dims, zoo):
    src = write_original(tmp_path / "src", make_model(dims), dims, 2)
    assert zoo("convert", src, tmp_path / "gguf", "--to", "gguf")[0] == 0
    assert zoo("verify", tmp_path / "gguf")[0] == 0
    assert zoo("compare", src, tmp_path / "gguf")[:2] == (0, "same values, other layout\n")
    code, out, _ = zoo("inspect", tmp_path / "gguf")
    assert code == 0, out
    code, _, notes = zoo("convert", tmp_path / "gguf", tmp_path / "back", "--to", "hf", "--dtype", dims.dtype)
    assert code == 0
    assert "the tokenizer inside the GGUF file is not taken out" in notes
    assert converters.fingerprint(tmp_path / "back") == converters.fingerprint(src)


@pytest.mark.parametrize("dtype", ["keep", "q8_0"])
def test_verify_finds_a_byte_that_changed_in_weights_or_tokenizer(tmp_path, dtype, zoo):
    src = DEMOS / "demo-internlm-base"
    assert zoo("convert", src, tmp_path / "dst", "--to", "gguf", "--dtype", dtype)[0] == 0
    file = tmp_path / "dst/model.gguf"
    whole = file.read_bytes()
    for at in (whole.index(b"\xe2\x96\x81the") + 3, len(whole) - 40):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        code, out, err = zoo("verify", tmp_path / "dst")
        assert code == 1
        assert "model.gguf" in out + err
    file.write_bytes(whole)
    assert zoo("verify", tmp_path / "dst")[0] == 0


def test_what_is_there_already_stays_and_another_tokenizer_is_another_result(tmp_path, zoo):
    src, other = (DEMOS / name / "tokenizer.model" for name in ("demo-internlm-base", "demo-internlm2-chat"))
    convert = ("convert", src.parent, tmp_path / "dst", "--to", "gguf")
    assert zoo(*convert)[0] == 0
    before = (tmp_path / "dst/model.gguf").stat()
    assert zoo(*convert)[0] == 0
    assert (tmp_path / "dst/model.gguf").stat() == before
    assert zoo(*convert, "--tokenizer", other)[0] == 2


def test_dynamic_scaling_is_refused_by_name_unless_it_may_be_left_out(tmp_path, zoo):
    scaling = {"type": "dynamic", "factor": 2.0}
    src = write_hf(tmp_path / "src", make_model(SMALL), SMALL, rope_scaling=scaling)
    convert = ("convert", src, tmp_path / "dst", "--to", "gguf")
    code, _, err = zoo(*convert)
    assert code == 7
    assert "rope_scaling" in err
    assert "dynamic" in err
    assert "--accept-lossy" in err
    code, _, err = zoo(*convert, "--accept-lossy")
    assert code == 0
    assert f"up to {SMALL.positions} tokens" in err
    assert fields(tmp_path / "dst")["llama.rope.scaling.type"] == "none"


def test_linear_scaling_is_written_and_read_back(tmp_path):
    scaling = {"type": "linear", "factor": 4.0}
    src = write_hf(tmp_path / "src", make_model(SMALL), SMALL, rope_scaling=scaling)
    converters.convert(src, tmp_path / "dst", to="gguf")
    said = fields(tmp_path / "dst")
    assert (said["llama.rope.scaling.type"], said["llama.rope.scaling.factor"]) == ("linear", 4.0)
    converters.convert(tmp_path / "dst", tmp_path / "back", to="llama")
    assert json.loads((tmp_path / "back/config.json").read_text())["rope_scaling"] == scaling


def test_other_scaling_is_refused_even_if_losses_are_accepted(tmp_path):
    scaling = {"rope_type": "yarn", "factor": 4.0}
    src = write_hf(tmp_path / "src", make_model(SMALL), SMALL, "llama", rope_scaling=scaling)
    said = refused(src, tmp_path / "dst", UnsupportedError, "gguf", accept_lossy=True)
    assert "yarn" in said
    assert "rope_scaling" in said


def test_a_quantised_file_is_no_source_and_q8_0_no_type_of_other_formats(tmp_path):
    src = write_hf(tmp_path / "src", make_model(SMALL), SMALL)
    converters.convert(src, tmp_path / "q8", to="gguf", dtype="q8_0")
    assert "Q8_0" in refused(tmp_path / "q8", tmp_path / "dst", UnsupportedError)
    assert "to='gguf'" in refused(src, tmp_path / "dst", UsageError, "llama", dtype="q8_0")


def test_of_several_gguf_files_one_is_named(tmp_path, zoo):
    src = write_hf(tmp_path / "src", make_model(SMALL), SMALL)
    converters.convert(src, tmp_path / "dst", to="gguf")
    (tmp_path / "dst/other.gguf").write_bytes((tmp_path / "dst/model.gguf").read_bytes())
    code, _, err = zoo("convert", tmp_path / "dst", tmp_path / "back", "--to", "hf")
    assert code == 2
    assert "--weights model.gguf" in err
    taken = ("--to", "hf", "--weights", "other.gguf", "--set", "family=internlm2")
    assert zoo("convert", tmp_path / "dst", tmp_path / "back", *taken)[0] == 0


def test_a_reward_model_is_refused_by_what_it_is_for(tmp_path):
    src = write_hf(tmp_path / "src", make_model(SMALL), SMALL, architectures=["InternLM2ForRewardModel"])
    tensors = load_file(src / "model.safetensors")
    tensors["v_head.weight"] = tensors.pop("output.weight")[:1].clone()
    save_file(tensors, src / "model.safetensors", metadata={"format": "pt"})
    said = refused(src, tmp_path / "dst", UnsupportedError, "gguf")
    assert "'reward'" in said
    assert "kind" in said


class Bytes(NullProgress):
    """Bytes of the file, those that were there and those that came. left: calls until it is interrupted."""

    def __init__(self, left=-1):
        self.left, self.total, self.done = left, 0, 0

    def start(self, task, total, done=0):
        if task == "model.gguf":
            self.total, self.done = total, done

    def advance(self, task, amount):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        self.done += amount


def test_a_run_that_goes_on_counts_the_bytes_that_are_on_the_disk(tmp_path):
    src = write_hf(tmp_path / "src", make_model(SMALL), SMALL)
    how = {"to": "gguf", "dtype": "q8_0", "workers": 1, "evidence": False}
    with pytest.raises(KeyboardInterrupt):
        converters.convert(src, tmp_path / "dst", progress=Bytes(20), **how)
    going_on = Bytes()
    converters.convert(src, tmp_path / "dst", progress=going_on, **how)
    assert going_on.total == (tmp_path / "dst/model.gguf").stat().st_size
    assert 0 < going_on.done <= going_on.total

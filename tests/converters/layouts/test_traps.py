"""Each trap of the original format, by its name: what real checkpoints do that shapes alone do not show."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import converters
from converters.errors import ZooError
from tests.converters.bits import assert_same, assert_same_cells
from tests.converters.layouts.converting import assert_converts, written_config
from tests.converters.oracle import (
    BOTH,
    EMBEDDING_KEYS,
    INTERNLM,
    INTERNLM2,
    Variant,
    cells,
    expected,
    make_model,
    read_cells,
    read_config,
    read_hf,
    write_hf,
    write_original,
)

FAMILY = pytest.mark.parametrize("dims", BOTH, ids=lambda dims: dims.family)


@pytest.mark.parametrize("w2_is_up", [True, False])
@pytest.mark.parametrize("tp", [1, 4])
def test_w2_and_w3_trade_meaning_and_shapes_decide(tmp_path, w2_is_up, tp):
    assert_converts(tmp_path, INTERNLM, tp, how=Variant(w2_is_up=w2_is_up))


ALIKE = pytest.mark.parametrize(("tp", "inter"), [(1, 32), (2, 64), (4, 128)])


@ALIKE
@pytest.mark.parametrize("w2_is_up", [True, False])
def test_w2_and_w3_of_equal_shapes_are_told_apart_by_mlp_order(tmp_path, tp, inter, w2_is_up):
    dims = replace(INTERNLM, inter=inter)
    model = make_model(dims)
    src = write_original(tmp_path / "src", model, dims, tp, how=Variant(w2_is_up=w2_is_up))
    order = "up_down" if w2_is_up else "down_up"
    converters.convert(src, tmp_path / "dst", to="hf", given={"mlp_order": order})
    assert_same(read_hf(tmp_path / "dst"), expected(model, dims, "hf"))


@ALIKE
def test_a_grid_we_wrote_with_w2_and_w3_alike_can_be_read_again(tmp_path, tp, inter):
    dims = replace(INTERNLM, inter=inter)
    model = make_model(dims)
    converters.convert(write_hf(tmp_path / "src", model, dims), tmp_path / "grid", to="original", tp=tp)
    converters.convert(tmp_path / "grid", tmp_path / "dst", to="hf")
    assert_same(read_hf(tmp_path / "dst"), expected(model, dims, "hf"))


@pytest.mark.parametrize("w2_is_up", [True, False])
def test_what_shapes_tell_of_w2_and_w3_is_written_down_for_a_grid_where_they_do_not(tmp_path, w2_is_up):
    dims = replace(INTERNLM, inter=64)
    model = make_model(dims)
    src = write_original(tmp_path / "src", model, dims, how=Variant(w2_is_up=w2_is_up))
    converters.convert(src, tmp_path / "grid", to="original", tp=2)
    converters.convert(tmp_path / "grid", tmp_path / "dst", to="hf")
    assert_same(read_hf(tmp_path / "dst"), expected(model, dims, "hf"))


@ALIKE
def test_w2_and_w3_of_equal_shapes_are_not_guessed(tmp_path, tp, inter):
    dims = replace(INTERNLM, inter=inter)
    src = write_original(tmp_path / "src", make_model(dims), dims, tp)
    with pytest.raises(ZooError, match=r"w2.*w3") as caught:
        converters.convert(src, tmp_path / "dst", to="hf")
    assert caught.value.exit_code in (2, 7)
    assert not (tmp_path / "dst").exists()


@FAMILY
@pytest.mark.parametrize("split_hidden", [True, False])
@pytest.mark.parametrize("tp", [1, 2, 8])
def test_embedding_is_split_by_hidden_or_by_vocabulary(tmp_path, dims, split_hidden, tp):
    assert_converts(tmp_path, dims, tp, how=Variant(embed_split_hidden=split_hidden))


@FAMILY
@pytest.mark.parametrize("number", [0, 1, 2])
def test_embedding_under_each_of_its_names(tmp_path, dims, number):
    if number >= len(EMBEDDING_KEYS[dims.family]):
        pytest.skip(f"{dims.family} has {number} names for it")
    assert_converts(tmp_path, dims, how=Variant(embedding_key=EMBEDDING_KEYS[dims.family][number]))


@FAMILY
def test_keys_with_a_model_prefix(tmp_path, dims):
    assert_converts(tmp_path, dims, 2, (1, 2), Variant(prefix="model."))


@FAMILY
def test_inv_freq_buffers_are_dropped(tmp_path, dims):
    assert_converts(tmp_path, dims, 2, (1, 2), Variant(inv_freq=True))


@FAMILY
def test_inv_freq_buffers_under_a_model_prefix_are_dropped(tmp_path, dims):
    assert_converts(tmp_path, dims, how=Variant(inv_freq=True, prefix="model."))


def test_what_was_dropped_is_said(tmp_path):
    src = write_original(tmp_path / "src", make_model(INTERNLM2), INTERNLM2, how=Variant(inv_freq=True))
    report = converters.convert(src, tmp_path / "dst", to="hf")
    assert any(note.startswith("3 computed buffers (.inv_freq)") for note in report.notes)
    record = json.loads((tmp_path / "dst/conversion.json").read_text())
    assert record["dropped"] == [f"layers.{n}.attention.rotary_emb.inv_freq" for n in range(3)]


@pytest.mark.parametrize(
    "key", ["freq", "blocks.0.mixer.rotary_emb.inv_freq_scale", "blocks.0.mixer.cos_cached"]
)
def test_no_other_buffer_is_dropped(tmp_path, key):
    src = write_original(tmp_path / "src", make_model(INTERNLM), INTERNLM)
    state = torch.load(src / "model_tp0_pp0.pt", weights_only=True)
    torch.save(state | {key: torch.ones(2)}, src / "model_tp0_pp0.pt")
    with pytest.raises(ZooError) as caught:
        converters.convert(src, tmp_path / "dst", to="hf")
    assert key in str(caught.value)
    assert not (tmp_path / "dst").exists()


@FAMILY
@pytest.mark.parametrize("base", [10000, 50000, 1000000])
def test_rope_base_becomes_rope_theta_and_no_scaling_is_added(tmp_path, dims, base):
    dims = replace(dims, rope_base=base)
    assert_converts(tmp_path, dims, names="llama")
    assert converters.llama_config(converters.open_checkpoint(tmp_path / "src"))["rope_theta"] == base
    config = written_config(tmp_path)
    assert (config.get("rope_theta") or config["rope_parameters"]["rope_theta"]) == base
    assert not config.get("rope_scaling")


def test_rope_base_left_out_is_10000_for_internlm(tmp_path):
    assert_converts(tmp_path, INTERNLM, names="llama", rope_base=None)
    config = written_config(tmp_path)
    assert (config.get("rope_theta") or config["rope_parameters"]["rope_theta"]) == 10000


@pytest.mark.parametrize("eps", [1e-5, 1e-6])
def test_eps_is_the_checkpoints_own(tmp_path, eps):
    assert_converts(tmp_path, replace(INTERNLM, eps=eps))
    assert written_config(tmp_path)["rms_norm_eps"] == eps


@FAMILY
def test_max_positions_of_a_training_job_must_be_given(tmp_path, dims):
    src = write_original(tmp_path / "src", make_model(dims), dims, max_position_embeddings=None)
    with pytest.raises(ZooError, match="max_position_embeddings") as caught:
        converters.convert(src, tmp_path / "dst", to="hf")
    assert caught.value.exit_code in (2, 7)
    assert not (tmp_path / "dst").exists()
    converters.convert(src, tmp_path / "dst", to="hf", given={"max_position_embeddings": 4096})
    assert written_config(tmp_path)["max_position_embeddings"] == 4096


@FAMILY
def test_dynamic_ntk_of_an_unknown_factor_must_be_given(tmp_path, dims):
    src = write_original(tmp_path / "src", make_model(dims), dims, use_dynamic_ntk_rope=True)
    with pytest.raises(ZooError, match="rope_scaling") as caught:
        converters.convert(src, tmp_path / "dst", to="hf")
    assert caught.value.exit_code in (2, 7)
    assert not (tmp_path / "dst").exists()
    scaling = {"type": "dynamic", "factor": 3.0}
    converters.convert(src, tmp_path / "dst", to="hf", given={"rope_scaling": scaling})
    config = written_config(tmp_path)
    if dims.family == "internlm":  # its configuration class knows `rotary` and no rope_scaling
        assert config["rotary"] == {"base": dims.rope_base, "type": "dynamic", "scaling_factor": 3.0}
    else:
        assert config["rope_scaling"] == scaling


@FAMILY
@pytest.mark.parametrize("storage", ["transposed", "shared", "padded"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_tensors_stored_with_foreign_strides_or_in_shared_storage(tmp_path, dims, storage, dtype):
    assert_converts(tmp_path, replace(dims, dtype=dtype), 2, (1, 2), Variant(storage=storage))


@FAMILY
def test_tensors_of_shared_storage_are_cut_into_their_own(tmp_path, dims):
    how = Variant(storage="padded")
    model = make_model(dims)
    src = write_original(tmp_path / "src", model, dims, 2, how=how)
    converters.convert(src, tmp_path / "dst", to="original", tp=4)
    assert_same_cells(read_cells(tmp_path / "dst"), cells(model, dims, 4, how=how))


@FAMILY
def test_out_proj_bias_and_norms_are_written_whole_to_every_rank(tmp_path, dims):
    model = make_model(dims)
    converters.convert(write_hf(tmp_path / "src", model, dims), tmp_path / "dst", to="original", tp=4)
    for state in read_cells(tmp_path / "dst").values():
        assert np.array_equal(state["norm.weight"], model["model.norm.weight"])
        if dims.biased:
            bias = model["model.layers.0.self_attn.o_proj.bias"]
            assert np.array_equal(state["blocks.0.mixer.out_proj.bias"], bias)


@FAMILY
def test_training_leftovers_are_not_weights(tmp_path, dims):
    model = make_model(dims)
    src = write_original(tmp_path / "src", model, dims, 2)
    for name in ("optimizer_tp0_pp0_zo0.pt", "context.pt", "sampler_0.pt", "schedulder.pt", "scheduler.pt"):
        torch.save({"state": torch.ones(3)}, src / name)
    (src / "topo_tp0_pp0.json").write_text("{}")
    converters.convert(src, tmp_path / "dst", to="hf")
    assert_same(read_hf(tmp_path / "dst"), expected(model, dims, "hf"))


@pytest.mark.parametrize("spelt", [str.lower, str.upper])
def test_md5_side_cars_that_agree_are_no_weights(tmp_path, spelt):
    src = write_original(tmp_path / "src", make_model(INTERNLM), INTERNLM, 2)
    for path in list(src.glob("model_tp*.pt")):
        path.with_name(path.name + ".md5").write_text(spelt(hashlib.md5(path.read_bytes()).hexdigest()))
    converters.convert(src, tmp_path / "dst", to="hf")
    assert_same(read_hf(tmp_path / "dst"), expected(make_model(INTERNLM), INTERNLM, "hf"))


@pytest.mark.parametrize(
    ("said", "why"),
    [("0" * 32, "its MD5 is"), ("no digest", "it holds no MD5 digest")],
    ids=["other", "none"],
)
def test_md5_side_cars_that_disagree_stop_the_run(tmp_path, said, why):
    src = write_original(tmp_path / "src", make_model(INTERNLM), INTERNLM, 2)
    (src / "model_tp1_pp0.pt.md5").write_text(f"{said}  model_tp1_pp0.pt\n")
    with pytest.raises(ZooError, match=why) as raised:
        converters.convert(src, tmp_path / "dst", to="hf")
    assert raised.value.exit_code == 6
    assert "model_tp1_pp0.pt" in str(raised.value.where)
    assert not (tmp_path / "dst").exists()


@pytest.mark.parametrize(("rows", "hidden"), [(92548, 8), (92550, 8)])
def test_vocabularies_a_few_rows_longer(tmp_path, rows, hidden):
    dims = replace(INTERNLM2, layers=1, hidden=hidden, heads=4, kv_heads=2, inter=12, vocab=rows)
    assert_converts(tmp_path, dims, 2)
    assert written_config(tmp_path)["vocab_size"] == rows


def test_internlm_config_without_kv_heads_has_one_per_head(tmp_path):
    assert_converts(tmp_path, INTERNLM, names="llama")
    assert "num_kv_attention_heads" not in read_config(tmp_path / "src")
    config = written_config(tmp_path)
    assert config.get("num_key_value_heads", config["num_attention_heads"]) == INTERNLM.heads

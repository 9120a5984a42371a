"""One digest per logical tensor, the same whatever files the model lies in; and where two models differ."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

import converters
from converters.errors import IntegrityError, ZooError
from tests.converters.bits import to_bits, to_torch
from tests.converters.oracle import BOTH, INTERNLM, INTERNLM2, Variant, make_model, write_hf, write_original

FAMILY = pytest.mark.parametrize("dims", BOTH, ids=lambda dims: dims.family)


@FAMILY
def test_the_same_model_has_the_same_fingerprint_in_every_format(tmp_path, dims):
    model = make_model(dims)
    variants = {
        "plain": (1, (), Variant()),
        "tp8": (8, (1, 2), Variant(prefix="model.", inv_freq=True)),
        "tp2": (2, (2, 1), Variant(embed_split_hidden=False, w2_is_up=False, adapt_hf=False)),
        "apart": (4, (), Variant(fused=False, adapt_hf=False, storage="shared")),
    }
    folders = [
        write_original(tmp_path / n, model, dims, tp, at, how) for n, (tp, at, how) in variants.items()
    ]
    folders += [
        write_hf(tmp_path / "hf", model, dims),
        write_hf(tmp_path / "bin", model, dims, "hf", "bin", 2),
    ]
    folders += [tmp_path / "llama"]
    converters.convert(folders[0], folders[-1], to="llama")
    first = converters.fingerprint(folders[0])
    assert len(first) == len(model)
    assert len(set(first.values())) == len(model)
    for folder in folders[1:]:
        assert converters.fingerprint(folder) == first, folder.name


@FAMILY
def test_one_bit_changes_one_digest(tmp_path, dims):
    src = write_original(tmp_path / "src", make_model(dims), dims, 2)
    before = converters.fingerprint(src)
    path = src / "model_tp1_pp0.pt"
    state = torch.load(path, weights_only=True)
    key = "head.weight" if dims.family == "internlm" else "output.weight"
    state[key].view(torch.int16)[-1, -1] ^= 1
    torch.save(state, path)
    after = converters.fingerprint(src)
    assert before.keys() == after.keys()
    assert sum(before[name] != after[name] for name in before) == 1


def test_the_same_bytes_of_another_dtype_have_another_digest(tmp_path):
    bf16 = replace(INTERNLM2, layers=1)
    model = make_model(bf16)
    one = converters.fingerprint(write_hf(tmp_path / "one", model, bf16))
    two = converters.fingerprint(write_hf(tmp_path / "two", model, replace(bf16, dtype="float16")))
    assert one.keys() == two.keys()
    assert not set(one.values()) & set(two.values())


def test_the_same_bytes_in_another_shape_have_another_digest(tmp_path):
    tall, wide = replace(INTERNLM, vocab=64, hidden=32), replace(INTERNLM, vocab=32, hidden=64)
    model = make_model(wide)
    key = "model.embed_tokens.weight"
    model[key] = make_model(tall)[key].reshape(model[key].shape)
    one = converters.fingerprint(write_hf(tmp_path / "one", make_model(tall), tall))
    two = converters.fingerprint(write_hf(tmp_path / "two", model, wide))
    assert one["embed.weight"] != two["embed.weight"]


@FAMILY
def test_compare_of_the_same_model_in_two_formats(tmp_path, dims):
    model = make_model(dims)
    original = write_original(tmp_path / "original", model, dims, 4, (1, 2))
    comparison = converters.compare(original, write_hf(tmp_path / "hf", model, dims))
    assert comparison.same
    assert comparison.verdict == "same values, other layout"
    assert comparison.first is None


@FAMILY
def test_compare_names_the_first_tensor_that_differs_and_where(tmp_path, dims):
    model = make_model(dims)
    one = write_original(tmp_path / "one", model, dims, 2)
    changed = {name: array.copy() for name, array in model.items()}
    changed["model.layers.1.self_attn.v_proj.weight"][5, 7] ^= 1
    comparison = converters.compare(one, write_hf(tmp_path / "two", changed, dims))
    assert not comparison.same
    assert comparison.verdict == "different"
    assert comparison.first.tensor == "layers.1.attention.v.weight"
    assert comparison.first.index == (5, 7)
    values = [
        float(to_torch(m["model.layers.1.self_attn.v_proj.weight"], "bfloat16")[5, 7])
        for m in (model, changed)
    ]
    assert comparison.first.values == tuple(values)


def test_compare_of_models_of_different_sizes_names_what_is_missing(tmp_path):
    one = write_hf(tmp_path / "one", make_model(INTERNLM), INTERNLM)
    smaller = replace(INTERNLM, layers=2)
    comparison = converters.compare(one, write_hf(tmp_path / "two", make_model(smaller), smaller))
    assert not comparison.same
    assert comparison.first.tensor.startswith("layers.2.")
    assert "first" in comparison.first.what


@FAMILY
def test_compare_with_the_same_model_rounded_says_by_how_much(tmp_path, dims):
    wide = make_model(replace(dims, dtype="float32"))
    narrow = {
        name: to_bits(to_torch(array, "float32").bfloat16().reshape(array.shape))
        for name, array in wide.items()
    }
    one = write_original(tmp_path / "one", wide, replace(dims, dtype="float32"), 2)
    comparison = converters.compare(one, write_hf(tmp_path / "two", narrow, dims))
    largest = max(
        float((to_torch(wide[n], "float32") - to_torch(narrow[n], "bfloat16").float()).abs().max())
        for n in wide
    )
    assert comparison.verdict == "rounded"
    assert comparison.max_error == largest


@FAMILY
def test_compare_of_a_copy_is_identical(tmp_path, dims):
    one = write_original(tmp_path / "one", make_model(dims), dims, 2)
    other = write_original(tmp_path / "other", make_model(dims), dims, 2, how=Variant(storage="shared"))
    assert converters.compare(one, other).verdict == "identical"


@pytest.fixture
def disagreeing(tmp_path):
    """A rank's copy of a norm is another."""
    src = write_original(tmp_path / "disagreeing", make_model(INTERNLM), INTERNLM, 2)
    state = torch.load(src / "model_tp1_pp0.pt", weights_only=True)
    state["norm.weight"].view(torch.int16)[-1] ^= 1
    torch.save(state, src / "model_tp1_pp0.pt")
    return src


@pytest.mark.parametrize(
    "read",
    [
        converters.fingerprint,
        lambda src: list(converters.read_tensors(converters.open_checkpoint(src))),
        lambda src: converters.compare(src, src),
    ],
    ids=["fingerprint", "read_tensors", "compare"],
)
def test_ranks_that_disagree_are_no_checkpoint_whoever_reads_it(disagreeing, read):
    with pytest.raises(IntegrityError, match=r"norm\.weight differs between ranks.*model_tp1_pp0\.pt"):
        read(disagreeing)


def test_compare_of_another_grid_or_another_cut_is_of_another_layout(tmp_path):
    model = make_model(INTERNLM)
    one = write_original(tmp_path / "one", model, INTERNLM)
    for other in (
        write_original(tmp_path / "tp2", model, INTERNLM, 2),
        write_original(tmp_path / "pp2", model, INTERNLM, 1, (1, 2)),
        write_original(tmp_path / "w2", model, INTERNLM, how=Variant(w2_is_up=False)),
    ):
        assert converters.compare(one, other).verdict == "same values, other layout"


def test_compare_of_heads_that_are_grouped_otherwise_is_different(tmp_path):
    """The same tensors by name, shape and bytes."""
    one = write_hf(tmp_path / "one", make_model(INTERNLM2), INTERNLM2, "llama")
    half = replace(INTERNLM2, heads=8, kv_heads=4)
    comparison = converters.compare(one, write_hf(tmp_path / "two", make_model(INTERNLM2), half, "llama"))
    assert comparison.verdict == "different"
    assert "grouped" in comparison.first.what


def test_zeros_of_other_signs_are_different_though_no_value_is(tmp_path):
    models = [make_model(INTERNLM), make_model(INTERNLM)]
    for model, zero in zip(models, (0, 0x8000), strict=True):
        model["model.norm.weight"][3] = zero
    one, other = (write_hf(tmp_path / str(n), model, INTERNLM) for n, model in enumerate(models))
    comparison = converters.compare(one, other)
    assert (comparison.verdict, comparison.max_error) == ("different", 0)
    assert (comparison.first.tensor, comparison.first.index) == ("norm.weight", (3,))


def test_a_nan_is_the_same_in_a_wider_type_whatever_its_payload(tmp_path):
    dims = replace(INTERNLM, dtype="float32")
    model = {name: array & 0xFFFF0000 for name, array in make_model(dims).items()}  # bfloat16's precision
    model["model.norm.weight"][3] = 0x7FA00001
    src = write_hf(tmp_path / "src", model, dims)
    converters.convert(src, tmp_path / "dst", to="hf", dtype="bfloat16")
    assert converters.compare(src, tmp_path / "dst").verdict == "same values, other layout"


def test_fingerprint_of_a_broken_checkpoint_is_refused(tmp_path):
    src = write_original(tmp_path / "src", make_model(INTERNLM), INTERNLM, 2)
    (src / "model_tp1_pp0.pt").write_bytes((src / "model_tp1_pp0.pt").read_bytes()[:-200])
    with pytest.raises(ZooError, match=r"model_tp1_pp0\.pt"):
        converters.fingerprint(src)


def test_a_fact_that_decides_what_is_what_can_be_given(zoo, tmp_path):
    """w2 and w3 of equal shapes: refused, until one is told which is which."""
    dims = replace(INTERNLM, inter=2 * INTERNLM.hidden)
    src = write_original(tmp_path / "src", make_model(dims), dims, 2)
    assert zoo("fingerprint", src)[0] == 2
    code, out, _ = zoo("fingerprint", src, "--set", "mlp_order=down_up", "--json")
    assert code == 0
    converters.convert(src, tmp_path / "dst", to="llama", given={"mlp_order": "down_up"})
    assert json.loads(out) == converters.fingerprint(tmp_path / "dst")
    assert zoo("compare", src, tmp_path / "dst", "--set", "mlp_order=down_up")[0] == 0
    assert zoo("compare", src, tmp_path / "dst", "--set", "mlp_order=up_down")[0] == 1


OTHER_CONFIGS = {
    "rope_theta": ({"rope_theta": 5000000}, "rope_theta 1000000 against 5000000"),
    "rope_scaling": (
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
        "rope_scaling None against {'type': 'dynamic', 'factor': 2.0}",
    ),
    "rms_norm_eps": ({"rms_norm_eps": 1e-6}, "rms_norm_eps 1e-05 against 1e-06"),
}


@pytest.mark.parametrize("names", ["hf", "llama"])
@pytest.mark.parametrize("fact", OTHER_CONFIGS)
def test_compare_of_the_same_tensors_with_another_config_is_not_identical(tmp_path, zoo, fact, names):
    config, told = OTHER_CONFIGS[fact]
    model = make_model(INTERNLM2)
    one = write_hf(tmp_path / "one", model, INTERNLM2)
    other = write_hf(tmp_path / "other", model, INTERNLM2, names, **config)
    code, out, _ = zoo("compare", one, other)
    assert (code, " ".join(out.split())) == (1, f"same tensors, other config: {told}")


def test_how_far_a_model_reaches_counts_where_rotation_is_scaled_and_nowhere_else(tmp_path):
    model, scaling = make_model(INTERNLM2), {"type": "dynamic", "factor": 2.0}
    for number, (scaled, same) in enumerate(((None, True), (scaling, False))):
        folders = [
            write_hf(
                tmp_path / f"{number}-{length}",
                model,
                INTERNLM2,
                rope_scaling=scaled,
                max_position_embeddings=length,
            )
            for length in (512, 1024)
        ]
        assert converters.compare(*folders).same is same


def test_compare_of_rounded_weights_names_the_config_too(tmp_path, zoo):
    src = write_hf(tmp_path / "src", make_model(INTERNLM2), INTERNLM2)
    converters.convert(src, tmp_path / "wide", to="hf", dtype="float32", given={"rope_theta": 10000})
    code, out, _ = zoo("compare", src, tmp_path / "wide", "--json")
    found = json.loads(out)
    assert code == 1
    assert (found["verdict"], found["config"]) == (
        "same tensors, other config",
        [["rope_theta", 1000000, 10000]],
    )


def test_verify_names_a_config_that_was_edited_after_the_conversion(tmp_path, zoo):
    src = write_hf(tmp_path / "src", make_model(INTERNLM2), INTERNLM2)
    converters.convert(src, tmp_path / "dst", to="llama")
    assert zoo("verify", tmp_path / "dst")[0] == 0
    config = json.loads((tmp_path / "dst/config.json").read_text())
    for edit in ({"rope_theta": 10000}, {"torch_dtype": "float16"}):
        (tmp_path / "dst/config.json").write_text(json.dumps(config | edit, indent=2))
        code, out, err = zoo("verify", tmp_path / "dst")
        assert code == 1
        assert "config.json" in out + err

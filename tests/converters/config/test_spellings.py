"""One fact has one value, however a config spells it: read once, written everywhere, and stock transformers
agrees.
"""

from __future__ import annotations

import json

import pytest
import torch

import converters
from converters.errors import IntegrityError, UnsupportedError, UsageError
from tests.converters.oracle import (
    BOTH,
    INTERNLM,
    INTERNLM2,
    make_model,
    read_config,
    write_hf,
    write_original,
)
from tests.converters.refusal import refused

FAMILY = pytest.mark.parametrize("dims", BOTH, ids=lambda dims: dims.family)
DYNAMIC = {"type": "dynamic", "factor": 2.0}


@pytest.fixture
def newer(tmp_path):
    """A checkpoint as transformers 5 writes its config, with these keys changed or, with ..., left out."""

    def write(name="src", dims=INTERNLM2, names="llama", **config):
        own = {
            "torch_dtype": ...,
            "dtype": "bfloat16",
            "rope_theta": ...,
            "rope_scaling": ...,
            "rope_parameters": {"rope_theta": 1000000, "rope_type": "default"},
        }
        return write_hf(tmp_path / name, make_model(dims), dims, names, **own | config)

    return write


def written(folder):
    return json.loads((folder / "config.json").read_text())


def stock(folder):
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, local_files_only=True)


# --- one value in what is written ---------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["llama", "hf"])
def test_a_new_element_type_is_said_in_every_spelling(tmp_path, newer, names):
    converters.convert(newer(names=names), tmp_path / "dst", to=names, dtype="float16")
    config = written(tmp_path / "dst")
    assert (config["dtype"], config["torch_dtype"]) == ("float16", "float16")
    if names == "llama":
        assert stock(tmp_path / "dst").dtype is torch.float16


def test_a_config_that_names_another_type_than_the_tensors_have_is_said_and_put_right(tmp_path, newer):
    src = newer(dtype="float16")
    report = converters.convert(src, tmp_path / "dst", to="llama")
    assert "its config says dtype float16, and its tensors are bfloat16, which counts" in report.notes
    assert stock(tmp_path / "dst").dtype is torch.bfloat16


def test_a_base_that_is_given_is_what_stock_transformers_takes(tmp_path, newer):
    converters.convert(newer(), tmp_path / "dst", to="llama", given={"rope_theta": 10000})
    assert stock(tmp_path / "dst").rope_parameters == {"rope_theta": 10000, "rope_type": "default"}
    assert written(tmp_path / "dst")["rope_theta"] == 10000


@pytest.mark.parametrize("scaling", [DYNAMIC, {"rope_type": "dynamic", "factor": 2}])
def test_a_scaling_that_is_given_leaves_the_base_as_it_was(tmp_path, newer, scaling):
    converters.convert(newer(), tmp_path / "dst", to="llama", given={"rope_scaling": scaling})
    seen = stock(tmp_path / "dst").rope_parameters
    assert (seen["rope_theta"], seen["rope_type"], seen["factor"]) == (1000000, "dynamic", 2.0)
    # transformers 4.37 takes these two fields and no other, and a factor that is a float.
    config = written(tmp_path / "dst")
    assert (config["rope_scaling"], config["rope_theta"]) == (DYNAMIC, 1000000)
    assert isinstance(config["rope_scaling"]["factor"], float)


def test_what_transformers_5_wrote_is_read_by_transformers_4_after_a_conversion(tmp_path, newer):
    rope = {"rope_theta": 1000000, "rope_type": "dynamic", "factor": 2.0}
    converters.convert(newer(rope_parameters=rope), tmp_path / "dst", to="llama")
    config = written(tmp_path / "dst")
    assert (config["rope_theta"], config["rope_scaling"], config["torch_dtype"]) == (1e6, DYNAMIC, "bfloat16")
    assert stock(tmp_path / "dst").rope_parameters == rope | {"type": "dynamic"}


def test_internlms_rotary_follows_a_base_that_is_given(tmp_path):
    own = {"rope_theta": ..., "rope_scaling": ..., "rotary": {"base": 10000, "type": "origin"}}
    src = write_hf(tmp_path / "src", make_model(INTERNLM), INTERNLM, **own)
    converters.convert(src, tmp_path / "dst", to="hf", given={"rope_theta": 50000})
    assert written(tmp_path / "dst")["rotary"] == {"base": 50000, "type": "origin"}


def test_an_original_config_follows_a_scaling_that_is_given(tmp_path):
    src = write_original(tmp_path / "src", make_model(INTERNLM2), INTERNLM2)
    converters.convert(src, tmp_path / "dst", to="original", given={"rope_scaling": DYNAMIC})
    config = read_config(tmp_path / "dst")
    assert (config["rope_scaling"], config["use_dynamic_ntk_rope"]) == (DYNAMIC, True)


@pytest.mark.parametrize("key", ["dtype", "torch_dtype", "mlp_ratio"])
def test_what_the_tensors_say_cannot_be_given(tmp_path, newer, key):
    message = refused(newer(), tmp_path / "dst", UsageError, to="llama", given={key: "float16"})
    assert "`dtype`" in message


# --- contradictions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        ({"rope_theta": 10000}, "rope_theta and rope_parameters"),
        ({"rope_scaling": DYNAMIC}, "rope_scaling and rope_parameters"),
        ({"rope_scaling": None, "rope_parameters": DYNAMIC}, "rope_scaling and rope_parameters"),
    ],
)
def test_spellings_that_contradict_each_other_are_refused_by_name(tmp_path, newer, config, keys):
    src = newer(**config)
    message = refused(src, tmp_path / "dst", IntegrityError, to="original", given={"adapt_hf": True})
    assert f"{keys} contradict each other" in message
    fact = keys.partition(" ")[0]
    assert f"given={{{fact!r}: VALUE}}" in message
    given = {"rope_theta": 20000, "rope_scaling": None}
    converters.convert(src, tmp_path / "dst", to="llama", given=given)
    assert stock(tmp_path / "dst").rope_parameters["rope_theta"] == 20000


@FAMILY
@pytest.mark.parametrize("dynamic", [True, False])
def test_use_dynamic_ntk_rope_and_rope_scaling_must_agree(tmp_path, dims, dynamic):
    contrary = None if dynamic else DYNAMIC
    src = write_original(tmp_path / "src", make_model(dims), dims, use_dynamic_ntk_rope=dynamic)
    torch.save({**read_config(src), "rope_scaling": contrary}, src / "model_config.pt")
    message = refused(src, tmp_path / "dst", IntegrityError)
    assert "use_dynamic_ntk_rope" in message
    assert "rope_scaling" in message


def test_spellings_that_agree_are_no_contradiction(newer):
    source = converters.open_checkpoint(
        newer(rope_theta=1000000.0, rope_scaling=None, torch_dtype="bfloat16")
    )
    assert source.facts["rope_theta"].value == 1000000


# --- rotary scaling that means nothing ----------------------------------------------------------------------

NONSENSE = {
    "no factor": ({"type": "dynamic"}, "factor"),
    "no type": ({"factor": 2.0}, "no type"),
    "a string": ("dynamic", "table of fields"),
    "a list": ([2.0], "table of fields"),
    "two types": ({"type": "linear", "rope_type": "dynamic", "factor": 2.0}, "differ"),
    "factor that is a string": ({"type": "linear", "factor": "2"}, "not a number"),
    "factor that is a flag": ({"type": "linear", "factor": True}, "not a number"),
    "factor that is infinite": ({"type": "linear", "factor": float("inf")}, "factor is inf"),
    "factor that is none": ({"type": "linear", "factor": float("nan")}, "factor is nan"),
    "factor that is huge": ({"type": "linear", "factor": 10**60}, "factor is 1000"),
    "factor that is negative": ({"type": "linear", "factor": -2.0}, "factor is -2.0"),
    "llama3 without its frequencies": ({"rope_type": "llama3", "factor": 8.0}, "low_freq_factor"),
    "llama3 with its frequencies exchanged": (
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0}
        | {"original_max_position_embeddings": 64},
        "low_freq_factor is not below",
    ),
    "yarn with its borders exchanged": (
        {"rope_type": "yarn", "factor": 4.0, "beta_fast": 1},
        "beta_slow is not",
    ),
    "longrope without a list": ({"rope_type": "longrope", "short_factor": 1, "long_factor": 2}, "not a list"),
    "longrope of one position": (
        {
            "rope_type": "longrope",
            "short_factor": [1],
            "long_factor": [2],
            "original_max_position_embeddings": 1,
        },
        "positions",
    ),
}
UNKNOWN = {
    "type": ({"type": "spiral", "factor": 2.0}, "spiral"),
    "field": ({"type": "linear", "factor": 2.0, "beta": 1}, "beta"),
    "part of the head": ({"type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5}, "partial"),
}


def scaled(tmp_path, layout, scaling):
    """A checkpoint whose config says this scaling."""
    src = tmp_path / "src"
    if layout == "original":
        write_original(src, make_model(INTERNLM2), INTERNLM2)
        torch.save({**read_config(src), "rope_scaling": scaling}, src / "model_config.pt")
        return src
    key = "rope_parameters" if layout == "rope_parameters" else "rope_scaling"
    silent = {"rope_theta": ..., "rope_scaling": ...} if key == "rope_parameters" else {}
    names = "hf" if layout == "hf" else "llama"
    return write_hf(src, make_model(INTERNLM2), INTERNLM2, names, **silent | {key: scaling})


@pytest.mark.parametrize("layout", ["original", "hf", "llama", "rope_parameters"])
@pytest.mark.parametrize("what", NONSENSE)
def test_scaling_that_makes_no_sense_is_refused_at_reading(tmp_path, layout, what):
    scaling, word = NONSENSE[what]
    src = scaled(tmp_path, layout, scaling)
    with pytest.raises(IntegrityError, match=r"rope_(scaling|parameters) is|no number of JSON") as caught:
        converters.open_checkpoint(src)
    assert word in caught.value.what or "no number of JSON" in caught.value.what
    assert len(caught.value.what) < 300


@pytest.mark.parametrize("layout", ["original", "hf", "llama"])
def test_longrope_of_another_head_is_refused_at_reading(tmp_path, layout):
    scaling = {"rope_type": "longrope", "short_factor": [1.0] * 3, "long_factor": [2.0] * 3}
    with pytest.raises(IntegrityError, match=r"short_factor has 3 numbers, for \d+ pairs"):
        converters.open_checkpoint(scaled(tmp_path, layout, scaling))


@pytest.mark.parametrize("layout", ["original", "hf", "llama"])
@pytest.mark.parametrize("what", UNKNOWN)
def test_scaling_that_stock_llama_does_not_know_is_refused_at_reading(tmp_path, layout, what):
    scaling, word = UNKNOWN[what]
    with pytest.raises(UnsupportedError, match="rope_scaling is") as caught:
        converters.open_checkpoint(scaled(tmp_path, layout, scaling))
    assert word in caught.value.what


@pytest.mark.parametrize("scaling", [{"type": "dynamic"}, "dynamic"])
def test_what_is_given_stands_in_for_scaling_that_makes_no_sense(tmp_path, newer, scaling):
    src = newer(rope_scaling=scaling, rope_theta=1000000, rope_parameters=...)
    converters.convert(src, tmp_path / "dst", to="llama", given={"rope_scaling": DYNAMIC})
    assert written(tmp_path / "dst")["rope_scaling"] == DYNAMIC


@pytest.mark.parametrize("theta", ["1e6", 0, -10000.0, float("nan"), float("inf"), 10**60, True, [10000]])
@pytest.mark.parametrize("names", ["hf", "llama"])
def test_a_base_that_is_no_number_is_refused_at_reading(tmp_path, names, theta):
    src = write_hf(tmp_path / "src", make_model(INTERNLM2), INTERNLM2, names, rope_theta=theta)
    with pytest.raises(IntegrityError, match=r"rope_theta is|no number of JSON"):
        converters.open_checkpoint(src)


def test_so_is_one_of_internlms_rotary_and_of_an_original_config(tmp_path):
    own = {"rope_theta": ..., "rope_scaling": ..., "rotary": {"base": "10000", "type": "origin"}}
    with pytest.raises(IntegrityError, match="rotary is"):
        converters.open_checkpoint(write_hf(tmp_path / "hf", make_model(INTERNLM), INTERNLM, **own))
    src = write_original(tmp_path / "original", make_model(INTERNLM2), INTERNLM2, rope_base="1e6")
    with pytest.raises(IntegrityError, match="rope_base is"):
        converters.open_checkpoint(src)


KNOWN = [
    {"rope_type": "linear", "factor": 4.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256,
    },
]


@pytest.mark.parametrize("scaling", KNOWN, ids=lambda scaling: scaling["rope_type"])
def test_every_type_that_stock_llama_computes_comes_through(tmp_path, newer, scaling):
    """On the way to internlm2's names and back, as stock transformers sees it."""
    src = newer(rope_parameters={"rope_theta": 1000000, **scaling})
    converters.convert(src, tmp_path / "hf", to="hf", given={"family": "internlm2"})
    converters.convert(tmp_path / "hf", tmp_path / "dst", to="llama")
    seen = stock(tmp_path / "dst").rope_parameters
    assert {key: seen[key] for key in scaling} == scaling
    assert seen["rope_theta"] == 1000000

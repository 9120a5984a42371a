"""The way back to the original format writes what was there, and says who reads what is written."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

import converters
from tests.converters.bits import assert_same_cells
from tests.converters.oracle import (
    INTERNLM,
    INTERNLM2,
    Variant,
    cells,
    make_model,
    read_cells,
    read_config,
    write_hf,
    write_original,
)

EVEN = replace(INTERNLM, inter=32)  # w2 and w3 have the same shape
POSITIONS = {"max_position_embeddings": 64}
VARIANTS = {
    "up_down": (INTERNLM, Variant(w2_is_up=True)),
    "down_up": (INTERNLM, Variant(w2_is_up=False)),
    "embedding by vocabulary": (INTERNLM, Variant(embed_split_hidden=False)),
    "interleaved pairs": (INTERNLM2, Variant(adapt_hf=False)),
    "q, k, v apart": (INTERNLM2, Variant(fused=False)),
    "all else": (INTERNLM2, Variant(fused=False, adapt_hf=False, embed_split_hidden=False)),
}


@pytest.mark.parametrize("way", [("hf",), ("llama",), ("hf", "llama", "hf")], ids="-".join)
@pytest.mark.parametrize("name", VARIANTS)
def test_original_to_others_and_back_is_the_same_without_options(tmp_path, name, way):
    dims, how = VARIANTS[name]
    model = make_model(dims)
    here = write_original(tmp_path / "first", model, dims, 2, (1, 2), how)
    again = tmp_path / "again"  # what this program writes of the same grid, without a way round
    converters.convert(here, again, to="original", tp=2, pp=2)
    for number, to in enumerate(way):
        converters.convert(here, tmp_path / str(number), to=to, given=POSITIONS if number == 0 else None)
        here = tmp_path / str(number)
    converters.convert(here, tmp_path / "back", to="original", tp=2, pp=2)
    assert_same_cells(read_cells(tmp_path / "back"), cells(model, dims, 2, (1, 2), how))
    for cell in again.glob("model_tp*.pt"):
        assert (tmp_path / "back" / cell.name).read_bytes() == cell.read_bytes()


def up_of(folder):
    """Which of the two an InternEvo job would call up: 'w2' or 'w3', by the shapes torch reads."""
    state = torch.load(folder / "model_tp0_pp0.pt", weights_only=True)
    return "w2" if state["blocks.0.mlp.w2.weight"].shape[0] == INTERNLM.inter else "w3"


ORDERS = {
    "up_down": ("w2", "convert2hf_internlm.py reads them"),
    "down_up": ("w3", "training code reads them"),
}


@pytest.mark.parametrize("order", ORDERS)
def test_the_order_that_was_written_is_said_with_who_reads_it(zoo, tmp_path, order):
    src = write_hf(tmp_path / "src", make_model(INTERNLM), INTERNLM)
    up, said = ORDERS[order]
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "original", "--mlp-order", order)
    assert (code, up_of(tmp_path / "dst")) == (0, up)
    assert f"(mlp_order {order}), as" in err and said in err
    code, _, err = zoo(
        "convert", src, tmp_path / "plan", "--to", "original", "--mlp-order", order, "--dry-run"
    )
    assert code == 0 and f"(mlp_order {order})" in err


def test_what_never_was_an_original_is_written_for_the_training_code(zoo, tmp_path):
    src = write_hf(tmp_path / "src", make_model(INTERNLM), INTERNLM)
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "original")
    assert (code, up_of(tmp_path / "dst")) == (0, "w3")
    assert "mlp_order down_up" in err and "--mlp-order up_down" in err
    assert "so it was" not in err


def test_an_order_that_is_given_goes_before_the_one_that_was(zoo, tmp_path):
    src = write_original(tmp_path / "src", make_model(INTERNLM), INTERNLM)
    converters.convert(src, tmp_path / "hf", to="hf", given=POSITIONS)
    code, _, err = zoo("convert", tmp_path / "hf", tmp_path / "same", "--to", "original")
    assert code == 0 and "so it was in the checkpoint that the source came from" in err
    converters.convert(tmp_path / "hf", tmp_path / "other", to="original", given={"mlp_order": "down_up"})
    assert (up_of(tmp_path / "same"), up_of(tmp_path / "other")) == ("w2", "w3")


def test_an_order_that_shapes_do_not_tell_comes_back_too(tmp_path):
    model = make_model(EVEN)
    src = write_original(tmp_path / "src", model, EVEN, how=Variant(w2_is_up=True))
    converters.convert(src, tmp_path / "hf", to="hf", given={**POSITIONS, "mlp_order": "up_down"})
    converters.convert(tmp_path / "hf", tmp_path / "back", to="original")
    assert read_config(tmp_path / "back")["mlp_order"] == "up_down"
    assert_same_cells(read_cells(tmp_path / "back"), cells(model, EVEN, how=Variant(w2_is_up=True)))


def test_another_familys_record_says_nothing_of_a_target(tmp_path):
    """A record that was copied beside other weights."""
    how = Variant(embed_split_hidden=False)
    first = write_original(tmp_path / "first", make_model(INTERNLM), INTERNLM, how=how)
    converters.convert(first, tmp_path / "hf", to="hf", given=POSITIONS)
    other = write_hf(tmp_path / "other", make_model(INTERNLM2), INTERNLM2)
    shutil.copy(tmp_path / "hf/conversion.json", other)
    converters.convert(other, tmp_path / "back", to="original")
    assert_same_cells(read_cells(tmp_path / "back"), cells(make_model(INTERNLM2), INTERNLM2))

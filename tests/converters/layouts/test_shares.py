"""A rank's share of a model in any layout: the slices that one makes by hand, and together all of it."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from converters.errors import UnsupportedError, UsageError
from converters.geometry.cells import Grid, cells
from converters.geometry.logical import shape_of
from converters.geometry.shares import share_of
from converters.layouts import LAYOUTS, layout_of
from tests.converters.bits import columns_of, rows_of
from tests.converters.oracle import INTERNLM, INTERNLM2, Variant, expected, make_model
from tests.converters.oracle import cells as cut_by_hand

SMALL = replace(INTERNLM2, layers=2, hidden=32, heads=8, kv_heads=4, inter=48)  # two queries per key
LLAMA = {
    "embed.weight": "model.embed_tokens.weight",
    "attention_norm.weight": "input_layernorm.weight",
    "mlp_norm.weight": "post_attention_layernorm.weight",
    "norm.weight": "model.norm.weight",
    "head.weight": "lm_head.weight",
}
PLAIN = {"attention_bias": False, "mlp_bias": False, "kind": "causal", "tie_word_embeddings": False}


def sizes_of(dims):
    return {
        "layers": dims.layers,
        "vocab": dims.vocab,
        "hidden": dims.hidden,
        "inter": dims.inter,
        "kv_heads": dims.kv_heads,
        "q_per_kv": dims.heads // dims.kv_heads,
        "halves": 2,
        "pairs": dims.head_dim // 2,
        "head_dim": dims.head_dim,
        "score": 1,
    }


def stock_name(logical):
    if not logical.startswith("layers."):
        return LLAMA[logical]
    _, number, inside = logical.split(".", 2)
    part = inside.split(".")
    stems = {"attention": f"self_attn.{part[1]}_proj", "mlp": f"mlp.{part[1]}_proj"}
    return f"model.layers.{number}." + LLAMA.get(inside, f"{stems.get(part[0])}.{part[-1]}")


def filled(cell, model, sizes):
    """The stored tensor that a cell describes."""
    out = np.zeros(cell.shape, np.uint16)
    steps = out.strides
    for slab in cell.slabs:
        whole = model[stock_name(slab.logical)].reshape(shape_of(slab.logical, sizes))
        values = whole[tuple(slice(*axis) for axis in slab.box)]
        if values.size:
            strides = [steps[dim] * step for dim, step in slab.steps]
            as_strided(out[tuple(slice(n, None) for n in slab.base)], values.shape, strides)[...] = values
    return out


def shares(layout, dims, of, choices=PLAIN):
    model, sizes = make_model(dims), sizes_of(dims)
    for rank in range(of):
        held = share_of(layout, choices, sizes, rank, of)
        yield rank, {cell.name: filled(cell, model, sizes) for cell in held}


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("of", [1, 2, 4])
def test_llama_is_cut_by_columns_then_rows(of):
    whole = expected(make_model(SMALL), SMALL, "llama")
    for rank, found in shares(layout_of("llama", "llama"), SMALL, of):
        wanted = {
            name: columns_of(array, rank, of)
            if "o_proj" in name or "down_proj" in name
            else array
            if "norm" in name
            else rows_of(array, rank, of)
            for name, array in whole.items()
        }
        assert_equal(found, wanted)


@pytest.mark.parametrize("of", [1, 2, 4])
def test_a_grouped_wqkv_is_cut_between_its_groups(of):
    whole = expected(make_model(SMALL), SMALL, "hf")
    for rank, found in shares(layout_of("internlm2", "hf"), SMALL, of):
        for name, array in whole.items():
            along = columns_of if name.endswith(("wo.weight", "w2.weight")) else rows_of
            assert np.array_equal(found[name], array if "norm" in name else along(array, rank, of)), name


@pytest.mark.parametrize("dims", [INTERNLM, SMALL], ids=lambda dims: dims.family)
@pytest.mark.parametrize("by_hidden", [True, False])
def test_an_original_share_is_what_its_rank_saves(dims, by_hidden):
    how = Variant(embed_split_hidden=by_hidden, w2_is_up=False)
    choices = {"embed_split_hidden": by_hidden, "adapt_hf": True, "qkv": "fused", "norm_head": False}
    choices |= {"mlp_order": "down_up", "attention_bias": dims.biased}
    for rank, found in shares(layout_of(dims.family, "original"), dims, 4, choices):
        assert_equal(found, cut_by_hand(make_model(dims), dims, 4, (), how)[rank, 0])


def test_of_fewer_key_value_heads_than_ranks_each_is_held_by_several():
    """Two keys with four queries each for four ranks: two queries, and the whole key that they attend to."""
    dims = replace(SMALL, kv_heads=2)
    whole = expected(make_model(dims), dims, "llama")
    at, head = "model.layers.0.self_attn.", dims.head_dim
    for rank, found in shares(layout_of("llama", "llama"), dims, 4):
        queries, key = slice(2 * rank * head, 2 * (rank + 1) * head), rank // 2
        assert np.array_equal(found[f"{at}q_proj.weight"], whole[f"{at}q_proj.weight"][queries])
        assert np.array_equal(found[f"{at}o_proj.weight"], whole[f"{at}o_proj.weight"][:, queries])
        for name in (f"{at}k_proj.weight", f"{at}v_proj.weight"):
            assert np.array_equal(found[name], whole[name][key * head : (key + 1) * head])


@pytest.mark.parametrize(
    "dims", [replace(SMALL, kv_heads=4), replace(SMALL, heads=12, hidden=48, kv_heads=4)]
)
def test_part_of_a_head_or_an_uneven_mlp_is_refused_with_both_numbers(dims):
    llama = layout_of("llama", "llama")
    with pytest.raises(UnsupportedError, match="6 ranks cannot share the 4 kv_heads"):
        share_of(llama, PLAIN, sizes_of(dims), 0, 6)
    with pytest.raises(UnsupportedError, match="4 ranks cannot share the 50 inter"):
        share_of(llama, PLAIN, sizes_of(replace(dims, inter=50)), 0, 4)
    with pytest.raises(UsageError, match="no rank 4 of 4"):
        share_of(llama, PLAIN, sizes_of(dims), 4, 4)


@pytest.mark.parametrize(("vocab", "rows"), [(65, [17, 17, 17, 14]), (5, [2, 2, 1, 0]), (1, [1, 0, 0, 0])])
def test_an_odd_vocabulary_is_cut_as_torch_chunks_it(vocab, rows):
    dims = replace(SMALL, vocab=vocab)
    model = make_model(dims)
    found = [held for _, held in shares(layout_of("llama", "llama"), dims, 4)]
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert [len(held[name]) for held in found] == rows
        assert np.array_equal(np.concatenate([held[name] for held in found]), model[name])


@st.composite
def models(draw):
    layout = draw(st.sampled_from(LAYOUTS))
    choices = {name: draw(st.sampled_from(values)) for name, values in layout.choices.items()}
    of, heads = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    few = draw(st.booleans()) and layout.family != "internlm"  # which has a key for every query
    sizes = {
        "layers": draw(st.integers(1, 2)),
        "vocab": draw(st.integers(1, 20)),
        "hidden": of * draw(st.integers(1, 3)),
        "inter": of * draw(st.integers(1, 3)),
        "kv_heads": next(n for n in range(min(of, heads), 0, -1) if of % n == 0) if few else of * heads,
        "halves": 2,
        "pairs": draw(st.integers(1, 2)),
        "score": 1,
    }
    sizes["q_per_kv"] = 1 if layout.family == "internlm" else draw(st.integers(1, 2)) * of
    return layout, choices, sizes | {"head_dim": 2 * sizes["pairs"]}, of


def volume(box):
    return math.prod(stop - start for start, stop in box)


@settings(max_examples=150)
@given(models())
def test_the_ranks_shares_are_apart_and_together_every_tensor_once(case):
    """What several ranks hold alike counts once."""
    layout, choices, sizes, of = case
    boxes = {}
    for rank in range(of):
        for cell in share_of(layout, choices, sizes, rank, of):
            covered = np.zeros(cell.shape, int)
            for slab in cell.slabs:
                boxes.setdefault(slab.logical, set()).add(slab.box)
                extents = [stop - start for start, stop in slab.box]
                for index in itertools.product(*map(range, extents)):
                    at = list(slab.base)
                    for n, (dim, step) in zip(index, slab.steps, strict=True):
                        at[dim] += n * step
                    covered[tuple(at)] += 1
            assert (covered == 1).all(), "a stored tensor is its slabs, each element once"
    one = Grid(1, (range(sizes["layers"]),))
    whole = {slab.logical for cell in cells(layout, choices, sizes, one) for slab in cell.slabs}
    assert boxes.keys() == whole
    for name, held in boxes.items():
        held = [box for box in held if volume(box)]
        assert sum(map(volume, held)) == math.prod(shape_of(name, sizes))
        for one_box, other in itertools.combinations(held, 2):
            assert any(a >= d or c >= b for (a, b), (c, d) in zip(one_box, other, strict=True))

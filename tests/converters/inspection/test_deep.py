"""`inspect --deep`: what the values say."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import converters
from converters.inspection.lines import LineSums
from converters.progress import NullProgress
from tests.converters.inspection.looking import DIMS, look, whats, with_tokenizer
from tests.converters.oracle import INTERNLM2, make_model, write_hf


def changed(folder, tensor, change):
    for path in folder.glob("*.safetensors"):
        state = load_file(path)
        if tensor in state:
            change(state[tensor])
            save_file(state, path, metadata={"format": "pt"})


NAME = "model.layers.2.feed_forward.w1.weight"
FAULTS = {
    "NaN": (lambda t: t[1, 2:4].fill_(float("nan")), "2 of 24,576 values are NaN"),
    "infinite": (lambda t: t[1, 2].fill_(float("-inf")), "1 of 24,576 values are infinite"),
    "zero": (lambda t: t.zero_(), "all of it is zero"),
    "constant rows": (lambda t: t[3:8].fill_(0.25), "5 of its rows hold one value each"),
    "too large": (lambda t: t.mul_(40), "times that of the same tensor in other layers"),
    "too small": (lambda t: t.mul_(0.01), "times that of the same tensor in other layers"),
}


@pytest.fixture
def plausible(tmp_path):
    """Weights as those of a model: normal, of one deviation."""
    torch.manual_seed(0)
    folder = with_tokenizer(write_hf(tmp_path / "plausible", make_model(DIMS), DIMS, files=2))
    for path in folder.glob("*.safetensors"):
        state = {name: torch.randn_like(tensor) * 0.02 for name, tensor in load_file(path).items()}
        save_file(state, path, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("fault", FAULTS)
def test_values_that_cannot_be_right_are_named_by_deep(plausible, fault):
    change, what = FAULTS[fault]
    assert look(plausible, deep=True)[1] == []
    changed(plausible, NAME, change)
    assert whats(plausible) == []
    findings = look(plausible, deep=True)[1]
    assert [where for _, where in findings] == ["layers.2.mlp.gate.weight"]
    assert what in findings[0][0]


def test_statistics_are_those_that_torch_computes(plausible):
    changed(plausible, NAME, lambda t: t[1, 2:4].fill_(0.0))
    (found,) = [
        one for one in look(plausible, deep=True)[0].statistics if one.name == "layers.2.mlp.gate.weight"
    ]
    state = {n: t for path in plausible.glob("*.safetensors") for n, t in load_file(path).items()}
    values = state[NAME].double()
    assert found.elements == values.numel()
    assert found.zeros == int((values == 0).sum())
    assert found.mean == pytest.approx(float(values.mean()), abs=1e-9)
    assert found.std == pytest.approx(float(values.std(unbiased=False)), rel=1e-6)
    assert (found.low, found.high) == (float(values.min()), float(values.max()))


def test_rows_and_columns_are_measured_as_numpy_measures_them(plausible):
    def change(tensor):
        tensor[40:43] = 0
        tensor[:, :8] *= 3

    changed(plausible, NAME, change)
    (found,) = [
        one for one in look(plausible, deep=True)[0].statistics if one.name == "layers.2.mlp.gate.weight"
    ]
    state = {n: t for path in plausible.glob("*.safetensors") for n, t in load_file(path).items()}
    squares = state[NAME].double().numpy() ** 2
    rows, columns = squares.sum(1), squares.sum(0)
    lines = found.lines
    assert lines.zero_rows == ((40, 43),)
    assert lines.row_spread == pytest.approx(rows.var() / (squares.shape[1] * squares.var()))
    assert lines.column_spread == pytest.approx(columns.var() / (squares.shape[0] * squares.var()))
    assert lines.column_spread > 10 > 3 > lines.row_spread
    sizes = np.sqrt(columns / squares.shape[0]).reshape(8, -1)
    assert lines.column_parts == pytest.approx(np.median(sizes, axis=1))


def test_random_numbers_of_any_distribution_have_a_spread_of_one():
    random = np.random.default_rng(0)
    for draw in (random.standard_normal, random.random, random.standard_exponential):
        sums = LineSums(256)
        for _ in range(4):
            sums.add(np.square(draw((128, 256)) - 0.5))
        lines = sums.result()
        assert 0.7 < lines.row_spread < 1.3 and 0.7 < lines.column_spread < 1.3


def test_the_values_of_a_checkpoint_that_does_not_open_are_looked_at_too(plausible):
    changed(plausible, NAME, lambda t: t[1, 2].fill_(float("nan")))
    (plausible / "config.json").unlink()
    findings = look(plausible, deep=True)[1]
    assert ("config.json is missing", "config.json") in findings
    assert any(what == "1 of 24,576 values are NaN" and where.endswith(NAME) for what, where in findings)


def test_norms_may_differ_from_layer_to_layer(plausible):
    changed(plausible, "model.layers.2.ffn_norm.weight", lambda t: t.mul_(40))
    assert look(plausible, deep=True)[1] == []


def test_deep_checks_side_cars(original):
    path = original / "model_tp0_pp0.pt"
    (original / "model_tp0_pp0.pt.md5").write_text(hashlib.md5(path.read_bytes()).hexdigest())
    deep = [what for what in whats(original, deep=True) if "MD5" in what]
    assert deep == []
    (original / "model_tp0_pp0.pt.md5").write_text("0" * 32)
    assert any("MD5" in what for what in whats(original, deep=True))


def test_deep_prints_statistics(zoo, plausible):
    code, out, _ = zoo("inspect", plausible, "--deep", "--json")
    assert code == 0
    assert len(json.loads(out)["statistics"]) == 2 + 1 + 9 * DIMS.layers
    code, out, _ = zoo("inspect", plausible, "--deep")
    assert (code, "Std" in out) == (0, True)


class Passed(NullProgress):
    """Bytes that were said to come, and that came."""

    def __init__(self):
        self.total = self.done = 0

    def start(self, task, total, done=0):
        self.total += total

    def advance(self, task, amount):
        self.done += amount


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2), ("float16", 2)])
@pytest.mark.parametrize("opens", [True, False])
def test_deep_says_how_many_bytes_it_reads(tmp_path, dtype, size, opens):
    # embedding and head, norm, and of the layer q and o, k and v, three of the mlp, two norms
    elements = 2 * 64 * 32 + 32 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32 + 2 * 32
    dims = replace(INTERNLM2, layers=1, hidden=32, heads=4, kv_heads=2, inter=48, dtype=dtype)
    src = write_hf(tmp_path / "src", make_model(dims), dims)
    if not opens:
        (src / "config.json").unlink()
    passed = Passed()
    found = converters.inspect(src, deep=True, progress=passed)
    assert (passed.total, passed.done, found.nbytes) == (size * elements,) * 3
    assert sum(one.elements for one in found.statistics) == elements


def test_deep_reads_nothing_of_quantised_weights(tmp_path):
    pytest.importorskip("gguf")
    dims = replace(INTERNLM2, layers=1, hidden=32, heads=4, kv_heads=2, inter=48)
    src = write_hf(tmp_path / "src", make_model(dims), dims)
    converters.convert(src, tmp_path / "dst", to="gguf", dtype="q8_0")
    passed = Passed()
    found = converters.inspect(tmp_path / "dst", deep=True, progress=passed)
    assert "quantised (Q8_0)" in found.findings[0].what
    assert (passed.total, passed.done, found.nbytes, found.statistics) == (0, 0, 0, ())

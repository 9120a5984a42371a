"""`iter_tensors` gives the tensors of a checkpoint one after another, whole or a rank's part of each."""

from __future__ import annotations

import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import internlm_zoo as zoo
from internlm_zoo.errors import UnsupportedError, UsageError
from tests.converters.oracle import INTERNLM2, expected, make_model, write_hf, write_original, write_tied
from tests.loading.demo import home_of
from tests.loading.test_mapping import wide

DIMS = replace(INTERNLM2, vocab=68)
MODEL = make_model(DIMS)
COLUMNS = ("o_proj.weight", "down_proj.weight", "wo.weight", "w2.weight")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Of one model: original checkpoints of several grids, hf and llama."""
    folder = tmp_path_factory.mktemp("sources")
    grids = {f"{tp}x{len(pp) or 1}": (tp, pp) for tp, pp in ((1, ()), (2, (1, 2)), (4, ()))}
    made = {name: write_original(folder / name, MODEL, DIMS, tp, pp) for name, (tp, pp) in grids.items()}
    return made | {names: write_hf(folder / names, MODEL, DIMS, names) for names in ("hf", "llama")}


def tensors(folder: Path, **how):
    return dict(zoo.iter_tensors(folder, settings=home_of(folder), **how))


def bits(tensor: torch.Tensor):
    return tensor.view(torch.int16).numpy().view("u2")


def joined(name: str, parts: list[torch.Tensor]) -> torch.Tensor:
    if "norm" in name:
        assert all(torch.equal(part, parts[0]) for part in parts)
        return parts[0]
    return torch.cat(parts, 1 if name.endswith(COLUMNS) else 0)


@settings(max_examples=10)
@given(
    st.sampled_from(["1x1", "2x2", "4x1", "hf", "llama"]),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from(["llama", "hf"]),
)
def test_the_parts_of_all_ranks_make_up_the_model(sources, source, tp, names):
    how = {"names": names, "tp": tp, "given": {"family": DIMS.family}}
    parts = [tensors(sources[source], rank=rank, **how) for rank in range(tp)]
    wanted = expected(MODEL, DIMS, names)
    assert parts[0].keys() == wanted.keys()
    for name, array in wanted.items():
        whole = joined(name, [part[name] for part in parts])
        assert tuple(whole.shape) == array.shape and (bits(whole) == array).all(), name


def test_they_are_of_the_type_that_is_asked_for(sources):
    stored, longer = (tensors(sources["2x2"], rank=1, tp=2, dtype=dtype) for dtype in (None, "float32"))
    for name, tensor in stored.items():
        assert tensor.dtype == torch.bfloat16 and torch.equal(longer[name], tensor.float())


def test_no_value_becomes_infinite_on_the_way(tmp_path):
    large = {**MODEL, "model.norm.weight": bits(torch.full((DIMS.hidden,), 1e5).bfloat16())}
    folder = write_hf(tmp_path / "large", large, DIMS)
    with pytest.raises(UnsupportedError, match=r"norm\.weight holds 99840, more than F16 can hold"):
        tensors(folder, dtype="float16")


def test_a_head_that_is_the_embedding_is_not_given_again(tmp_path):
    found = tensors(write_tied(tmp_path / "tied", MODEL, DIMS, "llama"))
    assert "model.embed_tokens.weight" in found and "lm_head.weight" not in found


def test_none_is_held_once_the_next_is_asked_for(sources):
    given = []
    for _, tensor in zoo.iter_tensors(sources["2x2"], settings=home_of(sources["2x2"])):
        assert not any(one() is not None for one in given)
        given.append(weakref.ref(tensor))
        del tensor
    assert len(given) == len(MODEL)


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ({"names": "original"}, UsageError, "names of 'original'"),
        ({"rank": 4, "tp": 4}, UsageError, "no rank 4 of 4"),
        ({"tp": 0}, UsageError, "it is 0"),
        ({"tp": 3}, UnsupportedError, "3 ranks cannot share the 8 kv_heads"),
        ({"names": "hf"}, UsageError, "family"),
        ({"dtype": "int8"}, UsageError, "'int8' is not a dtype"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(sources, how, error, said):
    folder = sources["llama"]  # of which nothing says whose it is
    with pytest.raises(error, match=said):
        zoo.iter_tensors(folder, settings=home_of(folder), **how)


# Prints how much more memory than before it took at most, in MB.
PEAK = """
import sys
from pathlib import Path
import torch
import internlm_zoo as zoo
from internlm_zoo.settings import Settings
def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024 / 1e6
settings = Settings(home=Path(sys.argv[1]), offline=True)
for name, tensor in zoo.iter_tensors(sys.argv[2], settings=settings):
    break
del tensor
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
before = status("VmRSS")
print(sum(tensor.nbytes for _, tensor in zoo.iter_tensors(sys.argv[2], settings=settings)) / 1e6)
print(status("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells")
def test_memory_is_that_of_the_largest_tensors(tmp_path):
    folder = wide(tmp_path / "wide")
    done = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path / "home", folder], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    total, peak = map(float, done.stdout.split())
    largest = 8192 * 2048 * 2 / 1e6
    assert total > 5 * largest
    assert peak < 2 * largest + 20  # the one that is here, the one that comes

"""`fit` is within 3 % of what models really take."""

from __future__ import annotations

import os

import pytest

from tests.fitting.measured import held_against

CASES = [
    ("internlm-7b", (512, 1, "bfloat16")),
    ("internlm2-7b", (768, 3, "float32")),
    ("internlm2-7b-reward", (512, 2, "bfloat16")),
    ("demo-internlm2-chat", (512, 8, "bfloat16")),
]


@pytest.mark.parametrize(("name", "load"), CASES)
def test_a_miniature_takes_what_fit_says(name, load, tmp_path):
    said, real = held_against(tmp_path, name, load)
    assert said.weights == pytest.approx(real.weights, abs=1024)
    assert said.cache == real.cache
    assert said.working == pytest.approx(real.peak - real.weights - real.cache, rel=0.03)
    assert said.total == pytest.approx(real.peak, rel=0.03)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["internlm2-7b", "internlm2-20b"])
def test_an_accelerator_is_asked_for_what_fit_says(name, tmp_path):
    """Where the allocator counts, its blocks of 512 bytes and workspaces of libraries are counted, too."""
    import torch

    device = os.environ.get("INTERNLM_ZOO_TEST_DEVICE") or "cuda:0"
    if device != "cpu" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
    said, real = held_against(tmp_path, name, (4096, 8, "bfloat16"), device)
    assert said.cache == real.cache
    assert said.total == pytest.approx(real.peak, rel=0.03)

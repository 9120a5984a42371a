"""`fit` is within 3 % of what models really take."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from internlm_zoo import fit
from internlm_zoo.miniatures.draw import draw_miniature
from internlm_zoo.registry import load_registry
from internlm_zoo.settings import Settings
from tests.fitting.measured import held_against

DOCUMENT = Path(__file__).parents[2] / "docs" / "fit.md"
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


def measured_rows():
    """Of docs/fit.md: model, dtype, texts and tokens, and bytes that CUDA's allocator counted in all."""
    table = DOCUMENT.read_text().partition("<!-- begin fit-cuda -->")[2].partition("<!-- end")[0]
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 8 and "float32" in cells:
            batch, context = map(int, cells[2].split(" x "))
            yield pytest.param(cells[0], batch, context, 1000 * sum(map(int, cells[3:6])), id=cells[0])


@pytest.mark.parametrize(("name", "batch", "context", "bytes_counted"), list(measured_rows()))
def test_what_fit_says_of_float32_is_what_a_gpu_was_measured_to_take(
    name, batch, context, bytes_counted, tmp_path
):
    settings = Settings(home=tmp_path / "home", offline=True)
    registry = load_registry(settings)
    draw_miniature(registry.model(name), registry, tmp_path)
    how = {"context": context, "batch": batch, "dtype": "float32", "known_as": name}
    found = fit(tmp_path, **how, settings=settings)
    assert found.need == pytest.approx(bytes_counted, rel=0.03)


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

"""`fit` against what is worked out by hand, what a brute search finds, and what a hub was asked for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import internlm_zoo as zoo_api
from internlm_zoo.demo.environment import BUNDLED
from internlm_zoo.fitting.cards import RESERVE, common_cards
from internlm_zoo.registry import load_registry
from internlm_zoo.settings import Settings
from tests.converters.oracle import INTERNLM2, make_model, write_hf
from tests.hubs import FaultyHub
from tests.loading.demo import MODELS

# internlm2-7b by its config.json: 32 layers of 8 key/value heads of 128, hidden 4096, mlp 14336, 92544 rows.
PARAMETERS = (
    2 * 92544 * 4096 + 32 * (4096 * (4096 + 2 * 1024) + 4096 * 4096 + 3 * 4096 * 14336 + 2 * 4096) + 4096
)
OVERLAY = """
models:
  tiny:
    display_name: Tiny
    family: internlm2
    size: 1m
    kind: base
    releases:
      - {hub: huggingface, repo: acme/hf, format: hf}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", offline=True)


def test_weights_and_cache_of_internlm2_7b_are_what_its_config_amounts_to(zoo):
    code, out, err = zoo("fit", "internlm2-7b", "--offline", "--json")
    found = json.loads(out)
    (rank,) = found["stages"]
    assert (code, err) == (0, "")
    assert found["parameters"] == PARAMETERS == 7_737_708_544
    assert rank["weights"] == 2 * PARAMETERS
    assert rank["cache"] == 2 * 32 * 8 * 128 * 32768 * 2 == 1 << 32
    assert found["context"] == found["trained"] == 32768 and found["source"] == "registry"


def test_the_largest_part_of_a_long_prompt_is_its_mlp(settings):
    found = zoo_api.fit("internlm2-7b", context=1000, settings=settings)
    mlp, stream, rotary, indices = 3 * 14336 * 2, 4 * 4096 * 2, 2 * 128 * 2, 3 * 8
    assert found.stages[0].activations == 1000 * (mlp + stream + rotary + indices)
    assert found.stages[0].logits == 92544 * (2 + 4) + 1000 * 4 * 8


def scores_of(settings, **how):
    """Bytes of activations that grow with the square of the tokens."""
    one, two = (
        zoo_api.fit("internlm2-7b", context=n, settings=settings, **how).stages[0] for n in (8000, 16000)
    )
    return two.activations - 2 * one.activations


@pytest.mark.parametrize(
    ("how", "heads"),
    [
        ({"dtype": "float32"}, 32),
        ({"dtype": "float32", "tp": 4}, 8),
        ({"dtype": "float32", "batch": 2}, 64),
        ({"dtype": "float32", "tp": 32}, 0),  # each rank has one head, and its keys
        ({"dtype": "bfloat16"}, 0),
    ],
)
def test_a_gpu_keeps_every_score_of_heads_that_share_keys_in_float32(settings, how, heads):
    mask = 4 if heads else 0
    assert scores_of(settings, **how) == (9 * heads + mask) * 2 * 8000 * 8000


def test_every_head_with_keys_of_its_own_keeps_no_scores_in_float32(settings):
    one, two = (
        zoo_api.fit("internlm-7b", context=n, dtype="float32", settings=settings) for n in (8000, 16000)
    )
    assert two.stages[0].activations == 2 * one.stages[0].activations


def test_the_longest_context_of_a_card_in_float32_is_that_of_the_scores(settings):
    """80 GB less 31 GB of weights hold 9 bytes x 32 heads x 12,200 tokens squared; the rest is small."""
    found = zoo_api.fit("internlm2-7b", context=512, dtype="float32", gpu_mem="80GB", settings=settings)
    assert 12_000 < found.verdicts[0].longest_context < 13_000


def test_ranks_hold_their_shares_and_whole_what_is_not_cut(settings):
    whole = zoo_api.fit("internlm2-7b", context=4096, settings=settings).stages[0]
    norms = 2 * (32 * 2 + 1) * 4096
    for tp in (2, 4, 8):
        rank = zoo_api.fit("internlm2-7b", context=4096, tp=tp, settings=settings).stages[0]
        assert rank.weights == (whole.weights - norms) // tp + norms
        assert rank.cache == whole.cache // tp
    keys = 2 * 2 * 32 * 1024 * 4096
    sixteen = zoo_api.fit("internlm2-7b", context=4096, tp=16, settings=settings).stages[0]
    assert sixteen.cache == whole.cache // 8, "each of 16 ranks keeps one of 8 key/value heads"
    assert sixteen.weights == (whole.weights - norms - keys) // 16 + keys // 8 + norms


def test_stages_hold_all_layers_once_and_the_ends_at_the_ends(settings):
    whole = zoo_api.fit("internlm2-20b", context=2048, settings=settings).stages[0]
    stages = zoo_api.fit("internlm2-20b", context=2048, pp=5, settings=settings).stages
    assert [layer for one in stages for layer in range(one.first, one.stop)] == list(range(48))
    assert sum(one.weights for one in stages) == whole.weights
    assert sum(one.cache for one in stages) == whole.cache
    assert [one.embedding for one in stages] == [True, *[False] * 4]
    assert [one.head for one in stages] == [one.logits > 0 for one in stages] == [*[False] * 4, True]


def test_a_smaller_cache_dtype_and_more_texts_scale_the_cache_alone_and_all(settings):
    one = zoo_api.fit("internlm2-7b", context=512, settings=settings).stages[0]
    eight = zoo_api.fit("internlm2-7b", context=512, cache_dtype="float8_e4m3fn", settings=settings).stages[0]
    many = zoo_api.fit("internlm2-7b", context=512, batch=3, settings=settings).stages[0]
    assert eight == replace(one, cache=one.cache // 2)
    assert many == replace(one, cache=3 * one.cache, activations=3 * one.activations, logits=3 * one.logits)


def test_what_the_registry_says_amounts_to_the_parameters_it_states(settings):
    """One model of each size and kind of head."""
    stated = {
        (model.architecture.model_dump_json(), model.kind == "reward"): model
        for model in load_registry(settings).models.values()
        if model.architecture and model.parameters
    }
    assert len(stated) > 8
    for model in stated.values():
        found = zoo_api.fit(model.name, context=1, gpu_mem="80GB", settings=settings)
        assert found.parameters == model.parameters, model.name


@pytest.mark.parametrize("model", MODELS)
def test_headers_of_any_format_say_what_the_registry_says(model, directories, settings):
    by_registry = zoo_api.fit(model, dtype="bfloat16", settings=settings)
    assert by_registry.source == "registry" and by_registry.context == 256
    for form in ("original tp2 pp2", "hf", "llama"):
        found = zoo_api.fit(directories[model, form], dtype="bfloat16", known_as=model, settings=settings)
        assert replace(found, model=model, source="registry") == by_registry
        assert found.source == str(directories[model, form])


def test_a_gpu_that_is_too_small_is_an_exit_code_and_says_what_would_do(zoo):
    code, out, _ = zoo("fit", "internlm2-20b", "--gpu-mem", "24GB", "--context", 8192, "--offline")
    assert code == 1
    assert "no" in out.split() and "2, 2 x 1" in out
    assert re.search(r"^  gpu  \S+\n host  \n disk  \S+$", out, re.MULTILINE) and "read a token" in out
    code, out, _ = zoo("fit", "internlm2-20b", "--gpu-mem", "24GB", "--context", 8192, "--pp", 2, "--offline")
    assert code == 0 and "fits" in out.split()


@pytest.mark.parametrize("grid", [(1, 1), (4, 1), (2, 3)])
def test_the_longest_context_fits_and_one_token_more_does_not(grid, settings):
    tp, pp = grid
    (verdict,) = zoo_api.fit("internlm2-7b", tp=tp, pp=pp, gpu_mem="20GB", settings=settings).verdicts
    for more, fits in ((0, True), (1, False)):
        context = verdict.longest_context + more
        again = zoo_api.fit("internlm2-7b", context=context, tp=tp, pp=pp, gpu_mem="20GB", settings=settings)
        assert again.ok is fits and (again.need <= 20 * 10**9 - RESERVE) is fits


def test_no_grid_of_fewer_gpus_holds_what_the_smallest_holds(settings):
    ask = {"context": 16384, "gpu_mem": "12GB", "settings": settings}
    (verdict,) = zoo_api.fit("internlm2-20b", **ask).verdicts
    smallest = verdict.smallest
    assert smallest and zoo_api.fit("internlm2-20b", tp=smallest.tp, pp=smallest.pp, **ask).ok
    for gpus in range(1, smallest.tp * smallest.pp):
        for tp in (tp for tp in (1, 2, 4, 8) if gpus % tp == 0):
            assert not zoo_api.fit("internlm2-20b", tp=tp, pp=gpus // tp, **ask).ok


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--tp", 3), 2, "cannot be shared by 3 ranks"),
        (("--pp", 33), 7, "exceeds the model's 32 layers"),
        (("--dtype", "int3"), 2, "no element type"),
        (("--cache-dtype", "int3"), 2, "--cache-dtype"),
        (("--context", 0), 2, "--context"),
        (("--batch", "1" + 400 * "0"), 2, "--batch"),
        (("--gpu-mem", "much"), 2, "not a size"),
    ],
)
def test_what_cannot_be_is_a_sentence(zoo, options, code, said):
    found, _, err = zoo("fit", "internlm2-7b", "--offline", *options)
    assert found == code and said in err and "Traceback" not in err


def test_a_context_that_nobody_knows_is_asked_for(zoo):
    code, _, err = zoo("fit", "internlm2-math-7b", "--offline")
    assert code == 2 and "--context" in err
    assert zoo("fit", "internlm2-math-7b", "--offline", "--context", 4096)[0] == 0


def test_common_cards_come_with_where_their_size_was_read():
    cards = common_cards()
    assert len(cards) >= 10 and [card.memory for card in cards] == sorted(card.memory for card in cards)
    assert all(10**10 < card.memory < 2 * 10**11 for card in cards)
    stated = json.loads((Path(zoo_api.__file__).parent / "fitting/cards.json").read_text())["cards"]
    assert all(
        set(one) == {"name", "gib", "source"} and re.match(r"[\w-]+/[\w.-]+#\d+$|measured", one["source"])
        for one in stated
    )


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_chart_is_drawn_on_request(zoo, tmp_path, ending):
    pytest.importorskip("matplotlib")
    file = tmp_path / "new" / f"fit.{ending}"
    assert zoo("fit", "internlm2-20b", "--pp", 2, "--offline", "--chart", file)[0] == 0
    assert file.read_bytes()[:5] in (b"<?xml", b"\x89PNG\r")


def test_a_chart_of_another_ending_is_refused(zoo, tmp_path):
    assert zoo("fit", "internlm2-7b", "--offline", "--chart", tmp_path / "fit.bmp")[0] == 2


def test_torch_is_not_imported_to_know_it():
    asked = "import sys, internlm_zoo; internlm_zoo.fit('internlm2-7b'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A loopback hub with a model of which the registry knows no sizes."""
    dims = replace(INTERNLM2, layers=4, hidden=256, heads=8, kv_heads=4, inter=768, vocab=2048)
    (tmp_path / "hub/acme").mkdir(parents=True)
    write_hf(tmp_path / "hub/acme/hf", make_model(dims), dims, files=2)
    (tmp_path / "overlay.yaml").write_text(OVERLAY)
    monkeypatch.setenv("INTERNLM_ZOO_REGISTRY", str(tmp_path / "overlay.yaml"))
    with FaultyHub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def weights_at(tmp_path: Path) -> int:
    return sum(file.stat().st_size for file in (tmp_path / "hub/acme/hf").glob("*.safetensors"))


def test_of_a_model_without_known_sizes_the_headers_are_fetched_and_no_more(zoo, hub, tmp_path):
    code, out, _ = zoo("fit", "tiny", "--json")
    found = json.loads(out)
    assert code == 0 and found["context"] == 512, "as its own config says"
    assert found["stages"][0]["weights"] == pytest.approx(weights_at(tmp_path), rel=0.01)
    assert 0 < hub.sent < 0.03 * weights_at(tmp_path)
    assert not (tmp_path / "home" / "releases").exists()


def test_of_a_model_with_known_sizes_nothing_is_asked(zoo, hub):
    assert zoo("fit", "internlm2-7b")[0] == 0
    assert not hub.requests


def test_the_demo_in_original_form_is_read_by_its_headers(settings):
    found = zoo_api.fit(BUNDLED / MODELS[1], known_as=MODELS[1], settings=settings)
    assert found.parameters == 1_115_264 and found.context == 256

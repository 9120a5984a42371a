"""The smoke test passes what was released, in whatever form, and names what is wrong with anything else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import product

import pytest
import torch

from internlm_zoo.smoke.golden import TOLERANCE, golden_checks, load_golden
from tests.loading.demo import FORMS, MODELS, edit_json, home_of, load_model, rewritten

pytestmark = pytest.mark.usefixtures("no_search")
BASE, CHAT = MODELS
HEAD = 16  # rows of a head in the demo models
PROJECTION = "model.layers.1.self_attn.{}_proj.{}"


def check_of(result, name):
    return next(check for check in result["checks"] if check["name"] == name)


@pytest.mark.parametrize("model", MODELS)
def test_the_demo_models_pass_by_name_with_every_prompt_golden(smoke, model):
    code, result = smoke(model)
    assert (code, result["ok"], result["model"]) == (0, True, model), result["sentence"]
    names = ["facts", "fingerprint", "values", "weights", "token ids", "logits", "tokens", "positions"]
    if model == CHAT:
        names[5:5], names[-1:-1] = ["chat template"], ["eos"]
    names.append("passages")
    assert [check["name"] for check in result["checks"]] == names


@pytest.mark.parametrize(
    ("form", "devices"), [*product(FORMS, ["cpu"]), ("original tp2 pp2", "cpu,cpu"), ("hf", "cpu,cpu")]
)
@pytest.mark.parametrize("model", MODELS)
def test_every_form_of_a_demo_model_passes(smoke, directories, model, form, devices):
    code, result = smoke(directories[model, form], "--as", model, "--devices", devices)
    assert code == 0, result["sentence"]
    assert (form == "original") == any(check["name"] == "weights" for check in result["checks"])


def test_a_demo_model_as_newer_internevo_writes_its_config_passes(smoke, directories, tmp_path):
    folder = shutil.copytree(directories[CHAT, "original"], tmp_path / "newer")
    config = torch.load(folder / "model_config.pt", weights_only=True)
    del config["adapt_hf"]
    torch.save(config | {"qk_interleaved": True, "model_type": "INTERNLM2"}, folder / "model_config.pt")
    code, result = smoke(folder, "--as", CHAT)
    assert code == 0, result["sentence"]


@pytest.mark.parametrize("model", MODELS)
def test_golden_data_is_of_sixteen_prompts_in_two_languages(model):
    golden = load_golden(model)
    assert len(golden.prompts) == len(golden.logits) == 16
    chinese = sum(any("\u4e00" <= letter <= "\u9fff" for letter in row.prompt) for row in golden.prompts)
    assert 0 < chinese < 16


@pytest.mark.slow
def test_released_weights_that_were_saved_again_in_other_bytes_pass(smoke, directories, tmp_path):
    folder = shutil.copytree(directories[BASE, "original"], tmp_path / "again")
    (file,) = folder.glob("model_tp*_pp*.pt")
    before = file.read_bytes()
    weights = torch.load(file, weights_only=True)
    with file.open("wb") as target:  # to a file that has no name for the archive
        torch.save(weights, target)
    assert file.read_bytes() != before
    code, result = smoke(folder, "--as", BASE)
    assert code == 0, result["sentence"]
    assert "other bytes than the released file" in check_of(result, "weights")["sentence"]


def exchange(tensors, one, other):
    tensors[one], tensors[other] = tensors[other], tensors[one]


def swap_k_and_v(tensors):
    for part in ("weight", "bias"):
        exchange(tensors, PROJECTION.format("k", part), PROJECTION.format("v", part))


def swap_two_heads_of_q(tensors):
    for part in ("weight", "bias"):
        rows = tensors[PROJECTION.format("q", part)]
        rows[: 2 * HEAD] = rows[[*range(HEAD, 2 * HEAD), *range(HEAD)]]


def swap_gate_and_up(tensors):
    exchange(tensors, "model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight")


def interleave_rotary_halves(tensors):
    for part in ("weight", "bias"):
        rows = tensors[PROJECTION.format("q", part)]
        heads = rows.reshape(-1, 2, HEAD // 2, *rows.shape[1:])
        rows[:] = heads.swapaxes(1, 2).reshape(rows.shape)


def swap_two_layers(tensors):
    for name in [name for name in tensors if name.startswith("model.layers.1.")]:
        exchange(tensors, name, name.replace(".1.", ".2.", 1))


def drop_a_bias(tensors):
    tensors[PROJECTION.format("o", "bias")][:] = 0


@pytest.mark.parametrize(
    "fault",
    [
        swap_k_and_v,
        swap_two_heads_of_q,
        swap_gate_and_up,
        interleave_rotary_halves,
        swap_two_layers,
        drop_a_bias,
    ],
)
def test_a_wrong_conversion_of_the_base_model_fails_with_one_sentence(smoke, directories, tmp_path, fault):
    folder = rewritten(directories[BASE, "hf"], tmp_path / "faulty", fault)
    code, result = smoke(folder, "--as", BASE)
    assert (code, result["ok"]) == (1, False)
    assert "logits differ by up to" in result["sentence"] and "\n" not in result["sentence"]
    assert not check_of(result, "logits")["ok"]


def swap_k_and_v_of_a_group(tensors):
    """A group of wqkv has two queries, then a key, then a value."""
    rows = tensors["model.layers.1.attention.wqkv.weight"][: 4 * HEAD]
    rows[2 * HEAD :] = rows[[*range(3 * HEAD, 4 * HEAD), *range(2 * HEAD, 3 * HEAD)]]


def swap_two_queries_of_a_group(tensors):
    rows = tensors["model.layers.1.attention.wqkv.weight"][: 2 * HEAD]
    rows[:] = rows[[*range(HEAD, 2 * HEAD), *range(HEAD)]]


@pytest.mark.parametrize("fault", [swap_k_and_v_of_a_group, swap_two_queries_of_a_group])
def test_a_wrong_conversion_of_the_chat_model_fails_with_one_sentence(smoke, directories, tmp_path, fault):
    folder = rewritten(directories[CHAT, "hf"], tmp_path / "faulty", fault)
    code, result = smoke(folder, "--as", CHAT)
    assert (code, result["ok"]) == (1, False)
    assert "logits differ by up to" in result["sentence"] and "\n" not in result["sentence"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_flipped_bit_of_released_weights_fails_and_the_file_is_named(
    smoke, directories, tmp_path, model, place
):
    folder = tmp_path / "flipped"
    shutil.copytree(directories[model, "original"], folder)
    weights = folder / "model_tp0_pp0.pt"
    content = bytearray(weights.read_bytes())
    content[int(len(content) * place)] ^= 1
    weights.write_bytes(content)
    code, result = smoke(folder, "--as", model)
    assert code != 0
    assert "model_tp0_pp0.pt" in (result["sentence"] if code == 1 else result["what"] + result["where"])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("matrix", ["layers.0.mlp.up_proj", "layers.3.self_attn.v_proj"])
def test_a_flipped_byte_in_a_layer_of_a_conversion_fails_by_its_logits(
    smoke, directories, tmp_path, model, matrix
):
    """No digest of a conversion is known. Every token passes through the layers, so one value is enough."""

    def flip(tensors):
        tensors[f"model.{matrix}.weight"][5, 7] ^= 0x00FF

    code, result = smoke(rewritten(directories[model, "llama"], tmp_path / "flipped", flip), "--as", model)
    assert (code, result["ok"]) == (1, False)
    assert "logits differ by up to" in result["sentence"]


def test_weights_that_are_no_numbers_fail(smoke, directories, tmp_path):
    def spoil(tensors):
        tensors["model.norm.weight"][0] = 0x7FC0  # NaN in bfloat16

    code, result = smoke(rewritten(directories[BASE, "hf"], tmp_path / "nan", spoil), "--as", BASE)
    assert code == 1 and result["sentence"] == "norm.weight: 1 of 128 values are NaN"
    assert "logits differ by up to inf" in check_of(result, "logits")["sentence"]


def test_a_tokenizer_of_another_model_fails_and_is_blamed(smoke, directories, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(directories[BASE, "hf"], folder)
    shutil.copy(directories[CHAT, "hf"] / "tokenizer.json", folder)
    code, result = smoke(folder, "--as", BASE)
    assert code == 1 and "not the one the model was trained with" in result["sentence"]
    assert check_of(result, "logits")["ok"]


def test_another_model_fails_by_its_vocabulary(smoke, directories):
    code, result = smoke(directories[CHAT, "llama"], "--as", BASE)
    assert code == 1 and "vocab_size: expected 1792, found 2048" in result["sentence"]


def off_by(result, name="logits"):
    """Of the largest logit."""
    return float(re.search(r"by (?:at most )?(\S+) of the largest", check_of(result, name)["sentence"])[1])


@pytest.mark.parametrize("model", MODELS)
def test_this_machines_rounding_takes_a_fifth_of_what_is_allowed_at_most(smoke, directories, model):
    _, result = smoke(directories[model, "llama"])
    assert off_by(result) <= TOLERANCE / 5 and off_by(result, "positions") <= TOLERANCE / 5


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["default", "avx2"])
@pytest.mark.parametrize("model", MODELS)
def test_so_does_that_of_older_processors_and_other_kernels(directories, tmp_path, model, capability):
    environ = {
        "ATEN_CPU_CAPABILITY": capability,
        "MKL_CBWR": "COMPATIBLE",
        "INTERNLM_ZOO_HOME": str(tmp_path),
    }
    code = "from internlm_zoo.cli import main; main()"
    command = [sys.executable, "-c", code, "smoke", directories[model, "llama"], "--json", "-q"]
    done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, check=True)
    (result,) = json.loads(done.stdout)["results"]
    assert off_by(result) <= TOLERANCE / 5 and off_by(result, "positions") <= TOLERANCE / 5


WRONG_FACTS = [
    (CHAT, {"rope_theta": "10000"}, "with rope_theta 1000000.0 instead of 10000 they are golden"),
    pytest.param(
        CHAT,
        {"rms_norm_eps": "0.001"},
        "with rms_norm_eps 1e-05 instead of 0.001 they are golden",
        marks=pytest.mark.slow,
    ),
    (CHAT, {"rope_scaling": '{"type": "dynamic", "factor": 2.0}'}, "with rope_scaling None instead of {"),
    pytest.param(
        BASE,
        {"num_attention_heads": "16", "num_kv_heads": "16", "head_dim": "8"},
        "with num_attention_heads 8 instead of 16 and num_kv_heads 8 instead of 16 and head_dim 16",
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize(("model", "given", "says"), WRONG_FACTS)
def test_a_fact_that_is_given_wrong_is_named_with_the_value_that_is_right(
    smoke, directories, model, given, says
):
    asked = [word for fact, value in given.items() for word in ("--set", f"{fact}={value}")]
    code, result = smoke(directories[model, "llama"], *asked)
    assert code == 1
    assert says in result["sentence"] and "the config is wrong" in result["sentence"]


def test_scaling_that_shows_beyond_the_trained_length_alone_is_noticed_there(smoke, directories):
    _, result = smoke(directories[CHAT, "llama"], "--set", 'rope_scaling={"type": "dynamic", "factor": 2.0}')
    wrong = [check["name"] for check in result["checks"] if not check["ok"]]
    assert wrong == ["positions"]


def test_a_template_that_is_wrong_for_a_first_turn_alone_is_noticed(smoke, directories, tmp_path):
    folder = shutil.copytree(directories[CHAT, "llama"], tmp_path / "template")
    own = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    edit_json(
        folder / "tokenizer_config.json", chat_template="{% if messages|length == 1 %} {% endif %}" + own
    )
    code, result = smoke(folder)
    assert code == 1 and check_of(result, "facts")["ok"]
    assert "the chat template does not make" in result["sentence"]


def test_an_answer_that_goes_on_after_its_end_token_is_noticed(directories, tmp_path):
    """Of a model that the registry takes for one that no turn's end stops, and whose file says so too."""
    folder = shutil.copytree(directories[CHAT, "llama"], tmp_path / "endless")
    edit_json(folder / "generation_config.json", eos_token_id=2)
    loaded = load_model(folder, settings=home_of(tmp_path), dtype="float32")
    directory = loaded.plan.directory
    base = directory.model.model_copy(update={"kind": "base"})
    plan = replace(loaded.plan, directory=replace(directory, model=base))
    found = {check.name: check for check in golden_checks(replace(loaded, plan=plan), load_golden(CHAT))}
    assert found["tokens"].ok and not found["eos"].ok
    assert "16 of 16 answers go on after" in found["eos"].sentence

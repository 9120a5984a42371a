"""Ranks that share a model say what one process says, hold what was planned, and fail together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import internlm_zoo as zoo_api
from internlm_zoo.miniatures.draw import draw_miniature
from internlm_zoo.registry import load_registry
from tests.converters.oracle import INTERNLM2, make_model, write_hf, write_tied
from tests.loading.demo import FORMS, MODELS, home_of, rewritten
from tests.loading.launched import run_ranks
from tests.loading.rank_work import IDS, TOKENS

pytestmark = pytest.mark.slow
BASE, CHAT = MODELS
STAGED = ("original tp2 pp2", "hf")
THREE = "internlm3-8b-instruct"
Shared = dict[str, tuple[list[str], str | None, int]]
FEW = replace(INTERNLM2, layers=2, hidden=64, heads=8, kv_heads=2, inter=96, vocab=65)


@pytest.fixture(scope="module")
def models(directories, tmp_path_factory) -> Shared:
    """What is shared: name -> directories that the ranks have in turn, what it is known as, and in how many
    stages."""
    folder = tmp_path_factory.mktemp("shared")
    found: Shared = {
        f"{model} {form}": ([str(directories[model, form])], model, 1) for model in MODELS for form in FORMS
    }
    found |= {f"{m} {form}, pp 2": ([str(directories[m, form])], m, 2) for m in MODELS for form in STAGED}
    found |= {f"{m}, pp 4": ([str(directories[m, "original tp2 pp2"])], m, 4) for m in MODELS}
    found["a format each"] = (
        [str(directories[BASE, form]) for form in (*STAGED, "llama", "original")],
        BASE,
        1,
    )
    three = folder / "three"
    three.mkdir()
    registry = load_registry(home_of(folder))
    draw_miniature(registry.model(THREE), registry, three)
    found |= {f"internlm3, pp {pp}": ([str(three)], THREE, pp) for pp in (1, 2)}
    wide = folder / "tp8"
    zoo_api.convert(directories[BASE, "original"], wide, to="original", tp=8, settings=home_of(folder))
    found["eight files"] = ([str(wide)], BASE, 1)
    found["few heads, 65 rows"] = ([str(write_hf(folder / "few", make_model(FEW), FEW))], None, 1)
    tied = replace(FEW, kv_heads=4, vocab=64)
    found["tied"] = ([str(write_tied(folder / "tied", make_model(tied), tied, "llama"))], None, 1)
    found["tied, pp 2"] = (found["tied"][0], None, 2)
    found["reward"] = ([str(reward(folder / "reward", tied))], None, 1)
    return found


def reward(folder: Path, dims) -> Path:
    heads = ["InternLM2ForRewardModel"]
    src = write_hf(folder, make_model(dims), dims, architectures=heads, reward_token_id=5)
    tensors = load_file(src / "model.safetensors")
    del tensors["output.weight"]
    tensors["v_head.weight"] = torch.rand(1, dims.hidden).bfloat16()
    save_file(tensors, src / "model.safetensors")
    return src


@pytest.fixture(scope="module", params=[2, 4], ids="{} ranks".format)
def ranks(request, models, directories, tmp_path_factory) -> list[dict]:
    """What each of them found, of one group that loads every model."""
    folder = tmp_path_factory.mktemp("ranks")
    sound, other = (directories[model, "llama"] for model in MODELS)
    trained = rewritten(sound, folder / "trained", lambda tensors: further_trained(tensors["lm_head.weight"]))
    wrong = {"absent": folder / "absent", "another": other, "trained": trained}
    asked = {
        "home": str(folder),
        "models": {name: how for name, how in models.items() if request.param % how[2] == 0},
        "sound": str(sound),
        "wrong": {name: str(path) for name, path in wrong.items()},
    }
    ended = run_ranks(request.param, [sys.executable, "-m", "tests.loading.rank_work", json.dumps(asked)])
    assert all(code == 0 for code, _, _ in ended), ended[0][2]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(request.param)]


def further_trained(head) -> None:
    head[0, :8] += 1


@pytest.fixture(scope="module")
def alone(models):
    """Name -> logits, greedy tokens and sizes of one process."""
    return {name: of_one_process(models, name) for name in models}


def of_one_process(models, name):
    (folder, *_), known_as, _ = models[name]
    settings = home_of(Path(folder).parent)
    model, _ = zoo_api.load(folder, known_as=known_as, dtype="float32", devices=["cpu"], settings=settings)
    ids = torch.tensor([IDS])
    with torch.no_grad():
        logits = model(ids).logits
    sizes = {key: parameter.nbytes for key, parameter in model.named_parameters()}
    if logits.dim() < 3:
        return logits, None, sizes
    written = model.generate(ids, max_new_tokens=TOKENS, do_sample=False, eos_token_id=None)
    return logits, written[0].tolist(), sizes


def test_every_rank_says_what_one_process_says_from_every_format_and_grid(alone, ranks):
    assert len(ranks[0]["models"]) >= len(alone) - 2
    for name in ranks[0]["models"]:
        logits, written, _ = alone[name]
        for found in (rank["models"][name] for rank in ranks):
            assert found["logits"].shape == logits.shape, name
            assert float((found["logits"] - logits).square().mean() / logits.square().mean()) <= 1e-10, name
            assert found["written"] == written, name


def test_every_rank_holds_what_was_planned_and_together_they_hold_the_model(models, alone, ranks):
    for name, planned in ((name, found["planned"]) for name, found in ranks[0]["models"].items()):
        sizes = alone[name][2]
        shared = [rank["models"][name]["nbytes"] for rank in ranks]
        last = len(ranks) - 1 if name.startswith("few") else len(ranks)  # has fewer rows of 65
        assert shared[:last] == planned[:last], name
        assert all(rank["models"][name]["planned"] == planned for rank in ranks)
        norms = sum(size for key, size in sizes.items() if "norm" in key or "score" in key)
        biases = sum(size for key, size in sizes.items() if key.endswith("o_proj.bias"))
        again = any("key/value heads" in note for note in ranks[0]["models"][name]["notes"])
        if not name.startswith("few") and not again:
            pp = models[name][2]
            head = sizes["model.embed_tokens.weight"] * (name == "tied, pp 2")  # is elsewhere
            wanted = sum(sizes.values()) + head + (len(ranks) // pp - 1) * (norms + biases)
            assert sum(shared) == wanted, name


def test_fewer_key_value_heads_than_ranks_are_on_several_of_them_and_that_is_said(ranks):
    found = ranks[0]["models"]["few heads, 65 rows"]
    notes, keys = found["notes"], found["shapes"]["model.layers.0.self_attn.k_proj.weight"]
    assert keys == (8, 64), "one head each"
    said = [note for note in notes if "key/value heads" in note]
    assert said == (["each of the 2 key/value heads is on 2 of the 4 ranks"] if len(ranks) == 4 else [])


def test_where_one_rank_fails_all_do_and_say_which_and_why(ranks):
    assert {rank["refused"]["absent"][1] for rank in ranks} == {4}
    said = ranks[0]["refused"]["absent"][0]
    assert said.startswith("on rank 1: ") and "absent" in said


def test_stages_of_a_reward_model_are_refused_on_all_ranks(ranks):
    for said, code in (rank["refused"]["staged"] for rank in ranks):
        assert code == 7 and said.startswith("transformers divides no reward model into stages")


def test_a_rank_that_has_another_model_is_named_before_any_weight_is_read(ranks):
    for rank in (one["refused"] for one in ranks):
        another, code = rank["another"]
        assert code == 6
        assert another.startswith("rank 1 has another model than rank 0: ") and " instead of " in another
        trained, code = rank["trained"]
        assert code == 6
        assert trained.startswith("rank 1 has another model than rank 0: head.weight is ")
        assert "more differ" not in trained and "trained" in trained


def torchrun(count: int, *args: object) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    env = {**os.environ, "PYTHONPATH": os.getcwd(), "INTERNLM_ZOO_OFFLINE": "1"}
    command = [*launcher, "-m", "internlm_zoo", *map(str, args)]
    return subprocess.run(command, env=env, capture_output=True, text=True)


def test_under_torchrun_the_first_rank_alone_answers(zoo, directories, tmp_path):
    asked = ("generate", directories[CHAT, "hf"], "-p", "Where is the library?", "--dtype", "float32")
    code, wanted, err = zoo(*asked, "--devices", "cpu")
    assert code == 0, err
    done = torchrun(2, *asked, "--devices", "cpu", "--parallel", "tensor")
    assert done.returncode == 0, done.stderr
    assert done.stdout == wanted and len(done.stdout.splitlines()) == len(wanted.splitlines())
    assert done.stderr.count(" tokens in ") == 1


def test_under_torchrun_smoke_judges_by_golden_data_and_load_says_what_each_rank_has(directories):
    how = ("--parallel", "tensor", "--devices", "cpu", "--json")
    judged = torchrun(2, "smoke", directories[BASE, "original"], "--as", BASE, *how)
    assert judged.returncode == 0, judged.stdout + judged.stderr
    (result,) = json.loads(judged.stdout)["results"]
    assert result["ok"] and "golden" in json.dumps(result)
    kept = json.loads((directories[BASE, "original"] / ".internlm-zoo" / "smoke.json").read_text())
    assert kept["outcome"] == "passed"
    placed = json.loads(torchrun(2, "load", directories[BASE, "llama"], *how).stdout)
    assert [part["rank"] for part in placed["parts"]] == [0, 1]
    assert placed["parts"][0]["bytes"] < 0.51 * 2 * placed["parameters"]


def test_ranks_that_do_not_divide_the_heads_are_refused_once_with_what_would(directories):
    done = torchrun(3, "load", directories[BASE, "llama"], "--parallel", "tensor", "--devices", "cpu")
    assert done.returncode != 0
    assert done.stderr.count("error: 3 ranks cannot share its 8 heads over 8 key/value heads") == 1
    assert done.stderr.count("fix: start as many ranks as share them: 1, 2") == 1

"""Ranks that share a model say what one process says, hold what was planned, and fail together."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import internlm_zoo as zoo_api
from tests.converters.oracle import INTERNLM2, make_model, write_hf, write_tied
from tests.loading.demo import FORMS, MODELS, home_of
from tests.loading.rank_work import IDS, TOKENS

pytestmark = pytest.mark.slow
BASE, CHAT = MODELS
STAGED = ("original tp2 pp2", "hf")
FEW = replace(INTERNLM2, layers=2, hidden=64, heads=8, kv_heads=2, inter=96, vocab=65)


@pytest.fixture(scope="module")
def models(directories, tmp_path_factory) -> dict[str, tuple[str, str | None, int]]:
    """What is shared: name -> directory, what it is known as, and in how many stages."""
    folder = tmp_path_factory.mktemp("shared")
    found: dict[str, tuple[str, str | None, int]] = {
        f"{model} {form}": (str(directories[model, form]), model, 1) for model in MODELS for form in FORMS
    }
    found |= {f"{m} {form}, pp 2": (str(directories[m, form]), m, 2) for m in MODELS for form in STAGED}
    wide = folder / "tp8"
    zoo_api.convert(directories[BASE, "original"], wide, to="original", tp=8, settings=home_of(folder))
    found["eight files"] = (str(wide), BASE, 1)
    found["few heads, 65 rows"] = (str(write_hf(folder / "few", make_model(FEW), FEW)), None, 1)
    tied = replace(FEW, kv_heads=4, vocab=64)
    found["tied"] = (str(write_tied(folder / "tied", make_model(tied), tied, "llama")), None, 1)
    found["tied, pp 2"] = (found["tied"][0], None, 2)
    found["reward"] = (str(reward(folder / "reward", tied)), None, 1)
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
def ranks(request, models, tmp_path_factory) -> list[dict]:
    """What each of them found, of one group that loads every model."""
    folder = tmp_path_factory.mktemp("ranks")
    sound = models[f"{BASE} llama"][0]
    asked = {"home": str(folder), "models": models, "sound": sound, "absent": str(folder / "absent")}
    ended = run_ranks(request.param, [sys.executable, "-m", "tests.loading.rank_work", json.dumps(asked)])
    assert all(code == 0 for code, _, _ in ended), ended[0][2]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(request.param)]


def run_ranks(count: int, command: list[str]) -> list[tuple[int, str, str]]:
    """As torchrun starts them, without its launcher. (exit code, stdout, stderr) of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    common |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "PYTHONPATH": os.getcwd()}
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    found = []
    for process in started:
        out, err = process.communicate()
        found.append((process.returncode, out, err))
    return found


def alone(models, name):
    """Logits and greedy tokens of one process."""
    folder, known_as, _ = models[name]
    settings = home_of(Path(folder).parent)
    model, _ = zoo_api.load(folder, known_as=known_as, dtype="float32", devices=["cpu"], settings=settings)
    ids = torch.tensor([IDS])
    with torch.no_grad():
        logits = model(ids).logits
    if logits.dim() < 3:
        return logits, None, model
    written = model.generate(ids, max_new_tokens=TOKENS, do_sample=False, eos_token_id=None)
    return logits, written[0].tolist(), model


def test_every_rank_says_what_one_process_says_from_every_format_and_grid(models, ranks):
    for name in models:
        logits, written, _ = alone(models, name)
        for found in (rank[name] for rank in ranks):
            assert found["logits"].shape == logits.shape, name
            assert float((found["logits"] - logits).square().mean() / logits.square().mean()) <= 1e-10, name
            assert found["written"] == written, name


def test_every_rank_holds_what_was_planned_and_together_they_hold_the_model(models, ranks):
    for name in models:
        _, _, model = alone(models, name)
        whole = sum(parameter.nbytes for parameter in model.parameters())
        shared = [rank[name]["nbytes"] for rank in ranks]
        last = len(ranks) - 1 if name.startswith("few") else len(ranks)  # has fewer rows of 65
        assert shared[:last] == ranks[0][name]["planned"][:last], name
        assert all(rank[name]["planned"] == ranks[0][name]["planned"] for rank in ranks)
        norms = sum(p.nbytes for key, p in model.named_parameters() if "norm" in key or "score" in key)
        biases = sum(p.nbytes for key, p in model.named_parameters() if key.endswith("o_proj.bias"))
        if not name.startswith("few"):
            pp = models[name][2]
            again = model.model.embed_tokens.weight.nbytes * (name == "tied, pp 2")  # is the head elsewhere
            assert sum(shared) == whole + again + (len(ranks) // pp - 1) * (norms + biases), name


def test_fewer_key_value_heads_than_ranks_are_on_several_of_them_and_that_is_said(ranks):
    notes = ranks[0]["few heads, 65 rows"]["notes"]
    keys = ranks[0]["few heads, 65 rows"]["shapes"]["model.layers.0.self_attn.k_proj.weight"]
    assert keys == (8, 64), "one head each"
    said = [note for note in notes if "key/value heads" in note]
    assert said == (["each of the 2 key/value heads is on 2 of the 4 ranks"] if len(ranks) == 4 else [])


def test_where_one_rank_fails_all_do_and_say_which_and_why(ranks):
    codes = {rank["refused"][1] for rank in ranks}
    assert codes == {4}
    assert ranks[0]["refused"][0].startswith("on rank 1: ") and "absent" in ranks[0]["refused"][0]


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
    placed = json.loads(torchrun(2, "load", directories[BASE, "llama"], *how).stdout)
    assert [part["rank"] for part in placed["parts"]] == [0, 1]
    assert placed["parts"][0]["bytes"] < 0.51 * 2 * placed["parameters"]


def test_ranks_that_do_not_divide_the_heads_are_refused_once_with_what_would(directories):
    done = torchrun(3, "load", directories[BASE, "llama"], "--parallel", "tensor", "--devices", "cpu")
    assert done.returncode != 0
    assert done.stderr.count("error: 3 ranks cannot share its 8 heads over 8 key/value heads") == 1
    assert done.stderr.count("fix: start as many ranks as share them: 1, 2") == 1

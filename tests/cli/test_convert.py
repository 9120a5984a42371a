"""`internlm-zoo convert`: one path at the end, a plan on request, a sentence and a code when it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="what a conversion wrote is read by torch")

from tests.converters.bits import assert_same, assert_same_cells
from tests.converters.oracle import (
    INTERNLM,
    INTERNLM2,
    Variant,
    cells,
    expected,
    make_model,
    read_cells,
    read_hf,
    stages_of,
    variant_of,
    write_hf,
    write_original,
)
from tests.timing import PATIENCE

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "internlm_zoo" / "demo" / "models"


@pytest.fixture
def src(tmp_path):
    return write_original(tmp_path / "src", make_model(INTERNLM2), INTERNLM2, 2, (1, 2))


def test_it_ends_by_printing_one_path(zoo, src, tmp_path):
    code, out, _ = zoo("convert", src, tmp_path / "dst", "--to", "hf")
    assert code == 0
    assert out == f"{tmp_path / 'dst'}\n"
    assert_same(read_hf(tmp_path / "dst"), expected(make_model(INTERNLM2), INTERNLM2, "hf"))


def test_tp_and_pp_cut_the_grid(zoo, src, tmp_path):
    code, _, _ = zoo("convert", src, tmp_path / "dst", "--to", "original", "--tp", "4", "--pp", "3")
    assert code == 0
    how = variant_of(tmp_path / "dst", INTERNLM2)
    wanted = cells(make_model(INTERNLM2), INTERNLM2, 4, stages_of(3, 3), how)
    assert_same_cells(read_cells(tmp_path / "dst"), wanted)


def test_mlp_order_says_what_equal_shapes_cannot(zoo, tmp_path):
    dims = replace(INTERNLM, inter=INTERNLM.hidden)
    src = write_original(tmp_path / "src", make_model(dims), dims, how=Variant(w2_is_up=True))
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "hf")
    assert code == 2 and "mlp_order" in err
    assert zoo("convert", src, tmp_path / "dst", "--to", "hf", "--mlp-order", "up_down")[0] == 0
    assert_same(read_hf(tmp_path / "dst"), expected(make_model(dims), dims, "hf"))


def test_max_shard_size_in_either_spelling(zoo, src, tmp_path):
    for number, flag in enumerate(("--max-shard-size", "--max_shard_size")):
        dst = tmp_path / f"dst{number}"
        assert zoo("convert", src, dst, "--to", "llama", flag, "10KB")[0] == 0
        assert (dst / "model.safetensors.index.json").exists()


def test_a_dry_run_prints_the_plan_and_writes_nothing(zoo, src, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = zoo("convert", src, tmp_path / "dst", "--to", "original", "--tp", "4", "--dry-run")
    assert code == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert "internlm2/original (tp 2, pp 2) to internlm2/original (tp 4, pp 1)" in out
    assert "layers.N.attention.wqkv.weight" in out
    assert "4 files; nothing was written" in out


def test_a_dry_run_refuses_what_the_run_would_refuse(zoo, src, tmp_path):
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "original", "--tp", "16", "--dry-run")
    assert code == 7
    assert "16" in err


def test_json_is_one_document(zoo, src, tmp_path):
    code, out, _ = zoo("convert", src, tmp_path / "dst", "--to", "hf", "--json")
    assert code == 0
    assert str(tmp_path / "dst") in json.dumps(json.loads(out))
    code, out, _ = zoo("convert", src, tmp_path / "other", "--to", "hf", "--dry-run", "--json")
    assert code == 0
    assert "model.safetensors" in json.dumps(json.loads(out))


def test_a_refusal_with_json_is_one_document_with_the_exit_code(zoo, src, tmp_path):
    code, out, _ = zoo("convert", src, tmp_path / "dst", "--to", "original", "--tp", "16", "--json")
    error = json.loads(out)["error"]
    assert code == error["exit_code"] == 7
    assert error["name"] == "UnsupportedError"


def test_exit_codes(zoo, src, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("mine")
    assert zoo("convert", src, full, "--to", "hf")[0] == 2
    assert zoo("convert", src, full, "--to", "hf", "--force")[0] == 0
    assert zoo("convert", src, tmp_path / "dst", "--to", "onnx")[0] == 2
    assert zoo("convert", tmp_path / "nowhere", tmp_path / "dst", "--to", "hf")[0] == 4
    damaged = (src / "model_tp1_pp1.pt").read_bytes()
    (src / "model_tp1_pp1.pt").write_bytes(damaged[: len(damaged) // 2])
    assert zoo("convert", src, tmp_path / "dst", "--to", "hf")[0] == 6
    (src / "model_tp1_pp1.pt").unlink()
    assert zoo("convert", src, tmp_path / "dst", "--to", "hf")[0] in (4, 6)
    assert not (tmp_path / "dst").exists()


def test_a_missing_tokenizer_is_said_and_the_conversion_goes_on(zoo, src, tmp_path):
    code, out, err = zoo("convert", src, tmp_path / "dst", "--to", "hf")
    assert (code, out) == (0, f"{tmp_path / 'dst'}\n")
    assert "tokenizer" in err
    assert "--tokenizer" in err
    assert not list((tmp_path / "dst").glob("tokenizer*"))


@pytest.mark.parametrize(
    ("name", "dims"), [("demo-internlm-base", INTERNLM), ("demo-internlm2-chat", INTERNLM2)]
)
def test_a_tokenizer_given_becomes_one_that_transformers_loads(zoo, tmp_path, name, dims):
    from transformers import AutoTokenizer

    src = write_original(tmp_path / "src", make_model(dims), dims)
    model = DEMO / name / "tokenizer.model"
    assert zoo("convert", src, tmp_path / "dst", "--to", "hf", "--tokenizer", model)[0] == 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "dst", trust_remote_code=False)
    ids = tokenizer("Laughter is the best medicine.")["input_ids"]
    assert ids[0] == 1
    assert tokenizer.decode(ids[1:]).strip() == "Laughter is the best medicine."


def test_the_sources_tokenizer_is_carried_over_in_both_directions(zoo, tmp_path):
    src = DEMO / "demo-internlm2-chat"
    wanted = (src / "tokenizer.model").read_bytes()
    code, _, err = zoo("convert", src, tmp_path / "hf", "--to", "hf")
    assert code == 0
    assert "--tokenizer" not in err
    assert (tmp_path / "hf" / "tokenizer.model").read_bytes() == wanted
    assert (tmp_path / "hf" / "tokenizer_config.json").exists()
    assert zoo("convert", tmp_path / "hf", tmp_path / "back", "--to", "original", "--tp", "2")[0] == 0
    assert (tmp_path / "back" / "tokenizer.model").read_bytes() == wanted


def test_a_tokenizer_that_is_not_there_stops_it(zoo, src, tmp_path):
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "hf", "--tokenizer", tmp_path / "no.model")
    assert code == 4
    assert "no.model" in err
    assert not (tmp_path / "dst").exists()


def test_a_fact_the_checkpoint_lacks_is_given_with_set(zoo, tmp_path):
    src = write_original(tmp_path / "src", make_model(INTERNLM), INTERNLM, max_position_embeddings=None)
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "hf")
    assert code in (2, 7)
    assert "max_position_embeddings" in err
    assert "--set" in err
    assert (
        zoo("convert", src, tmp_path / "dst", "--to", "hf", "--set", "max_position_embeddings=2048")[0] == 0
    )
    assert json.loads((tmp_path / "dst" / "config.json").read_text())["max_position_embeddings"] == 2048


def test_quiet_prints_the_path_alone(zoo, src, tmp_path):
    code, out, err = zoo("convert", src, tmp_path / "dst", "--to", "hf", "-q")
    assert (code, out, err) == (0, f"{tmp_path / 'dst'}\n", "")


def test_converting_loads_no_torch(tmp_path):
    """Importing torch alone takes longer than a small conversion."""
    src = write_hf(tmp_path / "src", make_model(INTERNLM), INTERNLM)
    code = (
        "import sys, internlm_zoo.cli.convert, internlm_zoo.cli.checkpoints\n"
        "from internlm_zoo.cli.shell import run\n"
        f"code = run(['convert', {str(src)!r}, {str(tmp_path / 'dst')!r}, '--to', 'original', '--tp', '2'])\n"
        "print(code, sorted({'torch', 'transformers', 'safetensors'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert result.stdout.splitlines()[-1] == "0 []", result.stderr

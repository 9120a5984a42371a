"""`inspect`: an undamaged checkpoint has nothing wrong, and every fact says how it is known."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

import converters
from tests.converters.inspection.looking import MODELS, look, with_tokenizer
from tests.converters.oracle import BOTH, make_model, write_hf, write_original

FAMILY = pytest.mark.parametrize("dims", BOTH, ids=lambda dims: dims.family)


@FAMILY
@pytest.mark.parametrize("names", ["original", "hf", "llama", "bin"])
def test_an_undamaged_checkpoint_has_nothing_wrong(tmp_path, dims, names):
    dims = replace(dims, vocab=2048)
    if names == "original":
        src = write_original(tmp_path / "src", make_model(dims), dims, 2)
    else:
        container = "bin" if names == "bin" else "safetensors"
        src = write_hf(
            tmp_path / "src", make_model(dims), dims, "hf" if names == "bin" else names, container, 2
        )
    found, findings = look(with_tokenizer(src))
    assert findings == []
    known = {name: fact.value for name, fact in found.known.items()}
    assert known.get("family") == (None if names == "llama" else dims.family)
    assert known["format"] == {"bin": "hf"}.get(names, names)
    assert known["dtype"] == dims.dtype
    assert known["parameters"] == sum(array.size for array in make_model(dims).values())
    assert (known["tp"], known["pp"]) == ((2, 1) if names == "original" else (1, 1))
    assert [(file.name, file.size) for file in found.tokenizer] == [("tokenizer.model", 2048)]


def test_every_fact_says_how_it_is_known(original):
    found, _ = look(original, given={"max_position_embeddings": 4096})
    origins = {name: fact.origin for name, fact in found.known.items()}
    assert origins["tp"] == "file names"
    assert origins["parameters"] == "tensors"
    assert origins["hidden_size"] == "model_config.pt"
    assert origins["intermediate_size"] == "tensors"
    assert origins["max_position_embeddings"] == "given"
    assert origins["dtype"] == "tensors"


@pytest.mark.parametrize("model", ["demo-internlm-base", "demo-internlm2-chat"])
def test_the_demo_models_have_nothing_wrong_in_any_format(tmp_path, model):
    src = MODELS / model
    assert look(src, deep=True)[1] == []
    for to in ("hf", "llama"):
        converters.convert(src, tmp_path / to, to=to, given={"max_position_embeddings": 256})
        assert look(tmp_path / to, deep=True)[1] == []


def test_what_can_be_known_of_a_damaged_checkpoint_is_said(original):
    (original / "model_tp0_pp0.pt").unlink()
    known = {name: (fact.value, fact.origin) for name, fact in look(original)[0].known.items()}
    assert known["family"] == ("internlm2", "names of tensors")
    assert known["dtype"] == ("bfloat16", "tensors")
    assert known["tp"] == (2, "file names")
    assert known["hidden_size"] == (128, "model_config.pt")


def test_a_fact_of_the_registry_is_said_to_be_of_the_registry(original):
    config = torch.load(original / "model_config.pt", weights_only=True)
    del config["max_position_embeddings"]
    torch.save(config, original / "model_config.pt")
    fact = look(original, known={"max_position_embeddings": 4096})[0].known["max_position_embeddings"]
    assert (fact.value, fact.origin) == (4096, "registry")


def test_a_given_fact_that_there_is_not_is_refused(zoo, original):
    code, _, err = zoo("inspect", original, "--set", "hiden_size=3")
    assert code == 2
    assert "hidden_size" in err


def test_what_is_no_checkpoint_is_not_found(zoo, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    assert zoo("inspect", tmp_path)[0] == 4
    assert zoo("inspect", tmp_path / "absent")[0] == 4


def test_the_command_says_what_it_is_and_exits_with_what_it_found(zoo, original):
    code, out, _ = zoo("inspect", original)
    assert code == 0
    assert "nothing is wrong" in out
    for word in ("internlm2", "original", "model_config.pt", "tokenizer.model"):
        assert word in out
    (original / "model_tp1_pp0.pt").write_text("<!DOCTYPE html><html><body>Sign in</body></html>")
    code, out, _ = zoo("inspect", original, "--json")
    data = json.loads(out)
    assert (code, data["sound"]) == (1, False)
    assert data["findings"][0]["where"].endswith("model_tp1_pp0.pt")
    assert data["findings"][0]["fix"]

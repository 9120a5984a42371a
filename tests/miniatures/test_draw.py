"""Every registry model in small is what it is in large, but for its size."""

from __future__ import annotations

import pytest

import converters
from internlm_zoo.miniatures.draw import draw_miniature
from internlm_zoo.registry import load_registry
from internlm_zoo.settings import Settings

REGISTRY = load_registry(Settings.from_environment({}))


@pytest.mark.parametrize("name", REGISTRY.models)
def test_a_miniature_keeps_grouping_biases_vocabulary_and_rotary_base(name, tmp_path):
    model = REGISTRY.model(name)
    draw_miniature(model, REGISTRY, tmp_path)
    made, shape = converters.open_checkpoint(tmp_path), REGISTRY.shape_of(model)
    facts = {fact: made.facts[fact].value for fact in made.facts}
    assert made.family == REGISTRY.family_of(model).layout
    assert facts["vocab_size"] == shape.vocab_size
    assert facts["attention_bias"] == shape.attention_bias
    assert (
        facts["num_attention_heads"] // facts["num_kv_heads"]
        == shape.num_attention_heads // shape.num_kv_heads
    )
    assert facts["rope_theta"] == (shape.rope_theta or 10000)
    assert ("reward.weight" in made.tensors) == (model.kind == "reward")
    assert set(made.dtypes) == {"F16" if model.released_config.get("torch_dtype") == "float16" else "BF16"}


def test_the_same_model_is_drawn_to_the_same_bytes(tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        draw_miniature(REGISTRY.model("demo-internlm2-chat"), REGISTRY, folder)
    files = [{file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders]
    assert files[0] == files[1]
    assert {"model_tp0_pp0.pt", "model_tp1_pp1.pt", "tokenizer.json"} <= files[0].keys()


def test_torch_reads_what_was_drawn_and_no_two_ranks_hold_the_same_heads(tmp_path):
    import torch

    draw_miniature(REGISTRY.model("demo-internlm-base"), REGISTRY, tmp_path)
    one, other = (torch.load(tmp_path / f"model_tp{rank}_pp0.pt", weights_only=True) for rank in range(2))
    assert one.keys() == other.keys()
    assert not torch.equal(one["blocks.0.mixer.Wqkv.weight"], other["blocks.0.mixer.Wqkv.weight"])
    assert torch.equal(one["blocks.0.norm1.weight"], other["blocks.0.norm1.weight"])


def test_all_without_a_way_to_get_them_has_a_line_for_each_and_fails(smoke, monkeypatch, tmp_path, capsys):
    import json

    from internlm_zoo.cli.shell import run

    monkeypatch.setenv("INTERNLM_ZOO_SOURCES", "bundled")
    code = run(["smoke", "--all", "--offline", "--json", "-q"])
    document = json.loads(capsys.readouterr().out)
    assert code == 1 and len(document["results"]) == len(REGISTRY.models)
    by_name = {result["model"]: result for result in document["results"]}
    assert by_name["demo-internlm-base"]["ok"]
    assert by_name["internlm-20b"]["sentence"].startswith("not tried: ")

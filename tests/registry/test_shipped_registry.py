"""registry.yaml says what the published pages say, cell by cell."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from internlm_zoo.registry import read_registry
from internlm_zoo.registry.query import parameter_count
from internlm_zoo.registry.schema import CONVERSATION, json_schema, takes_turns

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
SEEDS = ["internlm-chat-20b", "internlm-20b", "internlm-chat-7b", "internlm-7b"]


@cache
def published(name: str) -> Any:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not beside this checkout: nothing to compare with")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


REGISTRY = read_registry()


def test_every_published_model_is_there_and_only_further_ones_and_demo_models_besides():
    further = published("facts.yaml")["further_releases"]
    repos = set()
    for key in ("same_architecture_as_internlm2", "same_architecture_as_internlm2_reward"):
        repos |= {entry[name] for entry in further[key] for name in ("repo", "with") if name in entry}
    besides = {REGISTRY.listing("huggingface", repo)[0].name for repo in repos}
    besides |= {"demo-internlm-base", "demo-internlm2-chat"}
    assert set(REGISTRY.models) == set(published("catalog.yaml")["models"]) | besides


def test_models_say_what_was_published():
    for name, facts in published("catalog.yaml")["models"].items():
        model = REGISTRY.models[name].model_dump(mode="json")
        for field in ("display_name", "family", "size", "kind"):
            assert model[field] == facts[field], (name, field)
        corrected = published("facts.yaml")["models"].get(name, {}).get("release_date")
        assert model["release_date"] == (corrected["value"] if corrected else facts["release_date"]), name
        if "context_length" in facts:
            assert model["context"]["claimed"] == facts["context_length"], name
        assert set(facts["evidence"]) <= set(model["evidence"]), name


def test_architectures_are_the_published_ones_and_others_have_their_own_evidence():
    """The 20B of InternLM has no biases in its weights, whatever its training code says."""
    no_bias = {"internlm-20b": {"attention_bias": False}, "internlm-chat-20b": {"attention_bias": False}}
    for name, facts in published("catalog.yaml")["models"].items():
        model = REGISTRY.models[name]
        if facts["architecture"] is not None:
            found = model.architecture.model_dump(exclude_none=True)
            assert found == {"rope_theta": 10000, **facts["architecture"], **no_bias.get(name, {})}, name
        elif model.architecture is not None:
            assert len(model.evidence) > len(facts["evidence"]), f"{name} has sizes from nowhere"


def test_releases_are_the_published_ones_in_their_order():
    for name, facts in published("catalog.yaml")["models"].items():
        expected = [
            (
                key.removesuffix("_original"),
                source["repo"],
                source["format"] or "hf",  # settled since: InternLM/InternLM#460
                source.get("also_listed_as", []),
            )
            for key, source in facts["sources"].items()
        ]
        releases = REGISTRY.models[name].releases
        found = [(r.hub, r.repo, r.format, list(r.also_listed_as)) for r in releases]
        assert [release for release in found if release in expected] == expected, name
        for hub, files in facts.get("files", {}).items():
            if hub != "evidence":
                assert list(releases[0].known_files) == files


def test_modelers_has_what_was_seen_there_and_stands_after_modelscope():
    wanted = published("facts.yaml")["hubs"]["modelers"]["repos_of_the_catalogue"]
    found = []
    for model in REGISTRY.models.values():
        hubs = [release.hub for release in model.releases]
        if "modelers" in hubs:
            assert hubs[:3] == ["huggingface", "modelscope", "modelers"], model.name
            found.append(model.releases[2].repo)
    assert sorted(found) == sorted(wanted)


def test_all_231_evaluation_cells_are_the_published_ones():
    tables = published("evaluations.yaml")["tables"]
    ours = [table.model_dump(mode="json") for table in REGISTRY.evaluations]
    assert [table["id"] for table in ours] == [table["id"] for table in tables]
    cells = 0
    for table, expected in zip(ours, tables, strict=True):
        for field in ("section", "source", "models"):
            assert table[field] == expected[field]
        for row, wanted in zip(table["rows"], expected["rows"], strict=True):
            assert row["benchmark"] == wanted["benchmark"]
            assert row["category"] == wanted.get("category")
            assert row["scores"] == wanted["scores"]
            assert row["best_in_class"] == wanted.get("best_in_class", [])
            assert row["from_original_paper"] == wanted.get("from_original_paper", [])
            cells += len(row["scores"])
    assert cells == 231


@pytest.mark.parametrize("name", SEEDS)
def test_models_of_the_model_cards_have_four_releases(name: str):
    own = [release for release in REGISTRY.model(name).releases if not release.quantised]
    assert [(release.hub, release.format) for release in own] == [
        ("huggingface", "hf"),
        ("modelscope", "hf"),
        ("openxlab", "hf"),
        ("openxlab", "original"),
    ]


def test_both_names_of_the_20b_chat_repositories_are_kept_the_working_one_first():
    huggingface, modelscope, *_ = REGISTRY.model("internlm-chat-20b").releases
    assert (huggingface.repo, huggingface.also_listed_as) == (
        "internlm/internlm-chat-20b",
        ("internlm/internlm-20b-chat",),
    )
    assert modelscope.also_listed_as == ("Shanghai_AI_Laboratory/internlm-20b-chat",)


@pytest.mark.parametrize("family", ["internlm", "internlm2"])
def test_special_tokens_are_where_the_published_tokenizer_has_them(family: str):
    sentencepiece = pytest.importorskip("sentencepiece")
    path = SHARED / f"tokenizer_{family}.model"
    if not path.exists():
        pytest.skip(f"{path} is not beside this checkout")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))
    known = REGISTRY.families[family]
    assert pieces.get_piece_size() == known.tokenizer.pieces
    for role, token in known.special_tokens.items():
        assert pieces.id_to_piece(token.id) == (token.piece or token.token), role


def test_published_parameter_counts_follow_from_the_sizes():
    billions = {
        name: parameter_count(REGISTRY.model(name)) / 1e9 for name in ("internlm-7b", "internlm2-20b")
    }
    assert billions["internlm-7b"] == pytest.approx(7.32, abs=0.01)
    assert billions["internlm2-20b"] == pytest.approx(19.86, abs=0.01)
    reward, chat = (parameter_count(REGISTRY.model(name)) for name in ("internlm2-7b-reward", "internlm2-7b"))
    assert chat - reward == (92544 - 1) * 4096


def test_every_model_has_a_shape_for_its_miniature():
    assert [model.name for model in REGISTRY.models.values() if REGISTRY.shape_of(model) is None] == []


@pytest.mark.parametrize("name", ["demo-internlm-base", "demo-internlm2-chat"])
def test_demo_models_are_what_their_files_say(name: str):
    torch, sentencepiece = pytest.importorskip("torch"), pytest.importorskip("sentencepiece")
    model = REGISTRY.model(name)
    endpoint = REGISTRY.hub("bundled").endpoint_in({})
    assert endpoint is not None
    directory = Path(endpoint) / model.releases[0].repo
    config = torch.load(directory / "model_config.pt", weights_only=True)
    weights = torch.load(directory / "model_tp0_pp0.pt", weights_only=True)
    sizes = model.architecture
    assert (sizes.hidden_size, sizes.num_layers) == (config["hidden_size"], config["num_layers"])
    assert sizes.num_attention_heads == config["num_attention_heads"]
    assert sizes.num_kv_heads == config["num_kv_attention_heads"]
    assert (sizes.vocab_size, sizes.rope_theta) == (config["vocab_size"], config["rope_base"])
    assert sizes.attention_bias is not config["no_bias"]
    assert model.context.trained == config["max_position_embeddings"]
    assert parameter_count(model) == sum(weight.numel() for weight in weights.values())

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))
    assert pieces.get_piece_size() == REGISTRY.tokenizer_of(model).pieces
    for role, token in REGISTRY.special_tokens_of(model).items():
        assert pieces.id_to_piece(token.id) == (token.piece or token.token), role


TALKING = [name for name, model in REGISTRY.models.items() if takes_turns(model.kind)]


@pytest.mark.parametrize("name", TALKING)
def test_the_chat_template_of_every_model_makes_what_the_registry_says_it_does(name: str):
    template = REGISTRY.chat_template_of(REGISTRY.model(name))
    assert template is not None
    sandbox = pytest.importorskip("jinja2.sandbox")
    environment = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    made = environment.from_string(template)
    turns = [dict(turn) for turn in CONVERSATION]
    found = made.render(messages=turns, bos_token="<s>", add_generation_prompt=True)
    assert found == REGISTRY.rendered_of(REGISTRY.model(name))


def test_published_schema_is_current():
    text = (ROOT / "registry.schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == json_schema(), "run `internlm-zoo registry schema > registry.schema.json`"


@pytest.mark.parametrize("file", ["registry.yaml", "internlm_zoo/demo/overlay.yaml"])
def test_shipped_files_name_the_schema_and_follow_it(file: str):
    text = (ROOT / file).read_text(encoding="utf-8")
    named = text.partition("\n")[0].removeprefix("# yaml-language-server: $schema=")
    assert (ROOT / file).parent.joinpath(named).resolve() == ROOT / "registry.schema.json"
    plain = json.loads(json.dumps(yaml.safe_load(text), default=str))
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(plain, json_schema())


def test_schema_refuses_what_loading_refuses():
    for wrong in ({"models": {"x": {"kind": "bse"}}}, {"models": {"x": {"relases": []}}}, {"modls": {}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, json_schema())


def test_demo_overlay_adds_the_loopback_releases_after_the_bundled_one():
    with_demo = read_registry(ROOT / "internlm_zoo" / "demo" / "overlay.yaml")
    for name in ("demo-internlm-base", "demo-internlm2-chat"):
        assert [release.id for release in with_demo.model(name).releases] == [
            f"bundled:{name}",
            f"huggingface:internlm-zoo/{name}",
            f"modelscope:internlm-zoo/{name}",
            f"modelers:internlm-zoo/{name}",
            f"openxlab:internlm-zoo/{name}",
            f"openxlab:internlm-zoo/{name}-original",
        ]


def test_hub_endpoints_come_from_the_environment_first():
    assert REGISTRY.hubs["huggingface"].endpoint_in({}) == "https://huggingface.co"
    assert REGISTRY.hubs["huggingface"].endpoint_in({"HF_ENDPOINT": "http://here"}) == "http://here"
    assert Path(REGISTRY.hubs["bundled"].endpoint_in({})) == ROOT / "internlm_zoo" / "demo" / "models"


def render(template: str, messages: list[dict[str, str]], prompt: bool) -> str:
    """As transformers renders chat templates: sandboxed jinja, trimmed blocks."""
    sandbox = pytest.importorskip("jinja2.sandbox")
    environment = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def refuse(message: str) -> None:
        raise ValueError(message)

    environment.globals["raise_exception"] = refuse
    compiled = environment.from_string(template)
    return compiled.render(messages=messages, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>")


TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]


def template_of(name: str) -> str:
    template = REGISTRY.chat_template_of(REGISTRY.model(name))
    assert template is not None
    return template


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("internlm-chat-7b", ""),
        ("internlm-chat-20b", ""),
        ("internlm-chat-7b-8k", "<eoh>"),
        ("internlm-chat-7b-v1.1", "<eoh>"),
        ("demo-internlm-base", "<eoh>"),
    ],
)
def test_internlm_chat_format(name: str, end: str):
    template = template_of(name)
    assert render(template, TURNS[1:], True) == (
        f"<s><|User|>:Hi{end}\n<|Bot|>:Hello<eoa>\n<|User|>:Bye{end}\n<|Bot|>:"
    )
    assert render(template, TURNS[:2], False) == f"<s><|System|>:Be brief.\n<|User|>:Hi{end}\n"
    with pytest.raises(ValueError, match="roles"):
        render(template, [{"role": "tool", "content": "x"}], False)


@pytest.mark.parametrize("name", ["internlm2-chat-7b", "internlm2.5-7b-chat", "internlm3-8b-instruct"])
def test_chatml_format_of_the_later_families(name: str):
    assert render(template_of(name), TURNS, True) == (
        "<s><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    )

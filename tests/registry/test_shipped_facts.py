"""registry.yaml says of each model what public sources say of it, value by value."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from internlm_zoo.registry import read_registry

FACTS = Path(__file__).parents[3] / "shared" / "data" / "facts.yaml"
REGISTRY = read_registry()
# How a key of config.json is called in the registry's architectures.
ARCHITECTURE = {
    "bias": "attention_bias",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_attention_heads": "num_attention_heads",
    "num_hidden_layers": "num_layers",
    "num_key_value_heads": "num_kv_heads",
    "rope_theta": "rope_theta",
    "vocab_size": "vocab_size",
}
RELEASED = ("max_position_embeddings", "rms_norm_eps", "rope_scaling", "rotary", "reward_token_id")


@cache
def facts() -> dict[str, Any]:
    if not FACTS.exists():
        pytest.skip(f"{FACTS} is not beside this checkout: nothing to compare with")
    return yaml.safe_load(FACTS.read_text(encoding="utf-8"))


def said(field: str) -> dict[str, Any]:
    """Model -> what is said of it in this field, for the models of which something is."""
    return {name: model[field] for name, model in facts()["models"].items() if field in model}


def test_parameters_and_bytes_are_the_stated_ones():
    for name, payload in said("payload").items():
        model = REGISTRY.model(name)
        assert (model.parameters, model.bytes_16bit) == (payload["parameters"], payload["bytes_16bit"]), name
    assert [m.name for m in REGISTRY.models.values() if m.architecture and not m.parameters] == []


def test_trained_and_claimed_length_are_two_numbers():
    for name, context in said("context").items():
        model = REGISTRY.model(name)
        assert model.context.trained == context["trained"], name
        if "claimed" in context:
            assert model.context.claimed == context["claimed"], name
    claims = [model.context for model in REGISTRY.models.values() if model.context.claimed]
    assert all(context.claimed_how for context in claims)


def test_config_values_are_those_of_the_config_json_that_was_seen():
    for name, config in said("config").items():
        model = REGISTRY.model(name)
        sizes = model.architecture.model_dump()
        for key, value in config["values"].items():
            if key in ARCHITECTURE:
                assert sizes[ARCHITECTURE[key]] == value, (name, key)
            elif key in RELEASED and key not in model.by_revision:
                assert model.released_config[key] == value, (name, key)


def test_what_differs_by_revision_has_no_one_value():
    for model in REGISTRY.models.values():
        assert not {*model.by_revision} & {*model.released_config}, model.name
    assert "rope_scaling" in REGISTRY.model("internlm2-chat-7b").by_revision
    assert "2.0" in REGISTRY.model("internlm2-chat-7b").by_revision["rope_scaling"]


@pytest.mark.parametrize("hub", ["huggingface", "modelscope"])
def test_every_quoted_revision_is_in_the_history_of_its_hub(hub: str):
    for name, revisions in said(f"revisions_{hub}").items():
        model = REGISTRY.model(name)
        release = next(r for r in model.releases if (r.hub, r.format) == (hub, "hf"))
        assert set(release.known_revisions) == set(revisions) - {"source", "trust"}, name
        assert release.evidence, f"the revisions of {name} come from nowhere"
        assert release.revision is None, "a quotation is not what is fetched"


def test_licences_have_their_date_and_the_cards_their_own_word():
    for name, card in said("licence_metadata").items():
        told = card["huggingface"]
        assert REGISTRY.model(name).card_licence == (None if told == "unsettled" else told), name
    for name in facts()["models"]:
        licence = REGISTRY.model(name).licence
        assert (licence.code, licence.weights) == ("Apache-2.0", "Apache-2.0")
        earlier = None if name.startswith("internlm3") else "2025-01-15"
        assert (licence.since and licence.since.isoformat()) == earlier, name


def test_the_first_release_and_the_update_are_two_dates():
    for name, date in said("release_date").items():
        model = REGISTRY.model(name)
        assert model.release_date.isoformat() == date["value"]
        if "updated" in date:
            assert model.update_date.isoformat() == "2023-12-12" and "2023-12-13" in " ".join(model.notes)


def test_internlm3_tokens_are_all_there_and_its_embedding_has_more_rows_than_pieces():
    told = facts()["families"]["internlm3"]["tokenizer"]
    model = REGISTRY.model("internlm3-8b-instruct")
    found = {token.token: token.id for token in REGISTRY.special_tokens_of(model).values()}
    expected = {entry["token"]: entry["id"] for entry in told["special_tokens"].values()}
    assert found == {**expected, **told["thinking_tokens"]}
    assert [token.id for token in REGISTRY.stop_tokens_of(model)] == [2, 128131]
    tokenizer = REGISTRY.tokenizer_of(model)
    assert (tokenizer.pieces, model.architecture.vocab_size) == (told["pieces"], told["embedding_rows"])


@pytest.mark.parametrize("family", ["internlm", "internlm2", "internlm3"])
def test_tokenizer_files_are_the_quoted_ones(family: str):
    told = facts()["families"][family]["tokenizer"]
    known = REGISTRY.families[family].tokenizer
    assert (known.pieces, known.bytes, known.sha256) == (told["pieces"], told["file_bytes"], told["sha256"])


def test_only_reward_models_have_the_reward_token():
    told = facts()["families"]["internlm2"]["reward_token"]
    for model in REGISTRY.models.values():
        token = REGISTRY.special_tokens_of(model).get("reward")
        assert (token is not None) == (model.kind == "reward"), model.name
        if token:
            assert (token.token, token.id, token.piece) == (told["token"], told["id"], told["piece"])


def test_quoted_files_are_those_of_the_committed_copies():
    for name, count in (("internlm-7b", 12), ("internlm2.5-7b", 2)):
        quoted = REGISTRY.model(name).releases[0].quoted_files
        assert len(quoted) == count
        assert_quoted(quoted, said("files_huggingface")[name])
    quoted = REGISTRY.model("internlm3-8b-instruct").releases[1].quoted_files
    assert len(quoted) == 11
    assert_quoted(quoted, said("files")["internlm3-8b-instruct"])


def assert_quoted(quoted, told):
    for file, entry in quoted.items():
        stated = told[file] if isinstance(told[file], dict) else {"bytes": told[file]}
        assert entry.bytes == stated["bytes"], file
        assert entry.sha256 == stated.get("sha256"), file
        assert entry.git_sha1 == stated.get("git_blob"), file
        assert entry.source


def test_openxlab_has_both_formats_of_the_7b_variants():
    for name in ("internlm-chat-7b-8k", "internlm-chat-7b-v1.1"):
        told = said("openxlab")[name]
        found = {r.format: r.repo for r in REGISTRY.model(name).releases if r.hub == "openxlab"}
        assert found == {"hf": told["hf"], "original": told["original"]}


def test_every_official_quantised_release_is_listed_with_its_format():
    for told in facts()["further_releases"]["quantised"]:
        for hub, repo in ((told["hub"], told["repo"]), ("modelscope", told.get("modelscope"))):
            if repo is None:
                continue
            _, release = REGISTRY.listing(hub, repo)
            assert release.format == told["format"].split()[0] and release.quantised, repo
            if release.format == "gguf":
                same = 9 if "same nine" in told["files"] or "fp16" in told["files"] else 8
                assert len(release.known_files) == same, repo
                stem = told["files"].partition("{")[0]
                assert all(name.startswith(stem) and name.endswith(".gguf") for name in release.known_files)


def test_quoted_digests_are_those_that_were_quoted():
    for told in facts()["file_digests"]:
        found = REGISTRY.listing("huggingface", told["repo"])
        if found and told["file"] in found[1].quoted_files:
            quoted = found[1].quoted_files[told["file"]]
            assert (quoted.sha256, quoted.bytes) == (told["sha256"], told["bytes"]), told["file"]
        else:
            assert told["sha256"] in str(REGISTRY), told["repo"]


def test_every_model_of_the_internlm2_layout_is_a_member_with_its_repositories():
    further = facts()["further_releases"]
    told = further["same_architecture_as_internlm2"] + further["same_architecture_as_internlm2_reward"]
    for entry in told:
        names = [("huggingface", entry["repo"]), ("huggingface", entry.get("with"))]
        names += [(hub, entry.get(hub)) for hub in ("modelscope", "openxlab")]
        for hub, repo in names:
            if repo:
                model, release = REGISTRY.listing(hub, repo)
                assert REGISTRY.family_of(model).layout == "internlm2" and release.format == "hf"
        model, release = REGISTRY.listing("huggingface", entry["repo"])
        assert str(model.release_date) == entry["date"][:10]
        if "revision" in entry:
            assert set(release.known_revisions) == {entry["revision"]}
        for key, value in entry.get("config", {}).items():
            assert {**model.released_config, "rope_theta": model.architecture.rope_theta}[key] == value
    scored = {entry["repo"] for entry in further["same_architecture_as_internlm2_reward"]}
    assert {REGISTRY.listing("huggingface", repo)[0].kind for repo in scored} == {"reward"}


def test_other_architectures_are_named_and_no_members():
    told = facts()["further_releases"]["other_architectures"]
    repos = {repo for entry in told for repo in entry.get("repos", [entry.get("repo")])}
    assert {repo for other in REGISTRY.other_architectures for repo in other.repos} == repos
    assert not any(REGISTRY.listing("huggingface", repo) for repo in repos)

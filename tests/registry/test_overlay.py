"""An overlay adds or overrides, is checked like the registry itself, and is named as the origin."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from internlm_zoo.errors import NotFoundError, UnsupportedError, UsageError
from internlm_zoo.registry import Registry, RegistryError, load_registry, read_registry
from internlm_zoo.settings import Settings

BASE = read_registry()


def overlaid(tmp_path: Path, text: str) -> Registry:
    path = tmp_path / "my.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return read_registry(path)


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(RegistryError) as caught:
        overlaid(tmp_path, text)
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


def test_a_hub_a_family_and_a_model_can_be_added(tmp_path: Path):
    registry = overlaid(
        tmp_path,
        """
        hubs:
          ours: {title: Our mirror, protocol: huggingface, endpoint: "http://mirror.local"}
        families:
          ours: {title: Ours, layout: internlm2}
        models:
          ours-1b:
            {display_name: Ours 1B, family: ours, size: 1b, kind: base,
             releases: [{hub: ours, repo: us/ours-1b, format: hf}]}
        """,
    )
    assert registry.model("ours-1b").releases[0].id == "ours:us/ours-1b"
    assert list(registry.models)[-1] == "ours-1b"
    assert dict(registry.models) == {**BASE.models, "ours-1b": registry.model("ours-1b")}
    assert {str(place) for place in registry.origins.values()} == {
        f"{tmp_path}/my.yaml:{line}" for line in (3, 5, 8)
    }


def test_the_order_of_sources_is_a_users_and_the_environment_comes_before_it(tmp_path: Path):
    registry = overlaid(tmp_path, "sources: [modelscope, huggingface]\n")
    assert BASE.sources_for(Settings.from_environment({})) == ()
    assert registry.sources_for(Settings.from_environment({})) == ("modelscope", "huggingface")
    named = Settings.from_environment({"INTERNLM_ZOO_SOURCES": "openxlab"})
    assert registry.sources_for(named) == ("openxlab",)


def test_a_source_that_is_no_hub_is_named_with_its_line(tmp_path: Path):
    (found,) = problems(tmp_path, "sources:\n  - modelscope\n  - hugingface\n")
    assert found.startswith("my.yaml:3: there is no hub 'hugingface'; known: huggingface")


def test_a_single_field_can_be_overridden_and_show_can_tell_where_from(tmp_path: Path):
    registry = overlaid(
        tmp_path, "models:\n  internlm-7b:\n    context: {trained: 4096}\n    architecture: {train_tp: 8}\n"
    )
    model = registry.model("internlm-7b")
    assert model.context.trained == 4096
    assert model.architecture.train_tp == 8
    assert model.architecture.num_layers == 32
    assert {path: place.line for path, place in registry.origins_of(model).items()} == {
        ("context", "trained"): 3,
        ("architecture", "train_tp"): 4,
    }
    other = registry.model("internlm-chat-7b")
    assert other == BASE.model("internlm-chat-7b"), "an anchor shared in registry.yaml is not changed"
    assert registry.origins_of(other) == {}


def test_releases_merge_by_hub_and_format(tmp_path: Path):
    releases = (
        overlaid(
            tmp_path,
            """
            models:
              internlm-7b:
                releases:
                  - {hub: openxlab, format: original, repo: us/fork}
                  - {hub: modelers, format: hf, repo: us/new}
            """,
        )
        .model("internlm-7b")
        .releases
    )
    before = BASE.model("internlm-7b").releases
    assert releases[:3] == before[:3]
    assert [release.id for release in releases[3:]] == ["openxlab:us/fork", "modelers:us/new"]


def test_null_takes_a_fact_back(tmp_path: Path):
    assert (
        overlaid(tmp_path, "models: {internlm-7b: {architecture: null}}").model("internlm-7b").architecture
        is None
    )


def test_a_score_can_be_corrected_alone(tmp_path: Path):
    registry = overlaid(
        tmp_path,
        """
        evaluations:
          - id: internlm-7b-benchmarks
            rows: [{benchmark: MATH, scores: {Vicuna-7B: 2.9}}]
        """,
    )
    rows = {row.benchmark: row for row in registry.evaluations[2].rows}
    assert rows["MATH"].scores["Vicuna-7B"] == 2.9
    assert rows["MATH"].scores["InternLM-7B"] == 7.1
    assert len(rows) == len(BASE.evaluations[2].rows)


def test_a_model_states_only_the_token_ids_that_differ(tmp_path: Path):
    registry = overlaid(
        tmp_path,
        "models: {demo-internlm2-chat: {special_tokens: {turn_end: {id: 7}}, tokenizer: {pieces: 2048}}}",
    )
    tokens = registry.special_tokens_of(registry.model("demo-internlm2-chat"))
    assert (tokens["turn_end"].token, tokens["turn_end"].id) == ("<|im_end|>", 7)
    assert tokens["eos"].id == 2
    assert registry.tokenizer_of(registry.model("demo-internlm2-chat")).pieces == 2048
    stops = registry.stop_tokens_of(registry.model("demo-internlm2-chat"))
    assert [token.id for token in stops] == [2, 7]
    assert [token.id for token in registry.stop_tokens_of(registry.model("internlm-7b"))] == [2]


def test_settings_name_the_overlay(tmp_path: Path):
    (tmp_path / "my.yaml").write_text("models: {internlm-7b: {size: 8b}}")
    for chosen in (
        Settings.from_environment({"INTERNLM_ZOO_REGISTRY": str(tmp_path / "my.yaml")}),
        Settings(home=tmp_path, registry=tmp_path / "my.yaml"),
    ):
        assert load_registry(chosen).model("internlm-7b").size == "8b"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.dictionaries(
        st.sampled_from(["internlm-7b", "internlm2-20b", "internlm3-8b-instruct"]),
        st.fixed_dictionaries(
            {},
            optional={
                "size": st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1),
                "card_licence": st.one_of(st.none(), st.sampled_from(["mit", "other"])),
                "kind": st.sampled_from(["base", "chat", "prover"]),
            },
        ),
    )
)
def test_any_overlay_changes_exactly_what_it_says(tmp_path: Path, fields: dict[str, dict[str, object]]):
    path = tmp_path / "any.yaml"
    path.write_text(yaml.safe_dump({"models": fields}, allow_unicode=True), encoding="utf-8")
    registry = read_registry(path)
    for name, model in BASE.models.items():
        assert registry.model(name) == model.model_copy(update=fields.get(name, {}))


def test_errors_name_file_line_field_and_what_is_allowed(tmp_path: Path):
    text = """\
    models:
      internlm-7b:
        kind: bse
        relases: []
        context: {trained: 4k}
      mine:
        family: internlm
        size: 7b
        kind: base
        releases: [{hub: openxlab, repo: a/b, formt: hf}]
    """
    kind, unknown, number, missing, nested = problems(tmp_path, text)
    assert kind == (
        "my.yaml:3: models.internlm-7b.kind is 'bse'; allowed: base, chat, chat-sft, reward, instruct, prover"
    )
    assert unknown.startswith(
        "my.yaml:4: models.internlm-7b has no field 'relases'; did you mean releases? allowed: architecture, "
    )
    assert number.startswith(
        "my.yaml:5: models.internlm-7b.context.trained is '4k'; it should be a valid integer"
    )
    assert missing == "my.yaml:6: models.mine.display_name is missing"
    assert nested.startswith("my.yaml:10: models.mine.releases[0] has no field 'formt'; did you mean format?")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "models:\n  internlm-7b:\n    family: internlmm\n",
            "my.yaml:3: there is no family 'internlmm'; known: internlm, internlm2, internlm2.5, internlm3",
        ),
        (
            "models:\n  internlm-7b:\n    releases:\n      - {hub: hugingface, repo: a/b}\n",
            "my.yaml:4: there is no hub 'hugingface'; known: huggingface, modelscope, openxlab, ",
        ),
        (
            "families:\n  internlm:\n    stop_tokens: [eso]\n",
            "my.yaml:3: there is no special token 'eso'; known: unk, bos, eos, pad, ",
        ),
        (
            "models:\n  internlm-7b:\n    architecture:\n      num_kv_heads: 5\n",
            "my.yaml:3: models.internlm-7b.architecture: 5 kv heads do not divide 32 heads",
        ),
        ("models:\n  a: {}\n  a: {}\n", "my.yaml:3: 'a' is there twice (first in line 2)"),
        ("models:\n  - a\n b: 1\n", "my.yaml:3: "),
        ("models: &a\n  b: *a\n", "my.yaml:2: an anchor contains itself"),
        ("- models\n", "my.yaml:1: a registry file is a mapping of hubs, families, models"),
        ("models: 3\n", "my.yaml:1: models is 3; it should be a valid mapping"),
        ("{1: 2}: 3\n", "my.yaml:1: a key is not plain text"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, expected: str):
    assert problems(tmp_path, text)[0].startswith(expected)


def test_second_release_of_one_hub_and_format_is_refused(tmp_path: Path):
    text = """\
    models:
      mine:
        {display_name: M, family: internlm, size: 1b, kind: base,
         releases: [{hub: openxlab, repo: a/b}, {hub: openxlab, repo: a/c}]}
    """
    assert "mine has a second release on openxlab" in problems(tmp_path, text)[0]


def test_merge_keys_are_understood(tmp_path: Path):
    registry = overlaid(
        tmp_path,
        """
        models:
          a: &a {display_name: A, family: internlm, size: 1b, kind: base}
          b: {<<: *a, display_name: B}
        """,
    )
    assert (registry.model("b").display_name, registry.model("b").size) == ("B", "1b")


def test_what_stands_beside_a_merge_key_can_be_overridden_and_its_anchor_used_again(tmp_path: Path):
    registry = overlaid(
        tmp_path,
        """
        models:
          a:
            display_name: A
            family: internlm
            size: 1b
            kind: base
            architecture: &sizes {<<: &whole {hidden_size: 64, num_layers: 2, num_attention_heads: 4,
              num_kv_heads: 4, intermediate_size: 96, vocab_size: 103168, attention_bias: true, train_tp: 2},
              train_tp: 1}
          b: {display_name: B, family: internlm, size: 1b, kind: base, architecture: *sizes}
        """,
    )
    assert [registry.model(name).architecture.train_tp for name in "ab"] == [1, 1]
    changed = overlaid(tmp_path, "models: {internlm2-math-7b: {architecture: {rope_theta: 5}}}")
    assert changed.model("internlm2-math-7b").architecture.rope_theta == 5
    assert BASE.model("internlm2-math-7b").architecture.rope_theta is None
    assert changed.model("internlm2-math-plus-7b") == BASE.model("internlm2-math-plus-7b")


def test_an_empty_overlay_changes_nothing(tmp_path: Path):
    assert overlaid(tmp_path, "# nothing yet\n") == BASE


def test_a_missing_overlay_is_an_error_not_an_empty_one(tmp_path: Path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_registry(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("internlm-20", "internlm-20b"),
        ("InternLM-20B", "internlm-20b"),
        ("internlm2_5-7b-chat", "internlm2.5-7b-chat"),
        ("internlm/internlm-20b-chat", "internlm-chat-20b"),
        ("intrnlm-chat-7b", "internlm-chat-7b"),
    ],
)
def test_a_misspelt_model_suggests_the_near_ones(typed: str, meant: str):
    with pytest.raises(NotFoundError) as caught:
        BASE.model(typed)
    assert caught.value.fix.startswith(f"did you mean {meant}"), caught.value.fix


@pytest.mark.parametrize("typed", ["internlm/Intern-S1", "Intern-S1", "intern-s1"])
def test_a_published_model_of_another_architecture_is_said_to_be_one(typed: str):
    with pytest.raises(UnsupportedError) as caught:
        BASE.model(typed)
    assert "internlm/Intern-S1 is a mixture of experts with vision" in caught.value.what
    assert "hf download internlm/Intern-S1" in str(caught.value.fix)


@pytest.mark.parametrize("typed", ["internlm2_5-7b-chat-gguf", "internlm/internlm2_5-7b-chat-gguf"])
def test_a_quantised_repository_taken_for_a_model_leads_to_its_format(typed: str):
    with pytest.raises(NotFoundError) as caught:
        BASE.model(typed)
    assert "`download('internlm2.5-7b-chat', format='gguf')`" in str(caught.value.fix)


def test_a_name_like_nothing_points_to_the_list():
    with pytest.raises(NotFoundError) as caught:
        BASE.model("gpt-5")
    assert "internlm-zoo list" in caught.value.fix

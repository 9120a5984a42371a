"""`convert --from-hub`: the same bytes as from a copy, for little more traffic than the weights, and nothing
of the source on the disk."""

from __future__ import annotations

import pytest

import converters
from converters import ConversionOptions, Execution
from converters.errors import UsageError
from internlm_zoo.checkpoints import conversion
from tests.remote.hub import (
    BUDGET,
    WAYS,
    content,
    sha256,
    weights_of,
)
from tests.world import ENDPOINTS


@pytest.mark.parametrize("way", WAYS)
def test_the_result_is_that_of_a_local_copy_for_5_percent_more_traffic(place, local, way):
    repo, options = WAYS[way]
    report = place.convert(f"huggingface:{repo}", **options)
    assert content(place.dst) == content(local(repo, options))
    assert place.sent <= BUDGET * place.weights(repo)
    assert report.fingerprints == converters.fingerprint(place.dst)
    place.assert_nothing_stored()


@pytest.mark.parametrize("way", WAYS)
def test_every_input_passes_in_order_and_is_held_against_its_sha256(place, way):
    repo, options = WAYS[way]
    place.convert(f"huggingface:{repo}", **options)
    files = place.inputs()
    assert {file["name"] for file in files} == {path.name for path in weights_of(place.root / repo)}
    for file in files:
        assert file["verified"] == "sha256"
        assert file["sha256"] == sha256(place.root / repo / file["name"])
        assert file["from"].startswith(f"huggingface:{repo}@")


@pytest.mark.parametrize("to", ["llama", "original"])
def test_a_tied_head_is_read_where_the_embedding_is(place, local, to):
    place.convert("huggingface:acme/tied", to=to)
    assert content(place.dst) == content(local("acme/tied", {"to": to}))
    place.assert_nothing_stored()


def test_rows_of_padding_are_added_on_the_way(place, local):
    how = {"to": "original", "tp": 2, "pad_vocab_to_multiple": 1000}
    place.convert("huggingface:acme/hf", **how)
    assert content(place.dst) == content(local("acme/hf", how))
    assert place.sent <= BUDGET * place.weights("acme/hf")


@pytest.mark.parametrize(("to", "tp"), [("hf", 1), ("original", 4)])
def test_rows_of_padding_are_dropped_on_the_way(place, local, to, tp):
    how = {"to": to, "tp": tp}
    place.convert("huggingface:acme/padded", **how)
    assert content(place.dst) == content(local("acme/padded", how))
    assert place.sent <= 1.1 * place.weights("acme/padded")
    place.assert_nothing_stored()


@pytest.mark.parametrize("hub", ENDPOINTS)
def test_every_protocol_gives_the_same(place, local, hub):
    repo, options = WAYS["original tp 2 to hf"]
    place.convert(f"{hub}:{repo}", **options)
    assert content(place.dst) == content(local(repo, options))
    assert place.sent <= BUDGET * place.weights(repo)
    for file in place.inputs():  # OpenXLab publishes no digests: what came is recorded, held against nothing
        assert file["verified"] == ("per tensor" if hub == "openxlab" else "sha256")
        assert file["sha256"] == sha256(place.root / repo / file["name"])


def test_a_model_is_read_at_the_first_hub_that_has_it_with_the_registrys_facts(place):
    place.convert("tiny", to="original")
    assert place.inputs()[0]["from"].startswith("modelscope:acme/hf@")
    report = conversion.plan(
        conversion.ConversionSource("tiny", from_hub=True), ConversionOptions("hf"), settings=place.settings
    )
    assert report.source.folder.name == "huggingface:acme/tp2"
    assert place.hubs["openxlab"].sent == 0
    place.assert_nothing_stored()


@pytest.mark.parametrize("name", ["demo-internlm2-chat", "bundled:demo-internlm-base"])
def test_tokenizer_and_facts_are_those_of_a_downloaded_release(place, tmp_path, name):
    place.convert(name, to="hf")
    model = name.rpartition(":")[2]
    conversion.convert(
        conversion.ConversionSource(model),
        tmp_path / "out" / "two",
        ConversionOptions("hf"),
        Execution(),
        settings=place.settings,
    )
    assert "tokenizer.json" in content(place.dst)
    assert content(place.dst) == content(tmp_path / "out" / "two")


def test_a_plan_is_made_of_headers_alone(place, local):
    repo, options = WAYS["original tp 2 to hf"]
    options = ConversionOptions(**options)
    plan = conversion.plan(
        conversion.ConversionSource(f"huggingface:{repo}", from_hub=True), options, settings=place.settings
    )
    local_plan = converters.plan_conversion(converters.open_checkpoint(place.root / repo), options)
    assert plan.files == local_plan.files
    assert place.sent < 0.03 * place.weights(repo)
    requests = len(place.hub.requests)
    assert requests < 60  # some tens of tensors in two files
    place.assert_nothing_stored()


def test_the_command_line_has_it(place, zoo, monkeypatch):
    for name, value in place.environ.items():
        monkeypatch.setenv(name, value)
    code, out, _ = zoo("convert", "huggingface:acme/tp2", place.dst, "--to", "hf", "--from-hub", "--dry-run")
    assert code == 0 and "nothing was written" in out and not place.dst.exists()
    code, out, _ = zoo("convert", "huggingface:acme/tp2", place.dst, "--to", "hf", "--from-hub")
    assert (code, out) == (0, f"{place.dst}\n")
    code, out, _ = zoo("verify", place.dst, "--json")
    assert code == 0
    code, _, err = zoo("convert", "huggingface:acme/tp2", place.folder / "two", "--to", "hf")
    assert code == 4 and "--from-hub" in err


@pytest.mark.parametrize("way", ["hf to hf", "original tp 2 to hf"])
def test_what_is_there_from_the_same_release_costs_no_weights(place, way):
    repo, options = WAYS[way]
    place.convert(f"huggingface:{repo}", **options)
    before, sent = content(place.dst), place.sent
    assert place.convert(f"huggingface:{repo}", **options).unchanged
    assert content(place.dst) == before
    assert place.sent - sent < 0.03 * place.weights(repo)


def test_where_a_hub_says_no_digest_nothing_is_taken_for_the_same(place):
    place.convert("openxlab:acme/tp1", to="hf")
    with pytest.raises(UsageError, match="nothing but reading it"):
        place.convert("openxlab:acme/tp1", to="hf")

"""Ids and texts are sentencepiece's own, for every string."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.converters.tokenizer.models import CONTROLS, DEMO, ROOT
from tests.converters.tokenizer.texts import EMOJI, RUNS, make_texts

COUNT = 20_000


def assert_same_ids(converted, texts):
    found = converted.tokenizer(texts).input_ids
    wanted = converted.reference.encode(texts)
    for text, one, other in zip(texts, found, wanted, strict=True):
        assert one == other, f"{text!r}: {one} is not {other}"
    return found


def assert_same_texts(converted, texts, ids):
    found = converted.tokenizer.batch_decode([row[1:] for row in ids])
    for text, row, one in zip(texts, ids, found, strict=True):
        wanted = converted.reference.decode(row[1:])
        assert one == wanted, f"{text!r} comes back as {one!r}, not {wanted!r}"


def test_twenty_thousand_strings_get_the_ids_and_texts_of_sentencepiece(converted):
    tokens = list(converted.reference.tokens)
    texts = make_texts(COUNT, tokens, converted.reference.pieces, seed=20230920)
    assert len(texts) >= COUNT
    assert len(set(texts)) > 0.75 * COUNT
    ids = assert_same_ids(converted, texts)
    assert_same_texts(converted, texts, ids)


def test_pieces_beside_themselves_and_each_other_are_cut_alike(converted):
    """Where merges compete: every kind of overlap that the vocabulary has, in a sample of its pieces."""
    rng = random.Random(7)
    pieces = converted.reference.pieces
    sample = rng.sample(pieces, min(len(pieces), 6_000))
    texts = [piece * rng.choice((1, 2, 3, 7)) for piece in sample]
    texts += ["".join(rng.choices(sample, k=rng.randint(2, 6))) for _ in sample]
    assert_same_ids(converted, texts)


def test_a_piece_whose_cuts_overlap_is_cut_from_the_left(converted):
    """`x y z` where both `x y` and `y z` spell the same piece."""
    pieces = set(converted.reference.pieces)
    texts = []
    for piece in sorted(pieces):
        cuts = [at for at in range(1, len(piece)) if piece[:at] in pieces and piece[at:] in pieces]
        texts += [piece + piece[b:] for a in cuts for b in cuts if a != b and piece[a:] == piece[:b]]
    rng = random.Random(11)
    texts = rng.sample(texts, min(len(texts), 10_000))
    assert texts
    assert_same_ids(converted, [before + text for text in texts for before in ("", " ", "x")])


def test_long_text_is_cut_as_a_whole(converted):
    texts = make_texts(4_000, ["<s>"], converted.reference.pieces, seed=3)
    assert_same_ids(converted, ["".join(texts), " " * 5_000, "\n" * 3_001 + "\t" * 999])


def test_tokens_written_in_a_text_are_single_ids(converted):
    for token, id in {**CONTROLS, **converted.chat}.items():
        assert converted.tokenizer(f"a{token}b", add_special_tokens=False).input_ids[1:-1] == [id]
        assert converted.tokenizer.convert_tokens_to_ids(token) == id
        assert converted.tokenizer.decode([id]) == token
        assert converted.tokenizer.decode([id], skip_special_tokens=True) == ""


def test_names_inside_the_model_still_give_their_ids(converted):
    """internlm2's chat tokens have a second name, the one that sentencepiece knows."""
    sp = converted.reference.sp
    names = [sp.id_to_piece(id) for id in converted.chat.values()]
    assert converted.tokenizer(names, add_special_tokens=False).input_ids == [
        [id] for id in converted.chat.values()
    ]
    assert_same_ids(converted, [f"{a} {b}{a[:-1]}" for a in names for b in names])


def test_the_empty_text_is_bos_alone_and_nothing_follows_a_text(converted):
    assert converted.tokenizer("").input_ids == [1]
    assert converted.tokenizer("", add_special_tokens=False).input_ids == []
    assert converted.tokenizer("a").input_ids[0] == 1
    assert 2 not in converted.tokenizer("a").input_ids


def test_plain_tokenizers_gives_the_same(converted):
    from tokenizers import Tokenizer

    plain = Tokenizer.from_file(str(converted.folder / "tokenizer.json"))
    texts = make_texts(1_000, list(converted.reference.tokens), converted.reference.pieces, seed=5)
    assert [row.ids for row in plain.encode_batch(texts)] == converted.reference.encode(texts)


@pytest.mark.parametrize("name", ["demo-internlm-base", "demo-internlm2-chat"])
def test_golden_prompts_get_the_ids_their_models_were_trained_on(name):
    from tokenizers import Tokenizer

    from tests.converters.tokenizer.models import MODELS, convert_tokenizer

    chat = next(released.chat for released in MODELS.values() if released.path.parent.name == name)
    files = convert_tokenizer(DEMO / name / "tokenizer.model", special_tokens=chat)
    tokenizer = Tokenizer.from_buffer(files["tokenizer.json"])
    golden = json.loads((ROOT / "internlm_zoo" / "smoke" / "golden" / f"{name}.json").read_text("utf-8"))
    assert len(golden["prompts"]) == 16
    for row in golden["prompts"]:
        assert tokenizer.encode(row["prompt"]).ids == row["input_ids"]


scalars = st.characters(exclude_categories=["Cs"])
anything = st.lists(st.one_of(st.text(scalars), st.sampled_from([*RUNS, *EMOJI]).flatmap(
    lambda run: st.integers(1, 40).map(lambda times: run * times)
)), max_size=6).map("".join)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(anything, min_size=1, max_size=100))
def test_any_string_gets_the_ids_and_text_of_sentencepiece(converted, texts):
    assert_same_texts(converted, texts, assert_same_ids(converted, texts))


@pytest.mark.slow
def test_every_piece_doubled_tripled_and_joined_is_cut_alike(converted):
    pieces = converted.reference.pieces
    rng = random.Random(13)
    assert_same_ids(converted, [piece * times for piece in pieces for times in (1, 2, 3)])
    assert_same_ids(converted, ["".join(rng.choices(pieces, k=rng.randint(2, 8))) for _ in range(20_000)])

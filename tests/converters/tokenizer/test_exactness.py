"""A model is carried over exactly, or refused with the reason: never nearly."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import random
import tracemalloc

import pytest
import sentencepiece
from tokenizers import Tokenizer

from converters.errors import IntegrityError, UnsupportedError, UsageError
from tests.converters.tokenizer.models import (
    MODELS,
    NORMAL,
    UNUSED,
    USER_DEFINED,
    convert_tokenizer,
    write_model,
)
from tests.converters.tokenizer.texts import CHINESE, CODE, ENGLISH, make_texts

DEMO = MODELS["demo-internlm2"]
LETTERS = [("a", -100.0), ("b", -101.0)]
STRINGS = ["".join(letters) for size in range(1, 11) for letters in itertools.product("ab", repeat=size)]


def differing(path, texts):
    """The first text that the conversion of this model cuts otherwise, if any."""
    wanted = sentencepiece.SentencePieceProcessor(model_file=str(path)).encode(texts)
    found = Tokenizer.from_buffer(convert_tokenizer(path)["tokenizer.json"]).encode_batch(texts)
    return next(
        (text for text, one, other in zip(texts, found, wanted, strict=True) if one.ids[1:] != other), None
    )


def random_pieces(rng, most):
    """Pieces that join to pieces, in the order of their making or, as in no trained model, in any."""
    have = ["a", "b"]
    for _ in range(rng.randint(1, most)):
        piece = rng.choice(have) + rng.choice(have)
        if piece not in have and len(piece) <= 8:
            have.append(piece)
    made = have[2:]
    if rng.random() < 0.3:
        rng.shuffle(made)
    return made


@pytest.mark.parametrize("seed", range(40))
def test_any_model_with_scores_of_its_own_is_exact(seed, tmp_path):
    scores = [(piece, -float(at)) for at, piece in enumerate(random_pieces(random.Random(seed), 30))]
    assert differing(write_model(tmp_path / "m.model", [*scores, *LETTERS]), STRINGS) is None


def test_models_with_equal_scores_are_exact_or_refused(tmp_path):
    rng = random.Random(5)
    refused = 0
    for at in range(80):
        pieces = random_pieces(rng, 10)
        scores = [(piece, -float(rng.randint(0, len(pieces) // 2))) for piece in pieces]
        try:
            path = write_model(tmp_path / f"{at}.model", [*scores, *LETTERS])
            assert differing(path, STRINGS) is None, scores
        except UnsupportedError:
            refused += 1
    assert 10 < refused < 70


def test_equal_scores_that_contradict_each_other_are_refused_by_name(tmp_path):
    """In `aba` the left one of `ab` and `ba` wins, in `bab` the other."""
    path = write_model(tmp_path / "m.model", [("ab", -1.0), ("ba", -1.0), *LETTERS])
    with pytest.raises(UnsupportedError, match=r"'ab', 'ba'.*one score"):
        convert_tokenizer(path)


def test_equal_scores_that_cannot_meet_are_fine(tmp_path):
    scores = [("aa", -1.0), ("bb", -1.0), *LETTERS]
    assert differing(write_model(tmp_path / "m.model", scores), STRINGS) is None


def test_a_model_without_scores_is_refused_at_once(tmp_path):
    pieces = {left + right for left in map(chr, range(97, 123)) for right in map(chr, range(97, 123))}
    scores = [(piece, 0.0) for piece in sorted(pieces | set(map(chr, range(97, 123))))]
    with pytest.raises(UnsupportedError, match="676 pieces"):
        convert_tokenizer(write_model(tmp_path / "m.model", scores))


@pytest.mark.parametrize(
    "pieces",
    [[("a" * 10_000, -1.0), ("a" * 9_999, -1.0)], [(f"{at:0>900}", -1.0 - at) for at in range(30)]],
    ids=["long", "many"],
)
def test_pieces_too_long_to_be_cut_up_in_time_are_refused(pieces, tmp_path):
    digits = [(str(digit), -99.0 - digit) for digit in range(10)]
    with pytest.raises(UnsupportedError, match="more than is cut up"):
        convert_tokenizer(write_model(tmp_path / "m.model", [*pieces, *digits, *LETTERS]))


@pytest.mark.slow
def test_a_file_of_nothing_but_small_fields_takes_no_more_memory_than_a_model():
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError):
            convert_tokenizer(b"\x08\x01" * (1 << 22))
        assert tracemalloc.get_traced_memory()[1] < 150_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "how, field",
    [
        ({"model_type": 1}, "model_type"),
        ({"byte_fallback": False}, "byte_fallback"),
        ({"bos_piece": "<none>"}, "bos_piece"),
        ({"normalizer": b"\x18\x00\x20\x01"}, "remove_extra_whitespaces"),
        ({"normalizer": b"\x18\x00\x20\x00\x28\x00"}, "escape_whitespaces"),
        ({"normalizer": b"\x12\x01x\x18\x00\x20\x00"}, "precompiled_charsmap"),
        ({"extra": [("ab", -1.0, UNUSED)]}, "UNUSED"),
        ({"extra": [("a b", 0.0, USER_DEFINED)]}, "USER_DEFINED"),
        ({"extra": [("ac", -1.0, NORMAL)]}, "characters of pieces"),
        ({"extra": [("ab", math.nan, NORMAL)]}, "scores of pieces"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_that_have_no_exact_counterpart_are_refused_by_name(how, field, tmp_path):
    path = write_model(tmp_path / "m.model", LETTERS, **how)
    with pytest.raises(UnsupportedError, match=field) as caught:
        convert_tokenizer(path)
    assert caught.value.where == str(tmp_path / "tokenizer.model")


PREFIX = b"\x18\x01\x20\x00"


def test_a_prefix_before_every_text_is_exact(tmp_path):
    """As sentencepiece's add_dummy_prefix."""
    scores = [("▁a", -1.0), ("ab", -2.0), ("▁▁", -3.0), *LETTERS, ("▁", -102.0)]
    path = write_model(tmp_path / "m.model", scores, normalizer=PREFIX)
    words = (f"{one} {two}  {three}" for one, two, three in itertools.permutations(STRINGS[:9], 3))
    assert differing(path, [" ", "  ", "▁", "\0", "é", *STRINGS, *words]) is None
    tokenizer = Tokenizer.from_buffer(convert_tokenizer(path)["tokenizer.json"])
    assert tokenizer.encode("").ids == [1]
    reference = sentencepiece.SentencePieceProcessor(model_file=str(path))
    for text in ("ab a", " ab", "  "):
        assert tokenizer.decode(tokenizer.encode(text).ids[1:]) == reference.decode(reference.encode(text))


def test_a_prefix_is_put_before_each_part_between_tokens(tmp_path):
    """As the families' own classes do, which hand sentencepiece one part after the other."""
    scores = [("▁a", -1.0), ("ab", -2.0), *LETTERS, ("▁", -102.0)]
    extra = [("[UNUSED_TOKEN_1]", 0.0, USER_DEFINED), ("[UNUSED_TOKEN_2]", 0.0, USER_DEFINED)]
    path = write_model(tmp_path / "m.model", scores, extra=extra, normalizer=PREFIX)
    files = convert_tokenizer(path, special_tokens={"<|im_end|>": "[UNUSED_TOKEN_2]"})
    tokenizer = Tokenizer.from_buffer(files["tokenizer.json"])
    reference = sentencepiece.SentencePieceProcessor(model_file=str(path))
    end = reference.piece_to_id("[UNUSED_TOKEN_2]")
    for one, two in itertools.product(STRINGS[:20], repeat=2):
        wanted = [1, *reference.encode(one), end, *reference.encode(two)]
        assert tokenizer.encode(f"{one}<|im_end|>{two}").ids == wanted
    assert json.loads(files["tokenizer_config.json"])["add_prefix_space"] is True


def test_a_prefix_beside_pieces_that_are_cut_out_is_refused(tmp_path):
    extra = [("bab", 0.0, USER_DEFINED)]
    path = write_model(tmp_path / "m.model", [*LETTERS, ("▁", -102.0)], extra=extra, normalizer=PREFIX)
    with pytest.raises(UnsupportedError, match="add_dummy_prefix beside the user-defined piece 'bab'"):
        convert_tokenizer(path)


def trained(**how):
    made = io.BytesIO()
    lines = [line for text in (CHINESE, CODE, ENGLISH) for line in text.splitlines()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 5), model_writer=made, vocab_size=700, minloglevel=2,
        character_coverage=1.0, hard_vocab_limit=False, **how,
    )  # fmt: skip
    return made.getvalue()


def test_a_model_freshly_trained_with_the_families_settings_is_exact(tmp_path):
    data = trained(
        model_type="bpe", byte_fallback=True, add_dummy_prefix=False, remove_extra_whitespaces=False,
        normalization_rule_name="identity", user_defined_symbols=["<eoh>", "ab", "abc"],
    )  # fmt: skip
    (tmp_path / "m.model").write_bytes(data)
    texts = make_texts(2_000, ["<eoh>", "abc", "ab"], ["ab", "c", "th", "e"], seed=2)
    assert differing(tmp_path / "m.model", texts) is None


def test_a_model_trained_with_sentencepieces_defaults_is_refused():
    with pytest.raises(UnsupportedError, match="model_type"):
        convert_tokenizer(trained())


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\x00" * 40, b"\x0a\x05hello", b"\x0a\x02\x18\x01", b"version https://git-lfs"]
)
def test_what_is_no_model_is_called_so(data):
    with pytest.raises(IntegrityError):
        convert_tokenizer(data)


def test_a_model_cut_short_anywhere_is_refused():
    data = DEMO.path.read_bytes()
    rng = random.Random(1)
    for at in [0, 1, len(data) - 1, *(rng.randrange(len(data)) for _ in range(60))]:
        with pytest.raises((IntegrityError, UnsupportedError)):
            convert_tokenizer(data[:at])


def test_a_damaged_model_raises_no_other_error():
    data = bytearray(DEMO.path.read_bytes())
    rng = random.Random(2)
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(data))] = rng.randrange(256)
        with contextlib.suppress(IntegrityError, UnsupportedError):
            convert_tokenizer(bytes(damaged))


def test_a_piece_twice_is_refused(tmp_path):
    with pytest.raises(IntegrityError, match="twice"):
        convert_tokenizer(write_model(tmp_path / "m.model", [*LETTERS, ("a", -5.0)]))


@pytest.mark.parametrize("tokens", [{"<|im_end|>": 300}, {"<|im_end|>": "[UNUSED_TOKEN_999]"}, {"<s>": 2046}])
def test_tokens_of_the_family_that_the_model_has_no_whole_piece_for_are_left_out(tokens):
    assert convert_tokenizer(DEMO.path, special_tokens=tokens) == convert_tokenizer(DEMO.path)


@pytest.mark.parametrize("given", [{"chat_template": "\ud800"}, {"special_tokens": {"<\udfff>": 2046}}])
def test_lone_surrogates_in_a_template_or_token_are_refused(given):
    with pytest.raises(UsageError, match="lone surrogate"):
        convert_tokenizer(DEMO.path, **given)

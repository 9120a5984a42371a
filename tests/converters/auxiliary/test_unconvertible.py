"""A tokenizer that has no exact tokenizer.json stops nothing but itself: the weights are written, its files
go along, and it is said, before and after."""

from __future__ import annotations

import pytest
import sentencepiece

from tests.cli.test_convert import DEMO
from tests.converters.auxiliary.directories import CHAT, PIECES, read_json, stock, vendor, write_json
from tests.converters.bits import assert_same
from tests.converters.oracle import read_hf
from tests.converters.tokenizer.models import NORMAL, UNUSED, USER_DEFINED, Reference, write_model
from tests.converters.tokenizer.test_exactness import PREFIX, trained

LETTERS = [(letter, -100.0 - at) for at, letter in enumerate("abcdefgh▁")]
PAIRS = [(one + two, 0.0) for one in "abcdefgh" for two in "abcdefgh▁"]


def unigram(path):
    path.write_bytes(trained())


def expanded(path):
    """Pieces of another model appended, all with one score."""
    write_model(path, LETTERS, extra=[(text, score, NORMAL) for text, score in PAIRS])


def user_defined_with_a_prefix(path):
    write_model(path, LETTERS, extra=[("abc", 0.0, USER_DEFINED)], normalizer=PREFIX)


def user_defined_with_a_space(path):
    write_model(path, LETTERS, extra=[("a b", 0.0, USER_DEFINED)])


def unused(path):
    write_model(path, LETTERS, extra=[("ab", -1.0, UNUSED)])


CASES = {
    unigram: "model_type",
    expanded: "have one score",
    user_defined_with_a_prefix: "add_dummy_prefix",
    user_defined_with_a_space: "USER_DEFINED",
    unused: "UNUSED",
}


@pytest.mark.parametrize("to", ["hf", "llama"])
@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_the_weights_are_written_and_its_files_go_along(zoo, tmp_path, make, to):
    src = vendor(tmp_path / "src")
    make(src / "tokenizer.model")
    code, out, err = zoo("convert", src, tmp_path / "dst", "--to", to)
    assert (code, out) == (0, f"{tmp_path / 'dst'}\n")
    assert CASES[make] in err and "no tokenizer.json" in err and "--tokenizer" in err
    assert (tmp_path / "dst" / "tokenizer.model").read_bytes() == (src / "tokenizer.model").read_bytes()
    config = (tmp_path / "dst" / "tokenizer_config.json").read_bytes()
    assert config == (src / "tokenizer_config.json").read_bytes()
    assert not (tmp_path / "dst" / "tokenizer.json").exists()
    if to == "hf":
        assert_same(read_hf(tmp_path / "dst"), read_hf(src))
    assert zoo("verify", tmp_path / "dst")[0] == 0


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_a_dry_run_and_inspect_say_it_before(zoo, tmp_path, make):
    src = vendor(tmp_path / "src", rows=300)
    make(src / "tokenizer.model")
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "llama", "--dry-run")
    assert code == 0
    assert CASES[make] in err and "--tokenizer" in err
    code, out, err = zoo("inspect", src)
    assert CASES[make] in out + err
    assert "damaged" not in out + err


def test_inspect_finds_nothing_wrong_with_such_a_checkpoint(zoo, tmp_path):
    src = vendor(tmp_path / "src", rows=300)
    user_defined_with_a_space(src / "tokenizer.model")
    assert zoo("inspect", src)[0] == 0


def test_another_tokenizer_is_the_way_out(zoo, tmp_path):
    src = vendor(tmp_path / "src")
    unigram(src / "tokenizer.model")
    given = DEMO / "demo-internlm2-chat" / "tokenizer.model"
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "llama", "--tokenizer", given)
    assert code == 0
    assert "no tokenizer.json" not in err
    assert stock(tmp_path / "dst")("hi").input_ids == Reference(CHAT.path, {}).encode(["hi"])[0]


def test_none_is_carried_where_none_is_wanted(zoo, tmp_path):
    src = vendor(tmp_path / "src")
    for to in ("llama", "original"):
        code, _, err = zoo("convert", src, tmp_path / to, "--to", to, "--no-tokenizer")
        assert code == 0
        assert "--no-tokenizer" in err
        assert not list((tmp_path / to).glob("tokenizer*"))
    assert read_json(tmp_path / "llama" / "generation_config.json")["eos_token_id"] == 2


def test_the_api_leaves_it_out_too(tmp_path):
    import internlm_zoo

    src = vendor(tmp_path / "src")
    internlm_zoo.convert(src, tmp_path / "dst", to="llama", no_tokenizer=True)
    assert not list((tmp_path / "dst").glob("tokenizer*"))


def test_a_damaged_model_is_an_error_with_a_way_out(zoo, tmp_path):
    src = vendor(tmp_path / "src")
    (src / "tokenizer.model").write_bytes((src / "tokenizer.model").read_bytes()[:1000])
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "llama")
    assert code == 6
    assert "tokenizer.model" in err
    assert zoo("inspect", src)[0] == 1
    assert zoo("convert", src, tmp_path / "dst", "--to", "llama", "--no-tokenizer")[0] == 0


def test_a_prefix_before_every_text_is_converted_exactly(zoo, tmp_path):
    src = vendor(tmp_path / "src", rows=300)
    scores = [("▁ab", -1.0), ("ab", -2.0), ("cd", -3.0), *LETTERS]
    write_model(src / "tokenizer.model", scores, normalizer=PREFIX)
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "llama")
    assert code == 0 and "no tokenizer.json" not in err
    reference = sentencepiece.SentencePieceProcessor(model_file=str(src / "tokenizer.model"))
    tokenizer = stock(tmp_path / "dst")
    for text in ("ab cd", " ab", "abcd  ab", "", "é", "▁"):
        assert tokenizer(text).input_ids == [1, *reference.encode(text)]


def test_user_defined_pieces_are_converted_exactly(zoo, tmp_path):
    src = vendor(tmp_path / "src", rows=300)
    extra = [("abc", 0.0, USER_DEFINED), ("▁▁▁▁", 0.0, USER_DEFINED), ("ab", 0.0, USER_DEFINED)]
    write_model(src / "tokenizer.model", [("cd", -3.0), ("▁▁", -4.0), *LETTERS], extra=extra)
    assert zoo("convert", src, tmp_path / "dst", "--to", "llama")[0] == 0
    reference = sentencepiece.SentencePieceProcessor(model_file=str(src / "tokenizer.model"))
    tokenizer = stock(tmp_path / "dst")
    for text in ("abcd", "ab cd", "a      b", "abab    abc", "é", "▁▁▁▁▁"):
        assert tokenizer(text).input_ids == [1, *reference.encode(text)]


def test_tokens_of_the_family_that_a_model_has_no_piece_for_stop_nothing(zoo, tmp_path):
    """A model of one's own making, of the family's layout."""
    src = vendor(tmp_path / "src", rows=300)
    write_model(src / "tokenizer.model", [("ab", -1.0), *LETTERS])
    assert zoo("convert", src, tmp_path / "dst", "--to", "llama")[0] == 0
    assert stock(tmp_path / "dst").convert_tokens_to_ids("<|im_end|>") == 0
    assert read_json(tmp_path / "dst" / "generation_config.json")["eos_token_id"] == 2


def test_own_tokens_with_the_text_of_another_piece_are_carried_as_they_are(zoo, tmp_path):
    src = vendor(tmp_path / "src", PIECES + 1)
    write_json(src / "added_tokens.json", {"<s>": PIECES})
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "llama")
    assert code == 0
    assert "'<s>'" in err and "no tokenizer.json" in err
    assert (tmp_path / "dst" / "added_tokens.json").exists()


def test_a_model_runs_without_it_and_what_needs_it_says_why(zoo, tmp_path):
    import internlm_zoo

    src = vendor(tmp_path / "src", rows=300)
    unused(src / "tokenizer.model")
    model, tokenizer = internlm_zoo.load(src)
    assert tokenizer is None
    assert model.config.vocab_size == 300
    code, _, err = zoo("generate", src, "-p", "abc")
    assert code == 7
    assert "UNUSED" in err

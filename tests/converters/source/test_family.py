"""The family of a checkpoint in Llama's names: said, plain to see, or asked for; never guessed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import converters
from converters.errors import UsageError
from tests.converters.oracle import INTERNLM, INTERNLM2, make_model, read_config, write_hf
from tests.converters.refusal import refused
from tests.converters.tokenizer.models import write_model

TOKENIZERS = Path(__file__).parents[3].parent / "shared/data"
SMALL = replace(INTERNLM2, layers=1, hidden=32, heads=4, kv_heads=2, inter=48)


def tokenizer(folder, pieces):
    """Any tokenizer of that many pieces."""
    fixed = 3 + 256
    write_model(folder / "tokenizer.model", [(f"p{n}", -float(n)) for n in range(pieces - fixed)])


def bare(folder, dims=SMALL, **sizes):
    """A directory of stock Llama: no conversion.json, no tokenizer."""
    dims = replace(dims, **sizes)
    return write_hf(folder, make_model(dims), dims, "llama")


@pytest.mark.parametrize("dims", [SMALL, INTERNLM], ids=["unbiased", "biased"])
def test_a_family_that_nothing_says_is_asked_for_where_it_matters(tmp_path, zoo, dims):
    src = bare(tmp_path / "src", dims)
    for to in ("hf", "original"):
        code, _, err = zoo("convert", src, tmp_path / to, "--to", to)
        assert code == 2
        assert "family is stated neither" in err
        assert "--as MODEL" in err and "--set family=VALUE" in err
        assert not (tmp_path / to).exists()


def test_a_family_that_nothing_says_is_no_hindrance_where_it_does_not_matter(tmp_path, zoo):
    src = bare(tmp_path / "src")
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "llama")
    assert code == 0
    assert "nothing says which family it is of" in err
    assert zoo("fingerprint", src)[0] == 0
    assert zoo("compare", src, tmp_path / "dst")[1].strip() == "identical"
    assert zoo("verify", tmp_path / "dst")[0] == 0
    assert zoo("convert", tmp_path / "dst", tmp_path / "hf", "--to", "hf")[0] == 2, "the record knows no more"
    assert "family" not in json.loads(zoo("inspect", src, "--json")[1])["known"]


@pytest.mark.parametrize("family", ["internlm2", "internlm3"])
def test_a_family_that_is_given_decides_what_is_written(tmp_path, zoo, family):
    src = bare(tmp_path / "src")
    assert zoo("convert", src, tmp_path / "dst", "--to", "hf", "--set", f"family={family}")[0] == 0
    config = json.loads((tmp_path / "dst/config.json").read_text())
    assert config["model_type"] == family
    assert json.loads((tmp_path / "dst/conversion.json").read_text())["family"] == family


def test_a_model_of_the_registry_says_the_family(tmp_path, zoo):
    src = bare(tmp_path / "src")
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "hf", "--as", "internlm3-8b-instruct")
    assert code == 0, err
    assert json.loads((tmp_path / "dst/config.json").read_text())["model_type"] == "internlm3"


def test_what_the_conversion_recorded_is_believed(tmp_path):
    src = bare(tmp_path / "src")
    converters.convert(src, tmp_path / "llama", to="llama", given={"family": "internlm3"})
    source = converters.open_checkpoint(tmp_path / "llama", known={"family": "internlm2"})
    assert source.family == "internlm3"
    assert source.facts["family"].origin == "conversion.json"


@pytest.mark.parametrize(
    ("dims", "rows", "family"),
    [
        (SMALL, 92544, "internlm2"),
        (SMALL, 128512, "internlm3"),
        (replace(INTERNLM, layers=1), 103168, "internlm"),
        (replace(INTERNLM, layers=1), 92544, None),
        (SMALL, 32000, None),
    ],
)
def test_a_vocabulary_that_only_one_family_has_says_it_with_a_note(tmp_path, dims, rows, family):
    source = converters.open_checkpoint(bare(tmp_path / "src", dims, vocab=rows))
    assert source.family == family
    told = f"taken for {family} by {rows} rows of the embedding" if family else "nothing says which family"
    assert [note for note in source.notes if told in note]


def test_so_does_the_tokenizer_of_a_model_with_rows_of_its_own(tmp_path):
    if not TOKENIZERS.is_dir():
        pytest.skip("the families' tokenizers lie beside the repository, and are not there")
    src = bare(tmp_path / "src", vocab=92600)
    shutil.copy(TOKENIZERS / "tokenizer_internlm2.model", src / "tokenizer.model")
    source = converters.open_checkpoint(src)
    assert (source.family, source.facts["family"].origin) == ("internlm2", "tokenizer.model")


@pytest.mark.parametrize(
    ("dims", "rows", "pieces"),
    [(SMALL, 92544, 128133), (INTERNLM, 103168, 128133)],
    ids=["internlm2", "internlm"],
)
def test_a_family_of_which_rows_and_tokenizer_say_different_things_is_asked_for(tmp_path, dims, rows, pieces):
    src = bare(tmp_path / "src", replace(dims, layers=1), vocab=rows)
    tokenizer(src, pieces)
    source = converters.open_checkpoint(src)
    assert source.family is None
    (note,) = [note for note in source.notes if "which family" in note]
    assert f"by {rows} rows of the embedding and" in note and "by tokenizer.model" in note
    with pytest.raises(UsageError, match="family is stated neither"):
        source.layout_in("hf")


def test_internlm3_in_llama_names_is_known_by_its_tokenizer_and_never_internlm2(tmp_path):
    src = bare(tmp_path / "src", vocab=128600)
    tokenizer(src, 128133)
    assert converters.open_checkpoint(src).family == "internlm3"


@pytest.mark.parametrize("said", [None, "internlm3"])
def test_a_gguf_file_says_no_family_and_inspect_none_that_nothing_says(tmp_path, zoo, said):
    src = bare(tmp_path / "src")
    converters.convert(src, tmp_path / "dst", to="gguf", given={"family": said} if said else None)
    known = json.loads(zoo("inspect", tmp_path / "dst", "--json")[1])["known"]
    assert known.get("family") == (said and {"value": said, "origin": "conversion.json"})


def test_a_damaged_tokenizer_keeps_no_checkpoint_from_being_opened(tmp_path):
    src = bare(tmp_path / "src")
    (src / "tokenizer.model").write_bytes(b"no model")
    assert converters.open_checkpoint(src).family is None


@pytest.mark.parametrize("family", ["internlm4", 3, "llama"])
def test_a_family_that_is_none_is_refused_with_those_that_are(tmp_path, family):
    message = refused(bare(tmp_path / "src"), tmp_path / "dst", UsageError, given={"family": family})
    assert "internlm or internlm2 or internlm3" in message


def test_a_family_that_contradicts_the_config_is_refused(tmp_path):
    src = write_hf(tmp_path / "src", make_model(SMALL), SMALL)
    message = refused(src, tmp_path / "dst", UsageError, given={"family": "internlm"})
    assert "possible here: internlm2" in message
    converters.convert(src, tmp_path / "dst", to="original", given={"family": "internlm2"})
    assert read_config(tmp_path / "dst")["model_type"] == "INTERNLM2_PUBLIC"

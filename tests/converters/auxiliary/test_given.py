"""`--tokenizer` takes what is a tokenizer by its content, whatever it is called, and refuses what is none."""

from __future__ import annotations

import json
import shutil

import pytest

import converters
from tests.converters.auxiliary.directories import CHAT, PIECES, stock, vendor, write_json
from tests.converters.oracle import INTERNLM2, make_model, write_original
from tests.converters.tokenizer.models import MODELS, Reference
from tests.converters.tokenizer.texts import make_texts


@pytest.fixture
def src(tmp_path):
    return write_original(tmp_path / "src", make_model(INTERNLM2), INTERNLM2)


def cut_as_before(folder):
    tokenizer, reference = stock(folder), Reference(CHAT.path, CHAT.chat)
    texts = make_texts(100, list(reference.tokens), ["th", "e"], 8)
    return [tokenizer(text).input_ids for text in texts] == reference.encode(texts)


@pytest.mark.parametrize("name", ["tokenizer_internlm.model", "spiece.bin", "V7"])
def test_a_sentencepiece_model_of_any_name_becomes_the_tokenizer(zoo, tmp_path, src, name):
    shutil.copy(CHAT.path, tmp_path / name)
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "llama", "--tokenizer", tmp_path / name)
    assert code == 0, err
    assert (tmp_path / "dst" / "tokenizer.model").read_bytes() == CHAT.path.read_bytes()
    assert not (tmp_path / "dst" / name).exists()
    assert cut_as_before(tmp_path / "dst")


@pytest.mark.parametrize("beside", ["given", "in the source"])
def test_a_directory_with_a_model_of_internevos_name_does_too(zoo, tmp_path, src, beside):
    folder = src if beside == "in the source" else tmp_path / "given"
    folder.mkdir(exist_ok=True)
    shutil.copy(CHAT.path, folder / "tokenizer_internlm2.model")
    given = ("--tokenizer", folder) if beside == "given" else ()
    assert zoo("convert", src, tmp_path / "dst", "--to", "llama", *given)[0] == 0
    assert cut_as_before(tmp_path / "dst")
    if not given:
        out = zoo("inspect", src)[1]
        assert "there is no tokenizer" not in out


def test_a_tokenizer_json_of_any_name_loads(zoo, tmp_path, src):
    converters.convert(vendor(tmp_path / "vendor"), tmp_path / "made", to="llama")
    shutil.copy(tmp_path / "made" / "tokenizer.json", tmp_path / "mine.json")
    args = ("convert", src, tmp_path / "dst", "--to", "llama", "--tokenizer", tmp_path / "mine.json")
    assert zoo(*args)[0] == 0
    tokenizer = stock(tmp_path / "dst")
    assert tokenizer("hi").input_ids == Reference(CHAT.path, {}).encode(["hi"])[0]
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "</s>")


def test_a_given_directory_is_read_whole(zoo, tmp_path, src):
    given = vendor(tmp_path / "given", pad_token="<unk>", chat_template="MINE")
    write_json(given / "added_tokens.json", {"<sep>": PIECES})
    assert zoo("convert", src, tmp_path / "dst", "--to", "llama", "--tokenizer", given)[0] == 0
    tokenizer = stock(tmp_path / "dst")
    assert tokenizer.pad_token_id == 0
    assert tokenizer.convert_tokens_to_ids("<sep>") == PIECES
    assert tokenizer.apply_chat_template([{"role": "user", "content": ""}], tokenize=False) == "MINE"


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("notes.txt", b"not a tokenizer", 2),
        ("config.json", json.dumps({"model_type": "llama"}).encode(), 2),
        ("tokenizer_internlm.model", CHAT.path.read_bytes()[:999], 2),
        ("tokenizer.model", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", 6),
        ("empty.model", b"", 6),
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused_by_name(zoo, tmp_path, src, name, content, code):
    (tmp_path / name).write_bytes(content)
    for more in ((), ("--dry-run",)):
        found, _, err = zoo(
            "convert", src, tmp_path / "dst", "--to", "hf", "--tokenizer", tmp_path / name, *more
        )
        assert found == code
        assert name in err and "Traceback" not in err
        assert not (tmp_path / "dst").exists()


def test_a_directory_without_a_tokenizer_is_refused(zoo, tmp_path, src):
    (tmp_path / "empty").mkdir()
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "hf", "--tokenizer", tmp_path / "empty")
    assert code == 4
    assert "empty" in err


@pytest.mark.parametrize("family", [pytest.param("internlm", marks=pytest.mark.slow), "internlm2"])
def test_internevos_own_files_become_tokenizers(zoo, tmp_path, src, family):
    released = MODELS[family]
    if not released.path.exists():
        pytest.skip(f"{released.path.name} is not beside this checkout")
    assert zoo("convert", src, tmp_path / "dst", "--to", "hf", "--tokenizer", released.path)[0] == 0
    assert (tmp_path / "dst" / "tokenizer.model").read_bytes() == released.path.read_bytes()
    ids = stock(tmp_path / "dst")("书生·浦语").input_ids
    assert ids == Reference(released.path, {}).encode(["书生·浦语"])[0]

"""What the files of a tokenizer say survives every direction, held against sentencepiece and stock
transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import sentencepiece

import converters
from tests.converters.auxiliary.directories import (
    CHAT,
    PIECES,
    change,
    read_json,
    stock,
    token,
    vendor,
    write_json,
)
from tests.converters.tokenizer.models import Reference
from tests.converters.tokenizer.texts import make_texts

OWN = {"<tool_call>": PIECES, "<sep>": PIECES + 1}
DIRECTIONS = [("hf",), ("llama",), ("original", "llama"), ("llama", "original", "hf")]
directions = pytest.mark.parametrize("way", DIRECTIONS, ids=" ".join)


def converted(zoo, src: Path, way: tuple[str, ...]) -> Path:
    for number, to in enumerate(way):
        dst = src.parent / f"{number}-{to}"
        code, _, err = zoo("convert", src, dst, "--to", to)
        assert code == 0, err
        src = dst
    return src


def decoder(tokens: dict[str, int], **special: bool) -> dict[str, object]:
    return {str(id): token(text, special.get(text, True)) for text, id in tokens.items()}


@directions
def test_own_tokens_stay_single_ids_and_texts_are_cut_as_before(zoo, tmp_path, way):
    src = vendor(tmp_path / "src", PIECES + 2)
    change(
        src / "tokenizer_config.json",
        added_tokens_decoder=decoder(OWN, **{"<sep>": False}),
        additional_special_tokens=["<tool_call>"],
    )
    write_json(src / "added_tokens.json", OWN)
    tokenizer = stock(converted(zoo, src, way))
    reference = Reference(CHAT.path, {**CHAT.chat, **OWN})
    texts = ["<tool_call>", "a<sep>b", "<|im_end|>", *make_texts(200, list(reference.tokens), ["th", "e"], 3)]
    assert [tokenizer(text).input_ids for text in texts] == reference.encode(texts)
    assert tokenizer.decode([PIECES, PIECES + 1], skip_special_tokens=True) == "<sep>"


@directions
def test_tokens_of_the_old_file_alone_count_too(zoo, tmp_path, way):
    """Before transformers 4.34 nothing else named them."""
    src = vendor(tmp_path / "src", PIECES + 2)
    write_json(src / "added_tokens.json", OWN)
    write_json(src / "special_tokens_map.json", {"additional_special_tokens": ["<tool_call>"]})
    tokenizer = stock(converted(zoo, src, way))
    assert tokenizer("<tool_call>a<sep>", add_special_tokens=False).input_ids == [
        PIECES,
        *sentencepiece.SentencePieceProcessor(model_file=str(CHAT.path)).encode("a"),
        PIECES + 1,
    ]
    assert "<tool_call>" in tokenizer.all_special_tokens


@directions
def test_roles_sides_and_limits_are_the_sources(zoo, tmp_path, way):
    src = vendor(
        tmp_path / "src",
        eos_token=token("<|im_end|>"),
        pad_token="<unk>",
        padding_side="left",
        truncation_side="left",
        model_max_length=4096,
        clean_up_tokenization_spaces=True,
    )
    tokenizer = stock(converted(zoo, src, way))
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2046)
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("<unk>", 0)
    assert (tokenizer.padding_side, tokenizer.truncation_side) == ("left", "left")
    assert tokenizer.model_max_length == 4096
    assert tokenizer.clean_up_tokenization_spaces is True


@directions
@pytest.mark.parametrize(("bos", "eos"), [(False, True), (True, True), (False, False)])
def test_bos_and_eos_are_put_where_the_source_puts_them(zoo, tmp_path, way, bos, eos):
    src = vendor(tmp_path / "src", add_bos_token=bos, add_eos_token=eos)
    tokenizer = stock(converted(zoo, src, way))
    plain = sentencepiece.SentencePieceProcessor(model_file=str(CHAT.path)).encode("hi there")
    assert tokenizer("hi there").input_ids == [1] * bos + plain + [2] * eos


TURN = [{"role": "user", "content": "hi"}]
MINE, TOOLS = "MINE {{ messages[0]['content'] }}", "TOOLS {{ messages[0]['content'] }}"


def in_a_file(src: Path) -> None:
    (src / "chat_template.jinja").write_text(MINE)


def in_a_text(src: Path) -> None:
    change(src / "tokenizer_config.json", chat_template=MINE)


def in_a_list(src: Path) -> None:
    named = [{"name": "default", "template": MINE}, {"name": "tool_use", "template": TOOLS}]
    change(src / "tokenizer_config.json", chat_template=named)


def in_a_folder(src: Path) -> None:
    in_a_file(src)
    (src / "additional_chat_templates").mkdir()
    (src / "additional_chat_templates" / "tool_use.jinja").write_text(TOOLS)


@directions
@pytest.mark.parametrize("put", [in_a_file, in_a_text, in_a_list, in_a_folder])
def test_chat_templates_are_the_sources(zoo, tmp_path, way, put):
    src = vendor(tmp_path / "src")
    put(src)
    result = converted(zoo, src, way)
    tokenizer = stock(result)
    assert tokenizer.apply_chat_template(TURN, tokenize=False) == "MINE hi"
    if put in (in_a_list, in_a_folder):
        assert tokenizer.apply_chat_template(TURN, chat_template="tool_use", tokenize=False) == "TOOLS hi"
    assert zoo("verify", result)[0] == 0


def fast(folder: Path, **settings: object) -> Path:
    """A fine-tune as transformers saves it: its tokenizer.json has tokens that tokenizer.model has not."""
    plain, made = folder.with_name("plain"), folder.with_name("made")
    converters.convert(vendor(plain), made, to="llama")
    tokenizer = stock(made)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<tool_call>"]})
    tokenizer.add_tokens(["<sep>"])
    tokenizer.chat_template = MINE
    tokenizer.save_pretrained(vendor(folder, PIECES + 2))
    change(folder / "tokenizer_config.json", **settings)
    return folder


@directions
@pytest.mark.parametrize(
    "settings",
    [{}, {"auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]}}],
    ids=["saved by transformers", "naming code"],
)
def test_a_tokenizer_json_with_more_tokens_than_its_model_stays_the_tokenizer(zoo, tmp_path, way, settings):
    src = fast(tmp_path / "src", **settings)
    before = stock(_without_code(src, tmp_path / "before"))
    tokenizer = stock(converted(zoo, src, way))
    texts = make_texts(100, [*CHAT.chat, *OWN], ["th", "e"], seed=4)
    assert tokenizer(texts).input_ids == before(texts).input_ids
    assert tokenizer.convert_tokens_to_ids(list(OWN)) == list(OWN.values())
    assert tokenizer.apply_chat_template(TURN, tokenize=False) == "MINE hi"
    listed = read_json(src.parent / f"{len(way) - 1}-{way[-1]}" / "tokenizer_config.json")
    assert {one["content"] for one in listed["added_tokens_decoder"].values()} >= {*OWN, "<s>"}


def _without_code(src: Path, dst: Path) -> Path:
    shutil.copytree(src, dst)
    config = read_json(dst / "tokenizer_config.json")
    config.pop("auto_map", None)
    write_json(dst / "tokenizer_config.json", config)
    return dst


def test_what_was_saved_without_it_gets_what_other_engines_look_for(zoo, tmp_path):
    """transformers 5 saves no added_tokens_decoder, and other programs no add_prefix_space."""
    src = fast(tmp_path / "src")
    config = read_json(src / "tokenizer_config.json")
    for key in ("added_tokens_decoder", "add_prefix_space"):
        config.pop(key, None)
    write_json(src / "tokenizer_config.json", config)
    before = stock(src)
    result = converted(zoo, src, ("llama",))
    found = read_json(result / "tokenizer_config.json")
    assert found["add_prefix_space"] is False
    assert {token["content"]: int(id) for id, token in found["added_tokens_decoder"].items()} == {
        "<unk>": 0,
        "<s>": 1,
        "</s>": 2,
        **OWN,
    }
    texts = make_texts(100, list(OWN), ["th", "e"], seed=5)
    assert stock(result)(texts).input_ids == before(texts).input_ids
    assert (result / "tokenizer.json").read_bytes() == (src / "tokenizer.json").read_bytes()


def test_a_config_that_names_code_decides_on_bos_and_eos(zoo, tmp_path):
    """Its class would have set them, whatever its tokenizer.json was saved with."""
    code = {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]}
    src = fast(tmp_path / "src", auto_map=code, add_bos_token=False, add_eos_token=True)
    ids = stock(converted(zoo, src, ("llama",)))("hi").input_ids
    assert ids[0] != 1 and ids[-1] == 2


def test_a_special_token_without_an_id_gets_the_next_one(zoo, tmp_path):
    """As transformers gives it when it reads the directory."""
    src = vendor(tmp_path / "src", PIECES + 1, pad_token="[PAD]")
    tokenizer = stock(converted(zoo, src, ("llama",)))
    assert tokenizer.pad_token_id == PIECES
    assert tokenizer("[PAD]", add_special_tokens=False).input_ids == [PIECES]


def test_tokens_numbered_beyond_the_embedding_are_said_and_the_familys_pieces_used(zoo, tmp_path):
    """InternLM/xtuner#933: chat tokens appended to a tokenizer that has pieces for them."""
    beyond = {"<|im_start|>": PIECES, "<|im_end|>": PIECES + 1, "<mine>": PIECES + 2}
    src = vendor(tmp_path / "src", added_tokens_decoder=decoder(beyond))
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "llama", "--as", "demo-internlm2-chat")
    assert code == 0
    assert "<|im_start|>, <|im_end|> ids beyond the 2048 rows" in err
    assert f"none for <mine> ({PIECES + 2})" in err
    tokenizer = stock(tmp_path / "dst")
    assert tokenizer("<|im_end|><|im_start|>", add_special_tokens=False).input_ids == [2046, 2047]
    assert read_json(tmp_path / "dst" / "generation_config.json")["eos_token_id"] == [2, 2046]
    code, out, err = zoo("inspect", src)
    assert "<mine>" in out + err


def test_an_original_directory_keeps_the_files_as_they_are(zoo, tmp_path):
    src = vendor(tmp_path / "src", PIECES + 2)
    write_json(src / "added_tokens.json", OWN)
    in_a_file(src)
    assert zoo("convert", src, tmp_path / "dst", "--to", "original", "--tp", "2")[0] == 0
    for name in ("tokenizer.model", "tokenizer_config.json", "added_tokens.json", "chat_template.jinja"):
        assert (tmp_path / "dst" / name).read_bytes() == (src / name).read_bytes()


def test_a_tokenizer_without_a_model_goes_to_original_and_it_is_said(zoo, tmp_path):
    src = fast(tmp_path / "src")
    (src / "tokenizer.model").unlink()
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "original")
    assert code == 0
    assert "there is no tokenizer.model" in err
    assert json.loads((tmp_path / "dst" / "tokenizer.json").read_text())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": 3}}'),
        ("tokenizer_config.json", '{"chat_template": [{"name": "default"}]}'),
        ("added_tokens.json", "[]"),
        ("tokenizer.json", '{"model": {}}'),
    ],
)
def test_a_damaged_file_is_named(zoo, tmp_path, name, content):
    src = vendor(tmp_path / "src")
    (src / name).write_text(content)
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "llama")
    assert code == 6
    assert name.removesuffix(".json").split("_")[0] in err
    assert zoo("inspect", src)[0] == 1


def test_loading_reads_the_same_tokenizer_as_converting(tmp_path):
    import internlm_zoo

    src = vendor(tmp_path / "src", PIECES + 2, pad_token="<unk>")
    write_json(src / "added_tokens.json", OWN)
    _, tokenizer = internlm_zoo.load(src)
    assert tokenizer("<tool_call><sep>", add_special_tokens=False).input_ids == list(OWN.values())
    assert tokenizer.pad_token_id == 0

"""The files load wherever tokenizers are loaded, and say what the family's do."""

from __future__ import annotations

import json
import shutil
import warnings

import pytest

from tests.converters.tokenizer.models import MODELS, convert_tokenizer, write_model
from tests.converters.tokenizer.texts import make_texts

DEMO = MODELS["demo-internlm2"]


@pytest.fixture
def folder(tmp_path):
    def write(files):
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        return tmp_path

    return write


def load(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def test_roles_and_limits_reach_transformers(converted):
    tokenizer = converted.tokenizer
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (1, 2, 0)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert tokenizer.model_max_length == 4096
    assert len(tokenizer) == converted.reference.sp.vocab_size()
    assert set(tokenizer.all_special_tokens) == set(converted.reference.tokens)


def test_the_chat_template_renders_and_its_tokens_are_ids(folder):
    template = (
        "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}"
    )
    tokenizer = load(folder(convert_tokenizer(DEMO.path, special_tokens=DEMO.chat, chat_template=template)))
    messages = [{"role": "user", "content": "你好 😀"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == "<s><|im_start|>user\n你好 😀<|im_end|>\n"
    ids = tokenizer.apply_chat_template(messages)["input_ids"]
    assert (ids[0], ids[1], ids.count(1)) == (1, DEMO.chat["<|im_start|>"], 1)
    assert DEMO.chat["<|im_end|>"] in ids
    assert tokenizer.decode(ids) == text


def test_no_template_and_no_limit_leave_none(folder):
    files = convert_tokenizer(DEMO.path)
    assert not {"chat_template", "model_max_length"} & set(json.loads(files["tokenizer_config.json"]))
    tokenizer = load(folder(files))
    assert tokenizer.chat_template is None
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "</s>")
    assert tokenizer("[UNUSED_TOKEN_146]").input_ids == [1, DEMO.chat["<|im_start|>"]]


def test_readers_other_than_transformers_5_find_the_settings_spelled_out():
    config = json.loads(convert_tokenizer(DEMO.path)["tokenizer_config.json"])
    assert (config["add_bos_token"], config["add_eos_token"]) == (True, False)
    assert config["clean_up_tokenization_spaces"] is False


def test_it_loads_beside_the_config_and_tokenizer_model_of_a_release(folder):
    config = {
        "model_type": "internlm2",
        "architectures": ["InternLM2ForCausalLM"],
        "auto_map": {"AutoConfig": "configuration_internlm2.InternLM2Config"},
    }
    path = folder(convert_tokenizer(DEMO.path, special_tokens=DEMO.chat))
    alone = load(path)("Hello <|im_end|>").input_ids
    shutil.copy(DEMO.path, path / "tokenizer.model")
    for written in (config, {**config, "model_type": "llama", "auto_map": {}}):
        (path / "config.json").write_text(json.dumps(written))
        assert load(path)("Hello <|im_end|>").input_ids == alone


def test_loading_warns_of_nothing(folder, caplog):
    path = folder(convert_tokenizer(DEMO.path, special_tokens=DEMO.chat, chat_template="x"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(path)
    assert not caplog.records


def test_saved_by_transformers_and_loaded_again_it_is_the_same(converted, tmp_path):
    converted.tokenizer.save_pretrained(tmp_path)
    texts = make_texts(1_000, list(converted.reference.tokens), converted.reference.pieces, seed=9)
    again = load(tmp_path)
    assert again(texts).input_ids == converted.reference.encode(texts)
    assert again.chat_template == converted.tokenizer.chat_template


def test_two_texts_get_bos_once(converted):
    one, two = (
        converted.tokenizer("a").input_ids,
        converted.tokenizer("b", add_special_tokens=False).input_ids,
    )
    assert converted.tokenizer("a", "b").input_ids == one + two


def test_the_model_lies_beside_what_is_made_of_it():
    files = convert_tokenizer(DEMO.path, special_tokens=DEMO.chat, chat_template="x")
    assert set(files) == {"tokenizer.model", "tokenizer.json", "tokenizer_config.json"}
    assert files["tokenizer.model"] == DEMO.path.read_bytes()


def test_tokens_may_be_named_by_their_piece_or_lie_beyond_the_model(folder):
    named = {text: f"[UNUSED_TOKEN_{141 + at}]" for at, text in enumerate(DEMO.chat)}
    by_piece = convert_tokenizer(DEMO.path, special_tokens=named)
    assert by_piece == convert_tokenizer(DEMO.path, special_tokens=DEMO.chat)
    tokenizer = load(folder(convert_tokenizer(DEMO.path, special_tokens={**named, "<|new|>": 2048})))
    assert tokenizer("<|new|>").input_ids == [1, 2048]
    assert len(tokenizer) == 2049


def test_merges_are_lines_which_every_version_reads(converted):
    """tokenizers before 0.20 reads no pairs."""
    content = json.loads((converted.folder / "tokenizer.json").read_text(encoding="utf-8"))
    merges = content["model"]["merges"]
    assert merges and all(isinstance(line, str) and line.count(" ") == 1 for line in merges)


def test_a_merge_that_a_line_cannot_say_stays_a_pair(tmp_path):
    """A line that begins with #version is a comment to every version."""
    from tokenizers import Tokenizer

    letters = [(letter, -100.0 - at) for at, letter in enumerate("#versionx")]
    grown = [("#version"[:size], -float(size)) for size in range(2, 9)]
    path = write_model(tmp_path / "m.model", [*grown, ("#versionx", -50.0), *letters])
    files = convert_tokenizer(path)
    assert Tokenizer.from_buffer(files["tokenizer.json"]).encode("#versionx").tokens == ["<s>", "#versionx"]


def test_other_engines_find_the_tokens_and_that_no_space_is_put_first(converted):
    """A GGUF converter names the ids of a sentencepiece model by added_tokens_decoder."""
    config = json.loads((converted.folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    decoder = {int(id): token for id, token in config["added_tokens_decoder"].items()}
    wanted = {"<unk>": 0, "<s>": 1, "</s>": 2, **converted.chat}
    assert {token["content"]: id for id, token in decoder.items()} == wanted
    assert all(token["special"] for token in decoder.values())
    assert config["add_prefix_space"] is False

"""Tokenizers for miniatures: any size, any text, real special tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from converters.errors import UsageError
from converters.tokenizer.synthetic import synthetic_tokenizer
from tests.converters.tokenizer.models import CHATML

SIZES = (103168, 92544, 128512)


def tokens_for(size):
    return {text: size - 6 + at for at, text in enumerate(CHATML)}


@pytest.mark.parametrize("size", [265, *SIZES])
def test_it_has_every_id_of_its_size_and_loads_with_transformers(size, tmp_path):
    from transformers import AutoTokenizer

    tokens = tokens_for(size)
    for name, content in synthetic_tokenizer(
        size, tokens, chat_template="{{ bos_token }}hi<|im_end|>", model_max_length=128
    ).items():
        (tmp_path / name).write_bytes(content)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=False)
    assert len(tokenizer) == size
    assert tokenizer.model_max_length == 128
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    text = " <|im_start|>user\n你好\t😀\0  x<|im_end|>"
    ids = tokenizer(text).input_ids
    assert ids[:3] == [1, 3 + ord(" "), tokens["<|im_start|>"]]
    assert ids[-1] == tokens["<|im_end|>"]
    assert tokenizer.decode(ids[1:]) == text
    assert all(tokenizer.decode([id]) for id in range(size - 6, size))
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": ""}])["input_ids"]
    assert rendered == [1, 3 + ord("h"), 3 + ord("i"), tokens["<|im_end|>"]]


SMALL = Tokenizer.from_buffer(synthetic_tokenizer(265, tokens_for(265))["tokenizer.json"])


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives(text):
    ids = SMALL.encode(text).ids
    assert ids[0] == 1
    assert SMALL.decode(ids[1:], skip_special_tokens=False) == text


def test_the_same_arguments_give_the_same_bytes_and_others_do_not():
    assert synthetic_tokenizer(300, {"<a>": 299}) == synthetic_tokenizer(300, {"<a>": 299})
    assert synthetic_tokenizer(300, {"<a>": 299}) != synthetic_tokenizer(300, {"<a>": 298})


@pytest.mark.parametrize(
    "size, tokens",
    [
        (258, {}),
        (300, {"<a>": 300}),
        (300, {"<a>": -1}),
        (300, {"<a>": 65}),
        (300, {"<a>": 299, "<b>": 299}),
        (300, {"<s>": 280}),
    ],
)
def test_tokens_without_an_id_of_their_own_are_refused(size, tokens):
    with pytest.raises(UsageError):
        synthetic_tokenizer(size, tokens)

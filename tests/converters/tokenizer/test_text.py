"""Lone surrogates are no text; everything else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.errors import UsageError
from converters.tokenizer.tokenizer_json import check_text
from tests.converters.tokenizer.texts import EMOJI

SURROGATES = st.characters(categories=["Cs"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXT)
def test_text_passes(text):
    check_text(text)


def test_characters_beyond_the_basic_plane_and_nul_pass():
    check_text("".join(EMOJI) + "\0𠮷\U0010ffff")


@given(TEXT, SURROGATES, st.text())
def test_a_lone_surrogate_is_refused_with_its_place(before, surrogate, after):
    with pytest.raises(UsageError) as caught:
        check_text(before + surrogate + after, "prompts.txt")
    assert f"character {len(before)} " in str(caught.value)
    assert f"U+{ord(surrogate):04X}" in str(caught.value)
    assert caught.value.where == "prompts.txt"
    assert caught.value.fix


def test_a_tokenizer_refuses_them_too_so_nothing_is_encoded_wrongly(converted):
    with pytest.raises((TypeError, UnicodeEncodeError)):
        converted.tokenizer("a\ud800b")

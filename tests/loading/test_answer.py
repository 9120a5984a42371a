"""`generate`: the last logits alone, no further than the model was trained, told while it is written."""

from __future__ import annotations

import os
import sys

import pytest

from internlm_zoo.cli.live import LiveText
from internlm_zoo.errors import UnsupportedError
from internlm_zoo.loading.answer import answer
from internlm_zoo.loading.generate import all_logits, decode, encode, greedy, last_logits
from tests.loading.demo import MODELS, edit_config, home_of, load_model, nameless

BASE, CHAT = MODELS
TRAINED = 256  # positions of the demo models' configs


@pytest.fixture(scope="module")
def loaded(directories, tmp_path_factory):
    folder = tmp_path_factory.mktemp("answer")
    return {
        name: load_model(directories[name, "llama"], settings=home_of(folder), known_as=name)
        for name in MODELS
    }


def test_of_a_prompt_only_the_last_tokens_logits_are_made(loaded):
    shapes = []
    model = loaded[BASE].model
    hook = model.lm_head.register_forward_hook(lambda module, given, made: shapes.append(tuple(made.shape)))
    ids = [id % 1000 + 5 for id in range(200)]
    written = list(greedy(loaded[BASE], ids, 3))
    last = last_logits(loaded[BASE], ids)
    hook.remove()
    assert shapes == [(1, 1, model.config.vocab_size)] * 4
    assert int(last.argmax()) == written[0]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("prompt", ["The library", "千里之行，始于足下。🌱", "a\n b"])
def test_the_pieces_are_the_text_whatever_bytes_the_tokens_are(loaded, name, prompt):
    pieces = []
    told = answer(loaded[name], prompt, max_new_tokens=40, raw=True, tell=pieces.append)
    ids = encode(loaded[name], prompt)
    written = list(greedy(loaded[name], ids, told.tokens))
    assert "".join(pieces) == told.text == decode(loaded[name], ids, written)
    assert (told.prompt_tokens, told.tokens) == (len(ids), len(written)) and len(pieces) > 5
    assert 0 < told.first <= told.seconds


def test_a_prompt_beyond_what_the_model_serves_is_refused_before_it_is_read(loaded):
    with pytest.raises(UnsupportedError, match=f"serves {TRAINED}") as refused:
        answer(loaded[BASE], "word " * (TRAINED + 50), raw=True, max_new_tokens=1)
    assert refused.value.exit_code == 7


def scaled(directories, tmp_path, **scaling):
    """The base model with other scaling of its rotary embedding."""
    folder = nameless(directories[BASE, "llama"], tmp_path)
    edit_config(folder, rope_scaling=scaling)
    return load_model(folder, settings=home_of(tmp_path), dtype="float32")


@pytest.mark.parametrize(
    ("serves", "scaling"),
    [
        (512, {"type": "dynamic", "factor": 2.0}),
        (1024, {"type": "linear", "factor": 4.0}),
        (512, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}),
        (TRAINED, {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}),
    ],
)
def test_a_scaled_model_serves_what_its_scaling_stretches_to(directories, tmp_path, serves, scaling):
    loaded = scaled(directories, tmp_path, **scaling)
    with pytest.raises(UnsupportedError, match=f"serves {serves:,}:"):
        answer(loaded, "word " * 1100, raw=True, max_new_tokens=1)


def test_an_answer_ends_where_longrope_would_turn_what_was_read_otherwise(directories, tmp_path):
    """Up to there it is what each token anew gives, one further it is not."""
    border, factors = 20, {"short_factor": [1.0] * 8, "long_factor": [1.0 + 9 * n for n in range(8)]}
    loaded = scaled(
        directories, tmp_path, rope_type="longrope", original_max_position_embeddings=border, **factors
    )
    ids, notes = encode(loaded, "The library"), list[str]()
    ask = {"raw": True, "max_new_tokens": 30, "warn": notes.append}
    assert answer(loaded, "The library", **ask).tokens == border - len(ids) + 1
    assert f"ends where {border} tokens were read" in notes[0]
    written = [*greedy(loaded, ids, border)]
    anew = [int(all_logits(loaded, ids + written[:n])[-1].argmax()) for n in range(border)]
    assert written[: border - len(ids) + 1] == anew[: border - len(ids) + 1] and written != anew


def test_an_answer_that_may_go_beyond_the_trained_length_is_warned_of_and_one_within_is_not(zoo, directories):
    ask = ("generate", directories[BASE, "hf"], "--as", BASE, "-p", "The library", "--max-new-tokens")
    code, _, err = zoo(*ask, TRAINED)
    assert code == 0 and f"trained on {TRAINED}" in err
    code, _, err = zoo(*ask, 8)
    assert code == 0 and "trained" not in err
    assert "8 tokens in" in err and "a second" in err
    assert zoo(*ask, 8, "-q")[2] == ""


def test_words_are_told_as_they_come_on_a_terminal_and_lines_in_a_pipe(monkeypatch, capsys):
    live = LiveText()
    for piece in ("one ", "tw", "o\nth", "ree"):
        live.add(piece)
    assert capsys.readouterr().out == "one two\n"
    live.end()
    assert capsys.readouterr().out == "three\n"
    pty = pytest.importorskip("pty", reason="its terminals are others")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        live = LiveText()
        live.add("one tw")
        assert os.read(ours, 100) == b"one "
        live.add("o 千里")
        assert os.read(ours, 100).decode() == "two 千里"
    os.close(ours)

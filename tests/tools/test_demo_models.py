"""The committed demo models: what the training module makes of their files is what their golden data say."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sentencepiece = pytest.importorskip("sentencepiece")

from tools.demo_training import files, text  # noqa: E402
from tools.demo_training.golden import LEAD, Trained, finishes  # noqa: E402
from tools.demo_training.model import last_logits  # noqa: E402
from tools.demo_training.recipes import BASE, CHAT, RECIPES, Recipe  # noqa: E402

ROOT = Path(__file__).parents[2]
LIMIT = 2_500_000

both = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


def trained(recipe: Recipe) -> Trained:
    return files.read_model(ROOT / files.MODELS / recipe.name, recipe)


def golden(recipe: Recipe) -> tuple[dict, np.ndarray]:
    folder = ROOT / files.GOLDEN
    document = json.loads((folder / f"{recipe.name}.json").read_text("utf-8"))
    return document, np.load(folder / f"{recipe.name}.npy")


@both
def test_what_a_model_commits_stays_under_two_and_a_half_megabytes(recipe):
    assert sum(files.committed(ROOT, recipe.name).values()) <= LIMIT


@both
def test_files_load_with_weights_only_and_hold_bfloat16(recipe):
    folder = ROOT / files.MODELS / recipe.name
    weights = torch.load(folder / files.WEIGHTS, weights_only=True)
    config = torch.load(folder / files.CONFIG, weights_only=True)
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert config["dtype"] == torch.bfloat16
    assert config["vocab_size"] == recipe.shape.vocab


@both
def test_golden_data_name_the_committed_weights(recipe):
    weights = (ROOT / files.MODELS / recipe.name / files.WEIGHTS).read_bytes()
    assert golden(recipe)[0]["weights"][files.WEIGHTS] == hashlib.sha256(weights).hexdigest()


@both
def test_golden_data_hold_sixteen_prompts_half_of_them_chinese(recipe):
    document, logits = golden(recipe)
    languages = [prompt["language"] for prompt in document["prompts"]]
    assert (languages.count("en"), languages.count("zh")) == (8, 8)
    assert logits.shape == (16, recipe.shape.vocab)
    assert logits.dtype == np.float32


@both
def test_module_reproduces_the_golden_logits_and_tokens(recipe):
    document, logits = golden(recipe)
    subject = trained(recipe)
    for prompt, expected in zip(document["prompts"], logits, strict=True):
        assert subject.tokenizer.encode(prompt["prompt"]) == prompt["input_ids"]
        again = last_logits(subject.model, prompt["input_ids"]).numpy()
        np.testing.assert_allclose(again, expected, rtol=0, atol=1e-5)
        tokens, lead = subject.complete(prompt["prompt"])
        assert tokens == prompt["greedy"]
        assert lead == pytest.approx(prompt["lead"], abs=1e-3)
        assert subject.tokenizer.decode(tokens) == prompt["text"]


@both
def test_every_golden_token_leads_the_runner_up_by_far_more_than_rounding(recipe):
    assert min(prompt["lead"] for prompt in golden(recipe)[0]["prompts"]) >= LEAD


def test_each_bias_of_the_base_model_moves_the_golden_logits():
    document, logits = golden(BASE)
    subject = trained(BASE)
    ids = document["prompts"][0]["input_ids"]
    for name, bias in subject.model.named_parameters():
        if name.endswith("bias"):
            for part in bias.data.split(BASE.shape.hidden):
                kept = part.clone()
                part.zero_()
                moved = np.abs(last_logits(subject.model, ids).numpy() - logits[0]).max()
                part.copy_(kept)
                assert moved > 0.01, name


@both
def test_first_ten_proverbs_of_each_language_are_finished_eight_times_or_more(recipe):
    subject = trained(recipe)
    asked = [recipe.ask(pair) for pair in text.read_pairs("proverbs")]
    for language in text.LANGUAGES:
        ten = [pair for pair in asked if pair.language == language][:10]
        assert sum(finishes(subject, pair) for pair in ten) >= 8


def test_base_tokenizer_ends_in_the_chat_marks_of_its_family():
    processor = trained(BASE).tokenizer.processor
    assert [processor.piece_to_id(piece) for piece in ("<unk>", "<s>", "</s>")] == [0, 1, 2]
    assert [processor.piece_to_id(piece) for piece in ("<eoh>", "<eoa>")] == [1790, 1791]
    assert processor.encode("<eoh>") == [1790]
    assert processor.vocab_size() == 1792


def test_chat_tokenizer_stores_its_six_chat_tokens_under_the_names_of_its_family():
    processor = trained(CHAT).tokenizer.processor
    pieces = [f"[UNUSED_TOKEN_{n}]" for n in range(141, 147)]
    assert [processor.piece_to_id(piece) for piece in pieces] == list(range(2042, 2048))
    assert processor.encode("[UNUSED_TOKEN_146]") == [2047]
    assert processor.vocab_size() == 2048


@both
def test_tokenizers_give_back_any_text_unchanged(recipe):
    tokenizer = trained(recipe).tokenizer
    for line in ("  two  spaces\nand a line", "一寸光阴 2024，龘", "emoji 🙂 and\ttab"):
        assert tokenizer.decode(tokenizer.encode(line)) == line


def test_chat_answers_end_at_their_end_token():
    document, _ = golden(CHAT)
    end = trained(CHAT).tokenizer.specials[text.ANSWER_END]
    assert all(
        prompt["greedy"][-1] == end and end not in prompt["greedy"][:-1] for prompt in document["prompts"]
    )


def test_base_model_goes_on_for_all_thirty_two_tokens():
    assert {len(prompt["greedy"]) for prompt in golden(BASE)[0]["prompts"]} == {32}

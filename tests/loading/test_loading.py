"""A loaded model computes what transformers computes, from whatever format and on however many devices."""

from __future__ import annotations

import pytest

from internlm_zoo.loading.answer import generate
from internlm_zoo.loading.generate import encode, encode_turns, greedy, last_logits
from internlm_zoo.loading.tokenizer import stock
from tests.loading.demo import FORMS, MODELS, home_of, load_model, plan_load

PROMPTS = ("A stitch in time", "塞翁失马", "The fox said to the crow: you sing")


def logits_of(directories, model, form, tmp_path, **options):
    import torch

    loaded = load_model(
        directories[model, form], settings=home_of(tmp_path), known_as=model, dtype="float32", **options
    )
    return torch.stack([last_logits(loaded, encode(loaded, prompt)) for prompt in PROMPTS])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", MODELS)
def test_logits_are_those_of_transformers_from_pretrained(directories, model, form, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = directories[model, "llama"]
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        asked = [tokenizer(text, return_tensors="pt") for text in PROMPTS]  # as generate asks: the last alone
        expected = [theirs(**tokens, logits_to_keep=1).logits[0, -1] for tokens in asked]
    assert torch.equal(logits_of(directories, model, form, tmp_path), torch.stack(expected))


@pytest.mark.parametrize("devices", [("cpu", "cpu"), ("cpu", "cpu", "cpu", "cpu")])
@pytest.mark.parametrize("model", MODELS)
def test_layers_on_several_devices_give_the_logits_of_one(directories, model, devices, tmp_path):
    import torch

    spread = logits_of(directories, model, "original tp2 pp2", tmp_path, devices=devices)
    assert torch.equal(spread, logits_of(directories, model, "original tp2 pp2", tmp_path))


def test_every_layer_runs_on_the_device_that_the_plan_says(directories, tmp_path):
    loaded = load_model(
        directories[MODELS[0], "hf"], settings=home_of(tmp_path), devices=["cpu", "cpu"], known_as=MODELS[0]
    )
    parts = loaded.plan.placement.parts
    assert [part.layers for part in parts] == [range(2), range(2, 4)]
    assert all(hasattr(layer, "_hf_hook") for layer in loaded.model.model.layers)
    assert sum(part.nbytes for part in parts) == sum(tensor.nbytes for tensor in loaded.model.parameters())


def test_the_model_is_held_in_the_dtype_of_its_files_or_in_the_one_asked_for(directories, tmp_path):
    for dtype, expected in ((None, "torch.bfloat16"), ("float32", "torch.float32")):
        loaded = load_model(directories[MODELS[0], "hf"], settings=home_of(tmp_path), dtype=dtype)
        assert {str(parameter.dtype) for parameter in loaded.model.parameters()} == {expected}


@pytest.mark.parametrize("model", MODELS)
def test_greedy_tokens_are_those_of_transformers_generate(directories, model, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(directories[model, "llama"], dtype=torch.float32).eval()
    loaded = load_model(
        directories[model, "original"], settings=home_of(tmp_path), known_as=model, dtype="float32"
    )
    ids = encode(loaded, PROMPTS[0])
    expected = theirs.generate(
        torch.tensor([ids]), max_new_tokens=20, do_sample=False, eos_token_id=None, pad_token_id=2
    )
    assert list(greedy(loaded, ids, 20)) == expected[0, len(ids) :].tolist()


def test_a_plan_reads_no_weights(directories, tmp_path):
    """The plan of a checkpoint whose weights are all holes is the plan of the real one."""
    source = directories[MODELS[0], "hf"]
    for file in (path for path in source.iterdir() if path.is_file()):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    content = weights.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    weights.write_bytes(content[:header] + bytes(len(content) - header))
    settings, devices = home_of(tmp_path), ["cpu", "cpu", "cpu"]
    plans = [plan_load(folder, settings=settings, devices=devices) for folder in (source, tmp_path)]
    cuts = [[(part.first, part.stop, part.nbytes) for part in plan.placement.parts] for plan in plans]
    assert cuts[0] == cuts[1]


def test_a_chat_prompt_starts_with_bos_once_and_waits_for_the_answer(directories, tmp_path):
    model = "demo-internlm2-chat"
    loaded = load_model(directories[model, "hf"], settings=home_of(tmp_path), known_as=model)
    ids = encode_turns(loaded, [{"role": "user", "content": "Hello"}])
    vocabulary = stock(loaded.tokenizer).get_vocab()
    assert ids[:2] == [vocabulary["<s>"], vocabulary["<|im_start|>"]]
    assert ids.count(vocabulary["<s>"]) == 1
    assert ids.count(vocabulary["<|im_start|>"]) == 2
    assert stock(loaded.tokenizer).decode(ids).endswith("<|im_start|>assistant\n")


def test_a_plain_prompt_starts_with_bos_once(directories, tmp_path):
    loaded = load_model(directories[MODELS[0], "original"], settings=home_of(tmp_path), known_as=MODELS[0])
    assert encode(loaded, PROMPTS[0])[0] == 1
    assert encode(loaded, PROMPTS[0]).count(1) == 1


def test_a_chat_model_ends_its_answer_itself_and_shows_no_special_token(directories, tmp_path):
    model = "demo-internlm2-chat"
    loaded = load_model(directories[model, "original"], settings=home_of(tmp_path), known_as=model)
    answer = generate(loaded, "Hello", max_new_tokens=200)
    assert answer == generate(loaded, "Hello", max_new_tokens=400)
    assert "<|" not in answer and "</s>" not in answer


def test_an_original_directory_without_tokenizer_loads_and_has_logits_but_no_text(directories, tmp_path):
    from internlm_zoo.errors import NotFoundError

    for file in directories[MODELS[0], "original"].glob("*.pt"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    loaded = load_model(tmp_path, settings=home_of(tmp_path), known_as=MODELS[0])
    assert last_logits(loaded, [1, 300]).isfinite().all()
    with pytest.raises(NotFoundError, match=r"tokenizer\.model"):
        generate(loaded, "text")

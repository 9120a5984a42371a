"""A directory knows which model it holds, through any number of conversions."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.loading.demo import MODELS, edit_json, nameless, rewritten

BASE, CHAT = MODELS
FINGERPRINT = "c1fda16cace8e46f78ff9d3373c232e679818b9350335c430b1ff96b23e17f18"
NAMED = {"name": CHAT, "kind": "chat", "fingerprint": FINGERPRINT, "changed": False}
ASK = ("-p", "Hello", "--max-new-tokens", 12)


@pytest.fixture(scope="module")
def chain(directories, tmp_path_factory):
    """The chat model from each format to the next, with evidence; only the first is told its name."""
    from internlm_zoo import convert

    folder, before = tmp_path_factory.mktemp("chain"), directories[CHAT, "original"]
    steps = (("hf", {}), ("llama", {}), ("original", {"tp": 2}), ("hf", {"dtype": "float32"}), ("llama", {}))
    made = []
    for number, (to, how) in enumerate(steps):
        made.append(folder / f"{number}-{to}")
        convert(before, made[-1], to=to, known_as=None if number else CHAT, **how)
        before = made[-1]
    return made


def model_of(folder):
    return json.loads((folder / "conversion.json").read_text())["model"]


def trained_further(source, target):
    def change(tensors):
        tensors["model.layers.1.mlp.up_proj.weight"] ^= 1  # the last bit of every value

    return rewritten(source, target, change)


def names_of(result):
    return [check["name"] for check in result["checks"]]


def test_every_conversion_hands_on_name_kind_and_fingerprint(chain):
    *same, widened, last = map(model_of, chain)
    assert same == [NAMED] * 3
    assert widened == last != NAMED  # another element type is another fingerprint, and the same model
    assert widened | {"fingerprint": FINGERPRINT} == NAMED


def test_the_fingerprint_command_prints_that_of_the_whole_model(zoo, chain):
    assert FINGERPRINT in zoo("fingerprint", chain[0])[2]


@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_converted_directory_is_judged_by_golden_data_without_being_named(smoke, chain, place):
    code, result = smoke(chain[place])
    assert (code, result["model"]) == (0, CHAT), result["sentence"]
    names = ["facts", "fingerprint", "values", "token ids", "chat template", "logits", "tokens", "eos"]
    assert names_of(result) == [*names, "positions", "passages"]


def test_a_converted_chat_model_answers_a_turn_without_being_named(zoo, chain):
    code, out, err = zoo("generate", chain[1], *ASK)
    assert code == 0 and "a prompt is" not in err
    assert (
        out == zoo("generate", chain[1], "--as", CHAT, *ASK)[1] != zoo("generate", chain[1], "--raw", *ASK)[1]
    )


def test_a_directory_without_a_name_says_in_one_line_how_the_prompt_was_taken(zoo, chain, tmp_path):
    folder = nameless(chain[1], tmp_path)
    code, out, err = zoo("generate", folder, *ASK)
    assert code == 0 and out == zoo("generate", chain[1], *ASK)[1]
    (said,) = [line for line in err.splitlines() if "a prompt is" in line]
    assert "a turn in its own chat template (tokenizer_config.json); --raw" in said and "--as MODEL" in said
    assert "a prompt is" not in zoo("generate", folder, "--raw", *ASK)[2]
    (folder / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0]['content'] }}")
    code, out, err = zoo("generate", folder, *ASK)
    assert "(chat_template.jinja)" in err and out == zoo("generate", folder, "--raw", *ASK)[1]
    (folder / "chat_template.jinja").unlink()
    edit_json(folder / "tokenizer_config.json", chat_template=None)
    code, out, err = zoo("generate", folder, *ASK)
    assert "text to go on from" in err and out == zoo("generate", folder, "--raw", *ASK)[1]


def test_a_hostile_template_of_a_directory_without_a_name_is_refused(zoo, chain, tmp_path):
    folder = nameless(chain[1], tmp_path)
    (folder / "chat_template.jinja").write_text("{{ messages.__class__.__mro__ }}")
    code, out, err = zoo("generate", folder, *ASK)
    assert (code, out) == (7, "") and "chat template" in err and "Traceback" not in err


def test_a_record_of_before_there_were_names_is_read(zoo, smoke, chain, tmp_path):
    folder = shutil.copytree(chain[1], tmp_path / "older")
    record = json.loads((folder / "conversion.json").read_text())
    del record["model"]
    (folder / "conversion.json").write_text(json.dumps(record))
    assert "nothing says which model this is" in zoo("generate", folder, *ASK)[2]
    assert zoo("verify", folder)[0] == 0
    assert "golden" not in smoke(folder)[1]["sentence"]


def test_weights_that_are_not_those_of_their_record_fail_and_are_not_held_against_golden_data(
    smoke, chain, tmp_path
):
    code, result = smoke(trained_further(chain[1], tmp_path / "trained"))
    assert code == 1 and names_of(result)[:2] == ["facts", "fingerprint"]
    assert "not those recorded as demo-internlm2-chat" in result["sentence"]
    assert "logits" not in names_of(result)


def test_a_conversion_of_weights_trained_further_keeps_the_turns_and_claims_no_golden_data(
    zoo, smoke, chain, tmp_path
):
    trained, made, again = (
        trained_further(chain[1], tmp_path / "trained"),
        tmp_path / "hf",
        tmp_path / "again",
    )
    code, _, err = zoo("convert", trained, made, "--to", "hf")
    assert code == 0 and "its weights are not those of demo-internlm2-chat" in err
    assert zoo("convert", made, again, "--to", "llama")[0] == 0
    for folder in (made, again):
        assert model_of(folder)["changed"] and model_of(folder)["fingerprint"] != FINGERPRINT
        code, result = smoke(folder)
        assert code == 0, result["sentence"]
        assert "logits" not in names_of(result) and "stops" in names_of(result)
    code, result = smoke(again, "--as", CHAT)  # who says that it is the released model is believed
    assert code == 1 and "logits differ" in result["sentence"]


def test_a_name_that_is_given_for_other_weights_claims_no_golden_data(zoo, smoke, chain, tmp_path):
    trained = nameless(trained_further(chain[1], tmp_path / "trained"), tmp_path)
    assert zoo("convert", trained, tmp_path / "hf", "--to", "hf", "--as", CHAT)[0] == 0
    assert model_of(tmp_path / "hf")["changed"]
    assert "logits" not in names_of(smoke(tmp_path / "hf")[1])


def test_a_record_whose_model_makes_no_sense_is_damaged(zoo, chain, tmp_path):
    for number, model in enumerate(
        ("x", {"name": "\x1b[31m", "kind": "chat"}, NAMED | {"fingerprint": "00"})
    ):
        folder = shutil.copytree(chain[1], tmp_path / str(number))
        edit_json(folder / "conversion.json", model=model)
        code, _, err = zoo("verify", folder)
        assert code == 6 and "conversion.json" in err and "\x1b" not in err


def test_a_download_says_kind_and_fingerprint_and_an_older_one_is_read(zoo, smoke, tmp_path):
    folder = tmp_path / "here"
    assert zoo("download", CHAT, "--local-dir", folder)[0] == 0
    file = folder / ".internlm-zoo" / "release.json"
    record = json.loads(file.read_text())
    assert (record["model"], record["kind"], record["fingerprint"]) == (CHAT, "chat", FINGERPRINT)
    assert json.loads(zoo("verify", folder, "--json")[1])["folders"][0]["model"] == CHAT
    del record["kind"], record["fingerprint"]
    file.write_text(json.dumps(record))
    assert "logits" in names_of(smoke(folder)[1])
    assert zoo("generate", folder, *ASK)[:2] == zoo("generate", folder, "--as", CHAT, *ASK)[:2]


def test_a_stop_token_that_the_tokenizer_lacks_is_an_error(zoo, chain, tmp_path):
    folder = shutil.copytree(chain[1], tmp_path / "lacking")
    (folder / "tokenizer.model").unlink()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text((folder / name).read_text().replace("<|im_end|>", "<|im_and|>"))
    code, out, err = zoo("generate", folder, *ASK)
    assert (code, out) == (7, "") and "its tokenizer has no <|im_end|>" in err


def test_a_result_that_is_there_already_under_another_name_is_another_one(zoo, chain, tmp_path):
    made = tmp_path / "llama"
    assert (
        zoo("convert", nameless(chain[0], tmp_path), made, "--to", "llama", "--set", "family=internlm2")[0]
        == 0
    )
    assert model_of(made) is None
    again = ("convert", tmp_path / "nameless", made, "--to", "llama", "--set", "family=internlm2")
    assert zoo(*again)[0] == 0
    code, _, err = zoo(*again, "--as", CHAT)
    assert code == 2 and f"the model was null, and is {CHAT}" in err

"""Stop tokens and generation settings: stock transformers stops where the model's turn ends, and what someone
wrote down survives every direction."""

from __future__ import annotations

import shutil

import pytest

from tests.cli.test_convert import DEMO
from tests.converters.auxiliary.directories import change, read_json, stock, vendor, write_json
from tests.converters.oracle import INTERNLM2, make_model, write_original

IM_END = 2046
IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def ids_in(folder, name="config.json"):
    content = read_json(folder / name)
    return {key: content.get(key) for key in IDS}


def test_stock_generate_stops_at_the_end_of_the_turn(zoo, tmp_path):
    from transformers import AutoModelForCausalLM

    code, _, err = zoo("convert", DEMO / "demo-internlm2-chat", tmp_path / "llama", "--to", "llama")
    assert code == 0
    assert "<|im_end|> is 2046" in err and "registry" in err
    tokenizer = stock(tmp_path / "llama")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "llama", local_files_only=True)
    turn = [{"role": "user", "content": "Finish the proverb: Where there is a will,"}]
    prompt = tokenizer.apply_chat_template(
        turn, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    written = model.generate(**prompt, max_new_tokens=60, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert written[-1] == IM_END
    assert len(written) < 60


def test_config_and_generation_config_say_the_same(zoo, tmp_path):
    for to in ("hf", "llama"):
        assert zoo("convert", DEMO / "demo-internlm2-chat", tmp_path / to, "--to", to)[0] == 0
        wanted = {"bos_token_id": 1, "eos_token_id": [2, IM_END], "pad_token_id": 2}
        assert ids_in(tmp_path / to) == ids_in(tmp_path / to, "generation_config.json") == wanted
        origin = read_json(tmp_path / to / "conversion.json")["facts"]["eos_token_id"]["origin"]
        assert origin == "registry"


def test_a_base_model_stops_at_the_end_of_a_text_alone(zoo, tmp_path):
    src = DEMO / "demo-internlm-base"
    assert zoo("convert", src, tmp_path / "dst", "--to", "llama", "--as", "demo-internlm-base")[0] == 0
    assert ids_in(tmp_path / "dst", "generation_config.json")["eos_token_id"] == 2


def test_a_token_that_the_tokenizer_does_not_have_is_no_stop_token(zoo, tmp_path):
    src = write_original(tmp_path / "src", make_model(INTERNLM2), INTERNLM2)
    assert zoo("convert", src, tmp_path / "dst", "--to", "llama")[0] == 0
    assert ids_in(tmp_path / "dst", "generation_config.json")["eos_token_id"] == 2


@pytest.mark.parametrize("with_file", [True, False], ids=["generation_config", "config alone"])
def test_lists_and_a_pad_of_its_own_survive_the_original_format(zoo, tmp_path, with_file):
    src = vendor(tmp_path / "src")
    wanted = {"bos_token_id": 1, "eos_token_id": [2, IM_END], "pad_token_id": 0}
    change(src / "config.json", **wanted)
    if with_file:
        write_json(src / "generation_config.json", {**wanted, "max_new_tokens": 40, "temperature": 0.8})
    assert zoo("convert", src, tmp_path / "original", "--to", "original", "--tp", "2")[0] == 0
    for to in ("hf", "llama"):
        assert zoo("convert", tmp_path / "original", tmp_path / to, "--to", to)[0] == 0
        assert ids_in(tmp_path / to) == ids_in(tmp_path / to, "generation_config.json") == wanted
        if with_file:
            kept = (tmp_path / to / "generation_config.json").read_bytes()
            assert kept == (src / "generation_config.json").read_bytes()


@pytest.mark.parametrize("to", ["hf", "llama"])
def test_what_generates_comes_before_what_the_config_says_and_both_agree_then(zoo, tmp_path, to):
    src = vendor(tmp_path / "src")
    write_json(src / "generation_config.json", {"eos_token_id": [2, IM_END], "pad_token_id": 2})
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", to)
    assert code == 0
    assert "config.json says 2" in err
    assert ids_in(tmp_path / "dst") == {"bos_token_id": 1, "eos_token_id": [2, IM_END], "pad_token_id": 2}
    assert ids_in(tmp_path / "dst") == ids_in(tmp_path / "dst", "generation_config.json")


def test_settings_that_transformers_derived_from_the_config_say_no_more_than_it(zoo, tmp_path):
    """`save_pretrained` writes them beside every model; someone's own leave no room for the registry's."""
    src = vendor(tmp_path / "src")
    for derived, wanted in ((True, [2, IM_END]), (False, 2)):
        stated = {"_from_model_config": True} if derived else {}
        write_json(src / "generation_config.json", {**stated, "bos_token_id": 1, "eos_token_id": 2})
        dst = tmp_path / f"dst-{derived}"
        assert zoo("convert", src, dst, "--to", "llama", "--as", "demo-internlm2-chat")[0] == 0
        assert ids_in(dst)["eos_token_id"] == wanted
        assert ids_in(dst, "generation_config.json")["eos_token_id"] == wanted


def test_changed_settings_hide_no_changed_weight(zoo, tmp_path):
    src = DEMO / "demo-internlm2-chat"
    assert zoo("convert", src, tmp_path / "dst", "--to", "llama")[0] == 0
    write_json(tmp_path / "dst" / "generation_config.json", {})
    weights = tmp_path / "dst" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    code, out, _ = zoo("verify", tmp_path / "dst")
    assert code == 1
    assert "generation_config.json" in out and "model.safetensors" in out


def test_what_is_given_comes_before_both(zoo, tmp_path):
    src = vendor(tmp_path / "src")
    write_json(src / "generation_config.json", {"eos_token_id": [2, IM_END], "pad_token_id": 2})
    assert zoo("convert", src, tmp_path / "dst", "--to", "llama", "--set", "eos_token_id=7")[0] == 0
    assert ids_in(tmp_path / "dst")["eos_token_id"] == 7
    assert ids_in(tmp_path / "dst", "generation_config.json")["eos_token_id"] == 7


def test_a_dry_run_says_where_the_stop_tokens_come_from(zoo, tmp_path):
    src = DEMO / "demo-internlm2-chat"
    code, out, err = zoo("convert", src, tmp_path / "dst", "--to", "llama", "--dry-run")
    assert code == 0
    assert "<|im_end|> is 2046" in err
    assert f"[2, {IM_END}]" in out


def test_damaged_generation_settings_are_named(zoo, tmp_path):
    src = vendor(tmp_path / "src")
    (src / "generation_config.json").write_text("{")
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "llama")
    assert code == 6
    assert "generation_config.json" in err
    code, out, _ = zoo("inspect", src)
    assert code == 1
    assert "generation_config.json" in out


def test_generate_stops_where_the_directory_says(zoo, tmp_path):
    """A stop token that the registry knows nothing of, which is the second that the model writes."""
    src = DEMO / "demo-internlm2-chat"
    assert zoo("convert", src, tmp_path / "dst", "--to", "llama")[0] == 0
    prompt = ("-p", "Finish the proverb: Where there is a will,", "--as", "demo-internlm2-chat")
    whole = zoo("generate", tmp_path / "dst", *prompt)[1]
    tokenizer = stock(tmp_path / "dst")
    stop = tokenizer(whole, add_special_tokens=False).input_ids[1]
    write_json(tmp_path / "dst" / "generation_config.json", {"eos_token_id": [2, IM_END, stop]})
    short = zoo("generate", tmp_path / "dst", *prompt)[1]
    assert whole.startswith(short.rstrip("\n"))
    assert len(short) < len(whole)


def test_a_source_without_settings_cut_anew_gets_none(zoo, tmp_path):
    shutil.copytree(DEMO / "demo-internlm2-chat", tmp_path / "src")
    assert zoo("convert", tmp_path / "src", tmp_path / "dst", "--to", "original", "--tp", "2")[0] == 0
    assert not (tmp_path / "dst" / "generation_config.json").exists()


def test_a_config_without_token_ids_is_what_is_named(zoo, tmp_path):
    assert zoo("convert", DEMO / "demo-internlm2-chat", tmp_path / "llama", "--to", "llama")[0] == 0
    config = read_json(tmp_path / "llama" / "config.json")
    write_json(tmp_path / "llama" / "config.json", {key: config[key] for key in config.keys() - IDS})
    for file in tmp_path.glob("llama/*"):
        if not file.name.startswith(("config", "model")):
            file.unlink()
    family = ("--set", "family=internlm2")
    code, _, err = zoo("convert", tmp_path / "llama", tmp_path / "hf", "--to", "hf", *family)
    assert code == 2 and "bos_token_id" in err, err

"""`internlm-zoo load | generate`: the answer on stdout, nothing else there, and a sentence when it cannot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

from tests.loading.demo import MODELS, edit_config, rewritten

BASE, CHAT = MODELS


def test_a_plan_says_what_each_device_holds_and_that_nothing_was_loaded(zoo, directories):
    code, out, err = zoo("load", directories[BASE, "hf"], "--devices", "cpu,cpu", "--plan")
    assert code == 0 and err == ""
    assert "embedding, layers 0 to 1" in out and "layers 2 to 3, norm, head" in out
    assert "nothing loaded" in out


def test_load_says_the_same_as_a_document(zoo, directories):
    code, out, _ = zoo("load", directories[BASE, "original"], "--devices", "cpu,cpu", "--json")
    facts = json.loads(out)
    assert code == 0 and facts["seconds"] > 0
    assert [(part["device"], part["first_layer"], part["last_layer"]) for part in facts["parts"]] == [
        ("cpu", 0, 1),
        ("cpu", 2, 3),
    ]
    assert sum(part["bytes"] for part in facts["parts"]) == facts["bytes"] == 2 * facts["parameters"]


def test_generate_prints_the_text_and_nothing_else_anywhere(directories, tmp_path):
    """In a process of its own, so that whatever torch, transformers or accelerate print is seen."""
    done = subprocess.run(
        [
            *(sys.executable, "-W", "default", "-c", "from internlm_zoo.cli import main; main()", "generate"),
            *(directories[CHAT, "hf"], "--as", CHAT, "-p", "Hello", "--devices", "cpu,cpu", "--json"),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert told.keys() == {"model", "prompt", "text", "prompt_tokens", "tokens", "first", "seconds", "rate"}
    assert 0 < told["first"] <= told["seconds"] and told["tokens"] > 1 and told["rate"] > 0


def test_an_address_that_the_libraries_cannot_read_is_a_mistake_of_the_environment(directories):
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from internlm_zoo.cli import main; main()", "load"),
            *(directories[BASE, "hf"], "--json"),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:99999"},
    )
    assert done.returncode == 2
    assert "HF_ENDPOINT" in json.loads(done.stdout)["error"]["fix"]


def test_raw_text_and_a_turn_of_a_chat_are_different_prompts(zoo, directories):
    ask = ("generate", directories[CHAT, "hf"], "--as", CHAT, "-p", "Hello", "--max-new-tokens", 12)
    assert zoo(*ask)[1] != zoo(*ask, "--raw")[1]


def test_an_unknown_device_is_a_usage_error_of_one_line(zoo, directories):
    code, out, err = zoo("load", directories[BASE, "hf"], "--devices", "cpu,gpu")
    assert (code, out) == (2, "")
    assert "'gpu' is not a device" in err and "Traceback" not in err


def test_a_fact_that_the_checkpoint_lacks_is_asked_for_by_name_and_taken_from_set(zoo, directories, tmp_path):
    folder = rewritten(directories[BASE, "llama"], tmp_path / "silent", lambda tensors: None)
    config = json.loads((folder / "config.json").read_text())
    del config["rms_norm_eps"], config["attention_bias"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "conversion.json").unlink()  # it would say which model this is, and the registry the fact
    edit_config(folder, model_type="internlm", architectures=["InternLMForCausalLM"], bias=True)
    code, _, err = zoo("load", folder)
    assert code == 2 and "rms_norm_eps" in err and "--set rms_norm_eps=" in err
    assert zoo("load", folder, "--set", "rms_norm_eps=1e-5")[0] == 0


def test_a_llama_directory_of_an_unknown_family_runs_by_what_its_own_files_say(zoo, directories, tmp_path):
    folder = shutil.copytree(directories[CHAT, "llama"], tmp_path / "bare")
    (folder / "conversion.json").unlink()
    assert zoo("load", folder)[0] == 0
    ask = ("-p", "Hello", "--max-new-tokens", 12, "--raw")
    code, out, err = zoo("generate", folder, *ask)
    assert code == 0
    assert out == zoo("generate", directories[CHAT, "llama"], "--as", CHAT, *ask)[1]
    assert "nothing says which family" in err
    assert zoo("smoke", folder)[0] == 0


def test_a_config_as_transformers_5_writes_it_loads_and_predicts_the_same(zoo, directories, tmp_path):
    from transformers import AutoConfig

    older = directories[CHAT, "llama"]
    newer = shutil.copytree(older, tmp_path / "newer")
    AutoConfig.from_pretrained(older, local_files_only=True).save_pretrained(newer)
    config = json.loads((newer / "config.json").read_text())
    assert "rope_parameters" in config and "dtype" in config and "rope_theta" not in config
    code, out, _ = zoo("compare", older, newer, "--logits", "--json")
    found = json.loads(out)
    assert (code, found["verdict"], found["logits"]["max_difference"]) == (0, "identical", 0)

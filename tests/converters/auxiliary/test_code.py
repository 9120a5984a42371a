"""Code files for AutoModel: carried if asked for, by name, with their auto_map; never run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.converters.oracle import INTERNLM2, make_model, write_hf

# Stands in for the files that were released: transformers runs it, and only when it is told to.
CONFIGURATION = """
import os
from pathlib import Path
from transformers import LlamaConfig
Path(os.environ["RUN"]).touch()

class InternLM2Config(LlamaConfig):
    model_type = "internlm2"
"""
MODELING = """
from transformers import LlamaForCausalLM
from .configuration_internlm2 import InternLM2Config

class InternLM2ForCausalLM(LlamaForCausalLM):
    config_class = InternLM2Config
"""
AUTO_MAP = {
    "AutoConfig": "configuration_internlm2.InternLM2Config",
    "AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM",
}
ASKS = """
import sys
from transformers import AutoConfig, AutoModelForCausalLM
config = AutoConfig.from_pretrained(sys.argv[1], trust_remote_code=True)
model = AutoModelForCausalLM.from_config(config, trust_remote_code=True)
print(type(config).__name__, type(model).__name__, config.hidden_size, config.num_key_value_heads)
"""


@pytest.fixture(scope="module")
def src(tmp_path_factory):
    return write_hf(tmp_path_factory.mktemp("code") / "src", make_model(INTERNLM2), INTERNLM2)


@pytest.fixture
def released(tmp_path):
    folder = tmp_path / "released"
    folder.mkdir()
    (folder / "configuration_internlm2.py").write_text(CONFIGURATION)
    (folder / "modeling_internlm2.py").write_text(MODELING)
    (folder / "evil.py").write_text("raise SystemExit")
    (folder / "config.json").write_text(json.dumps({"auto_map": AUTO_MAP, "hidden_size": 7}))
    return folder


@pytest.mark.slow
def test_automodel_opens_what_carries_code_and_nothing_ran_before(zoo, tmp_path, src, released, monkeypatch):
    pytest.importorskip("transformers")
    ran, dst = tmp_path / "ran", tmp_path / "dst"
    monkeypatch.setenv("RUN", str(ran))
    code, _, err = zoo("convert", src, dst, "--to", "hf", "--code", released)
    assert code == 0 and "trust_remote_code=True" in err
    assert zoo("verify", dst)[0] == 0
    zoo("inspect", dst)
    assert not ran.exists()
    for name in ("configuration_internlm2.py", "modeling_internlm2.py"):
        assert (dst / name).read_bytes() == (released / name).read_bytes()
    assert not (dst / "evil.py").exists()
    environ = {**os.environ, "HF_HOME": str(tmp_path / "hf-home"), "HF_HUB_OFFLINE": "1", "RUN": str(ran)}
    done = subprocess.run([sys.executable, "-c", ASKS, dst], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["InternLM2Config", "InternLM2ForCausalLM", "128", "8"]
    assert ran.exists()


def test_verify_holds_the_code_files(zoo, tmp_path, src, released):
    dst = tmp_path / "dst"
    assert zoo("convert", src, dst, "--to", "hf", "--code", released)[0] == 0
    assert zoo("verify", dst)[0] == 0
    (dst / "modeling_internlm2.py").write_text("import os")
    code, out, _ = zoo("verify", dst, "--json")
    assert code == 1
    assert [file["path"] for file in json.loads(out)["folders"][0]["wrong"]] == ["modeling_internlm2.py"]


def test_other_code_is_another_result(zoo, tmp_path, src, released):
    dst = tmp_path / "dst"
    for _ in range(2):
        assert zoo("convert", src, dst, "--to", "hf", "--code", released)[0] == 0
    assert zoo("convert", src, dst, "--to", "hf")[0] == 2
    (released / "modeling_internlm2.py").write_text(MODELING + "\n")
    code, _, err = zoo("convert", src, dst, "--to", "hf", "--code", released)
    assert code == 2 and "modeling_internlm2.py is not the one" in err


def test_without_code_files_it_is_said_what_opens_the_result(zoo, tmp_path, src):
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "hf")
    assert code == 0
    assert "AutoModel opens hf only with the family's code files" in err
    assert "--to llama needs none" in err and "--code DIR" in err
    assert "auto_map" not in json.loads((tmp_path / "dst/config.json").read_text())
    code, _, err = zoo("convert", src, tmp_path / "llama", "--to", "llama")
    assert code == 0 and "--code" not in err


def no_auto_map(released):
    (released / "config.json").write_text("{}")


def no_config(released):
    (released / "config.json").unlink()


def no_file_of_a_class(released):
    (released / "modeling_internlm2.py").unlink()


def code_elsewhere(released):
    auto_map = {**AUTO_MAP, "AutoModelForCausalLM": "someone/else--modeling_internlm2.InternLM2ForCausalLM"}
    (released / "config.json").write_text(json.dumps({"auto_map": auto_map}))


def a_link_out(released):
    (released.parent / "secret").write_text("secret")
    (released / "modeling_internlm2.py").unlink()
    (released / "modeling_internlm2.py").symlink_to("../secret")


def no_code(released):
    for path in released.glob("*_internlm2.py"):
        path.unlink()


REFUSED = {
    no_auto_map: (2, "there is no auto_map"),
    no_config: (4, "no such file"),
    no_file_of_a_class: (2, "auto_map names modeling_internlm2.InternLM2ForCausalLM"),
    code_elsewhere: (7, "code of another repository"),
    a_link_out: (2, "leads out of the directory"),
    no_code: (4, "no code files"),
}


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
@pytest.mark.parametrize("spoil", REFUSED, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("how", [[], ["--dry-run"]], ids=["convert", "dry run"])
def test_code_that_would_not_work_or_is_not_there_is_refused_before_any_work(
    zoo, tmp_path, src, released, spoil, how
):
    spoil(released)
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "hf", "--code", released, *how)
    wanted, said = REFUSED[spoil]
    assert code == wanted and said in err
    assert not list(tmp_path.glob("*dst*"))


def test_code_goes_with_hf_alone(zoo, tmp_path, src, released):
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "llama", "--code", released)
    assert code == 2 and "not with llama" in err
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "hf", "--code", tmp_path / "nowhere")
    assert code == 4 and "nowhere" in err

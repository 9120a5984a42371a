"""Names and numbers that stand for more than is there: a sentence, in little memory and time."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from tests.converters.oracle import INTERNLM2, make_model, write_hf, write_original

resource = pytest.importorskip("resource")
MEMORY = 4 << 30
WEIGHTS, CONFIG = "model.safetensors", "config.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("huge"), make_model(INTERNLM2)
    write_hf(folder / "hf", model, INTERNLM2)
    write_original(folder / "original", model, INTERNLM2, 2)
    return folder


@pytest.fixture(autouse=True)
def _little_memory():
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY + _mapped(), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def _mapped():
    """Bytes of address space that this process has already."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


NAMES = {
    "model_tp20000_pp20000.pt": "1 of 400,040,001 files is there",
    "model_tp0_pp999999.pt": "1 of 1,000,000 files is there",
    f"model_tp0_pp{'9' * 200}.pt": "no such file name is known",
    "model_tp00_pp0.pt": "no such file name is known",
    "model_wp99999_pp99999.pt": "weight parallelism",
    "model_tp99999_pp99999_dp99999.pt": "sharding by FSDP",
    "model-00001-of-99999999.safetensors": "one of 99,999,999 files, and 1 of them is there",
    f"model-00001-of-{'9' * 200}.safetensors": "holds no checkpoint|no weights in it",
}


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_file_whose_name_says_much_is_a_sentence(zoo, tmp_path, name):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / name).write_bytes(b"")
    code, out, err = zoo("inspect", tmp_path / "src", "--json")
    findings = json.loads(out).get("findings", ()) if out else ()
    assert code in (1, 4)
    assert len(findings) < 100 and len(out) < 20_000
    assert any(part in err + out for part in NAMES[name].split("|"))
    assert zoo("convert", tmp_path / "src", tmp_path / "new", "--to", "llama")[0] in (4, 6, 7)


@pytest.mark.parametrize("name", ["model_tp20000_pp20000.pt", "model_tp1_pp1.pt"])
def test_a_file_beside_a_grid_that_is_of_a_larger_one_is_named(zoo, tmp_path, made, name):
    src = shutil.copytree(made / "original", tmp_path / "src")
    (src / name).write_bytes(b"")
    code, _, err = zoo("convert", src, tmp_path / "new", "--to", "hf")
    assert code == 6
    assert "model_tp" in err and not (tmp_path / "new").exists()


@pytest.mark.parametrize("number", ["9" * 5000, "999999999", "000"])
def test_a_tensor_of_a_layer_far_off_is_named(zoo, tmp_path, made, number):
    src = shutil.copytree(made / "hf", tmp_path / "src")
    tensors = load_file(src / WEIGHTS)
    tensors[f"model.layers.{number}.attention_norm.weight"] = tensors["model.norm.weight"].clone()
    save_file(tensors, src / WEIGHTS)
    for args in (("inspect", src), ("convert", src, tmp_path / "new", "--to", "llama")):
        code, _, err = zoo(*args)
        assert code in (1, 6, 7) and "fault of internlm-zoo" not in err


FACTS = {
    "num_hidden_layers": 10**9,
    "vocab_size": 10**12,
    "hidden_size": 10**11,
    "num_key_value_heads": 10**12,
}


@pytest.mark.parametrize("key", FACTS)
def test_a_config_of_a_model_that_nobody_has_is_refused(zoo, tmp_path, made, key):
    src = shutil.copytree(made / "hf", tmp_path / "src")
    config = json.loads((src / CONFIG).read_text())
    (src / CONFIG).write_text(json.dumps({**config, key: FACTS[key]}))
    assert zoo("inspect", src)[0] == 1
    code, _, err = zoo("convert", src, tmp_path / "new", "--to", "original")
    assert code == 6 and not (tmp_path / "new").exists()
    assert str(FACTS[key]) in err


@pytest.mark.parametrize("option", ["--tp", "--pp", "--pad-vocab-to-multiple"])
@pytest.mark.parametrize("number", ["1000000000", "9" * 5000])
def test_a_grid_that_nobody_has_is_a_mistake_in_the_option(zoo, tmp_path, made, option, number):
    code, _, err = zoo("convert", made / "hf", tmp_path / "new", "--to", "original", option, number)
    assert code in (2, 7) and option in err
    assert len(err) < 8_000 and not (tmp_path / "new").exists()

"""Converting what is converted already: said, and left as it is; another result is refused, and left too."""

from __future__ import annotations

import json
import os

import pytest
import torch

import converters
from converters.errors import UsageError
from tests.converters.oracle import INTERNLM2, make_model, write_hf, write_original

CHAT = "demo-internlm2-chat"
SAID = "it is there already, from the same source with the same options"


@pytest.fixture(scope="module")
def model():
    return make_model(INTERNLM2)


@pytest.fixture
def src(tmp_path, model):
    return write_original(tmp_path / "src", model, INTERNLM2, 2)


@pytest.fixture
def dst(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "dst"


def state(folder):
    """Of every file what a rewriting would change."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def change_a_weight(path):
    """In the middle of the file, where values are; size and time of change stay."""
    before, at = path.stat(), path.stat().st_size // 2
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("evidence", [[], ["--no-evidence"]], ids=["evidence", "no evidence"])
@pytest.mark.parametrize("to", [["hf"], ["llama"], ["original", "--tp", 4, "--pp", 2]], ids=lambda to: to[0])
def test_a_second_run_says_that_it_is_there_and_writes_nothing(zoo, src, dst, to, evidence):
    first = zoo("convert", src, dst, "--to", *to, *evidence, "--json")
    before = state(dst)
    code, out, err = zoo("convert", src, dst, "--to", *to, *evidence)
    assert (code, out.strip()) == (0, str(dst))
    assert SAID in err
    code, out, _ = zoo("convert", src, dst, "--to", *to, *evidence, "--json")
    assert code == 0
    digests = converters.fingerprint(src)  # which the second run has computed, if the first had not
    assert json.loads(out) == {**json.loads(first[1]), "fingerprints": digests, "unchanged": True}
    assert state(dst) == before
    assert [path.name for path in dst.parent.iterdir()] == ["dst"]


OTHER = {
    "--max-shard-size": (
        ["--max-shard-size", "20KB"],
        "with --max-shard-size 5GB, not with --max-shard-size 20KB",
    ),
    "--dtype": (["--dtype", "float32"], "with --dtype keep, not with --dtype float32"),
    "--set": (["--set", "rope_theta=123"], "without --set, not with --set rope_theta=123 ("),
    "--to": (["--to", "llama"], "with --to hf, not with --to llama"),
}


@pytest.mark.parametrize("name", OTHER)
def test_another_option_is_named_and_nothing_is_touched(zoo, src, dst, name):
    assert zoo("convert", src, dst, "--to", "hf")[0] == 0
    before = state(dst)
    options, said = OTHER[name]
    code, out, err = zoo("convert", src, dst, "--to", "hf", *options)
    assert (code, out) == (2, "")
    assert said in err and "--force" in err
    assert state(dst) == before
    assert zoo("convert", src, dst, "--to", "hf", *options, "--force")[0] == 0
    assert zoo("convert", src, dst, "--to", "hf", *options)[0] == 0


@pytest.mark.parametrize("how", [{}, {"evidence": False}], ids=["evidence", "no evidence"])
def test_another_weight_of_the_same_size_and_date_is_seen(src, dst, how):
    converters.convert(src, dst, to="hf", **how)
    change_a_weight(src / "model_tp1_pp0.pt")
    named = "is not in the result" if how else "model_tp1_pp0.pt of the source is another"
    with pytest.raises(UsageError, match=named):
        converters.convert(src, dst, to="hf", **how)


def test_without_evidence_a_damaged_result_is_seen_too(src, dst):
    converters.convert(src, dst, to="hf", evidence=False)
    change_a_weight(dst / "model.safetensors")
    with pytest.raises(UsageError, match="is not in the result"):
        converters.convert(src, dst, to="hf")


def test_the_same_model_from_another_format_is_another_source(tmp_path, model, src, dst):
    converters.convert(src, dst, to="llama")
    with pytest.raises(UsageError, match="layout was internlm2/original, and is internlm2/hf"):
        converters.convert(write_hf(tmp_path / "hf", model, INTERNLM2), dst, to="llama")


def test_a_copy_of_the_source_elsewhere_is_the_same_source(tmp_path, model, src, dst):
    converters.convert(src, dst, to="hf")
    copy = write_original(tmp_path / "copy", model, INTERNLM2, 2)
    assert converters.convert(copy, dst, to="hf").unchanged


def test_a_result_that_is_damaged_is_not_there(src, dst):
    converters.convert(src, dst, to="hf", max_shard_size="20KB")
    shard = sorted(dst.glob("*.safetensors"))[1]
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    with pytest.raises(UsageError, match=f"{shard.name}: expected {len(data):,} bytes"):
        converters.convert(src, dst, to="hf", max_shard_size="20KB")
    shard.unlink()
    with pytest.raises(UsageError, match=f"{shard.name} is missing"):
        converters.convert(src, dst, to="hf", max_shard_size="20KB")
    shard.write_bytes(data)
    assert converters.convert(src, dst, to="hf", max_shard_size="20KB").unchanged
    config = (dst / "config.json").read_text()
    (dst / "config.json").write_text(config.replace("10000", "10001"))
    with pytest.raises(UsageError, match=r"config\.json is not the one"):
        converters.convert(src, dst, to="hf", max_shard_size="20KB")


def test_another_tokenizer_is_another_result(zoo, src, dst, tmp_path):
    bundled = converters.__path__[0] + f"/../internlm_zoo/demo/models/{CHAT}/tokenizer.model"
    assert zoo("convert", src, dst, "--to", "hf")[0] == 0
    code, _, err = zoo("convert", src, dst, "--to", "hf", "--tokenizer", bundled)
    assert code == 2 and "tokenizer.json is not the one" in err
    assert zoo("convert", src, dst, "--to", "hf", "--tokenizer", bundled, "--force")[0] == 0
    assert zoo("convert", src, dst, "--to", "hf", "--tokenizer", bundled)[0] == 0
    code, _, err = zoo("convert", src, dst, "--to", "hf")
    assert code == 2 and "tokenizer.json" in err


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"target": {"files": []}, "fingerprint": {"tensors": {}}}']
)
def test_what_has_no_record_of_ours_is_left_alone(src, dst, text):
    converters.convert(src, dst, to="hf")
    (dst / "conversion.json").write_text(text)
    before = state(dst)
    with pytest.raises(UsageError, match="exists and is not empty"):
        converters.convert(src, dst, to="hf")
    assert state(dst) == before


def test_what_another_version_made_is_not_taken_for_this_ones(src, dst):
    converters.convert(src, dst, to="hf")
    record = json.loads((dst / "conversion.json").read_text())
    (dst / "conversion.json").write_text(json.dumps({**record, "tool": "internlm-zoo 0.0.1"}))
    with pytest.raises(UsageError, match=r"internlm-zoo 0\.0\.1"):
        converters.convert(src, dst, to="hf")


def test_a_target_that_is_a_file_is_left_alone(src, dst):
    dst.write_text("mine")
    with pytest.raises(UsageError, match="exists and is not empty"):
        converters.convert(src, dst, to="hf")
    assert dst.read_text() == "mine"


def test_a_source_whose_config_was_changed_is_another(src, dst):
    """Weights are digested; what decides how they are read is compared by what it says."""
    converters.convert(src, dst, to="hf")
    config = torch.load(src / "model_config.pt", weights_only=True)
    torch.save({**config, "adapt_hf": False}, src / "model_config.pt")
    with pytest.raises(UsageError, match="adapt_hf of the source was true, and is false"):
        converters.convert(src, dst, to="hf")

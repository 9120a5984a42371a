"""`inspect`: an undamaged checkpoint has nothing wrong, and each kind of damage is named, all at once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import converters
from converters.formats import safetensors, torchzip
from converters.formats.tensors import TensorSpec
from tests.converters.oracle import BOTH, INTERNLM, INTERNLM2, make_model, write_hf, write_original

TOKENIZER = Path(__file__).parents[2] / "internlm_zoo/demo/models/demo-internlm2-chat/tokenizer.model"
DIMS = replace(INTERNLM2, layers=6, vocab=2048)
FAMILY = pytest.mark.parametrize("dims", BOTH, ids=lambda dims: dims.family)


def with_tokenizer(folder):
    shutil.copy(TOKENIZER, folder)
    return folder


@pytest.fixture
def original(tmp_path):
    return with_tokenizer(write_original(tmp_path / "original", make_model(DIMS), DIMS, 2, (3, 3)))


@pytest.fixture
def hf(tmp_path):
    return with_tokenizer(write_hf(tmp_path / "hf", make_model(DIMS), DIMS, files=3))


def look(folder, **options):
    found = converters.inspect(folder, **options)
    return found, [(one.what, Path(one.where or "").name) for one in found.findings]


def whats(folder, **options):
    return [what for what, _ in look(folder, **options)[1]]


# --- what it is -----------------------------------------------------------------------------------------


@FAMILY
@pytest.mark.parametrize("names", ["original", "hf", "llama", "bin"])
def test_an_undamaged_checkpoint_has_nothing_wrong(tmp_path, dims, names):
    dims = replace(dims, vocab=2048)
    if names == "original":
        src = write_original(tmp_path / "src", make_model(dims), dims, 2)
    else:
        container = "bin" if names == "bin" else "safetensors"
        src = write_hf(
            tmp_path / "src", make_model(dims), dims, "hf" if names == "bin" else names, container, 2
        )
    found, findings = look(with_tokenizer(src))
    assert findings == []
    known = {name: fact.value for name, fact in found.known.items()}
    assert known["family"] == dims.family
    assert known["format"] == {"bin": "hf"}.get(names, names)
    assert known["dtype"] == dims.dtype
    assert known["parameters"] == sum(array.size for array in make_model(dims).values())
    assert (known["tp"], known["pp"]) == ((2, 1) if names == "original" else (1, 1))
    assert [(file.name, file.size) for file in found.tokenizer] == [("tokenizer.model", 2048)]


def test_every_fact_says_how_it_is_known(original):
    found, _ = look(original, given={"max_position_embeddings": 4096})
    origins = {name: fact.origin for name, fact in found.known.items()}
    assert origins["tp"] == "file names"
    assert origins["parameters"] == "tensors"
    assert origins["hidden_size"] == "model_config.pt"
    assert origins["intermediate_size"] == "tensors"
    assert origins["max_position_embeddings"] == "given"
    assert origins["dtype"] == "tensors"


@pytest.mark.parametrize("model", ["demo-internlm-base", "demo-internlm2-chat"])
def test_the_demo_models_have_nothing_wrong_in_any_format(tmp_path, model):
    src = TOKENIZER.parents[1] / model
    assert look(src, deep=True)[1] == []
    for to in ("hf", "llama"):
        converters.convert(src, tmp_path / to, to=to, given={"max_position_embeddings": 256})
        assert look(tmp_path / to, deep=True)[1] == []


def test_what_is_no_checkpoint_is_not_found(zoo, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    assert zoo("inspect", tmp_path)[0] == 4
    assert zoo("inspect", tmp_path / "absent")[0] == 4


# --- what is wrong --------------------------------------------------------------------------------------


def lfs_pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n")


def web_page(path):
    path.write_text("<!DOCTYPE html><html><body>Sign in</body></html>")


def truncated(path):
    os.truncate(path, path.stat().st_size - 100)


def emptied(path):
    path.write_bytes(b"")


DAMAGES = {lfs_pointer: "Git LFS pointer", web_page: "web page", truncated: "", emptied: "empty"}


@pytest.mark.parametrize(("damage", "word"), DAMAGES.items(), ids=[damage.__name__ for damage in DAMAGES])
@pytest.mark.parametrize("form", ["original", "hf"])
def test_a_file_that_is_no_weights_is_named(original, hf, form, damage, word):
    folder = original if form == "original" else hf
    path = sorted(folder.glob("model_tp*.pt" if form == "original" else "*.safetensors"))[1]
    damage(path)
    named = [what for what, where in look(folder)[1] if where == path.name]
    assert len(named) == 1
    assert word in named[0]


def test_an_index_naming_an_absent_shard(hf):
    (hf / "model-00002-of-00003.safetensors").unlink()
    assert "the index names model-00002-of-00003.safetensors, which is not there" in whats(hf)


def test_an_index_naming_an_absent_tensor_and_a_tensor_that_no_index_names(hf):
    path = hf / "model-00001-of-00003.safetensors"
    state = load_file(path)
    first = sorted(state)[0]
    state["model.extra.weight"] = state.pop(first)
    save_file(state, path, metadata={"format": "pt"})
    found = whats(hf)
    assert f"the index says {first} is in {path.name}, and it is not" in found
    assert f"{path.name} holds model.extra.weight, which the index does not name" in found


def test_several_shards_without_an_index(hf):
    (hf / "model.safetensors.index.json").unlink()
    assert "there are several shards and no index" in whats(hf)


def test_a_vocabulary_that_the_embedding_does_not_have(hf):
    config = json.loads((hf / "config.json").read_text())
    (hf / "config.json").write_text(json.dumps(config | {"vocab_size": 1000}))
    (what,) = whats(hf)
    assert "[2048, 128] where [1000, 128] is expected" in what


def test_a_tokenizer_with_more_tokens_than_the_embedding_has_rows(tmp_path):
    dims = replace(INTERNLM2, vocab=2000)
    src = with_tokenizer(write_hf(tmp_path / "src", make_model(dims), dims))
    assert look(src)[1] == [("it gives ids up to 2047, and the embedding has 2000 rows", "tokenizer.model")]
    (src / "tokenizer.model").unlink()
    (src / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0, "b": 2000}}}))
    assert look(src)[1] == [("it gives ids up to 2000, and the embedding has 2000 rows", "tokenizer.json")]


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"model": {"vocab": 3}}'])
def test_a_damaged_tokenizer(hf, content):
    (hf / "tokenizer.json").write_bytes(content)
    assert [where for _, where in look(hf)[1]] == ["tokenizer.json"]


def test_a_missing_tokenizer(hf):
    (hf / "tokenizer.model").unlink()
    assert whats(hf) == ["there is no tokenizer"]


def test_a_missing_config(hf, original):
    (hf / "config.json").unlink()
    assert "config.json is missing" in whats(hf)
    (original / "model_config.pt").unlink()
    assert "model_config.pt is missing" in whats(original)


def test_a_missing_cell_of_the_grid(original):
    (original / "model_tp0_pp1.pt").unlink()
    assert "model_tp0_pp1.pt is missing from the grid of 2 x 2" in whats(original)


def exchange(folder, one, other):
    (folder / one).rename(folder / "aside")
    (folder / other).rename(folder / one)
    (folder / "aside").rename(folder / other)


def test_ranks_that_were_renamed_are_named(original):
    exchange(original, "model_tp0_pp0.pt", "model_tp1_pp0.pt")
    found = look(original)[1]
    assert ("it was saved as model_tp1_pp0.pt", "model_tp0_pp0.pt") in found
    assert ("it was saved as model_tp0_pp0.pt", "model_tp1_pp0.pt") in found


def test_stages_that_were_exchanged_are_noticed_by_what_they_hold(tmp_path, original):
    """Also where the files do not say under which name they were saved."""
    converters.convert(original, tmp_path / "ours", to="original", tp=1, pp=2)
    assert look(tmp_path / "ours")[1] == []
    exchange(tmp_path / "ours", "model_tp0_pp0.pt", "model_tp0_pp1.pt")
    found, findings = look(tmp_path / "ours")
    assert len(findings) == 1
    assert not found.sound


def test_a_rank_that_was_copied_over_another(original):
    shutil.copy(original / "model_tp0_pp1.pt", original / "model_tp1_pp1.pt")
    found = look(original)[1]
    assert (
        "it holds the same weights as model_tp0_pp1.pt, another rank of its stage",
        "model_tp1_pp1.pt",
    ) in found


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("model_tp0_wp1_pp0.pt", "weight parallelism"),
        ("model_tp0_pp0_dp1.pt", "FSDP"),
        ("model_moe_layer0_expert1_tp0.pt", "experts"),
        ("model_something.pt", "no such file name"),
    ],
)
def test_files_of_variants_that_are_not_supported(original, name, word):
    shutil.copy(original / "model_tp0_pp0.pt", original / name)
    assert any(word in what for what in whats(original))


def test_a_tensor_of_another_dtype(original):
    path = original / "model_tp1_pp0.pt"
    state = torch.load(path, weights_only=True)
    state["layers.0.attention_norm.weight"] = state["layers.0.attention_norm.weight"].float()
    torch.save(state, path)
    assert any("F32 where BF16 is expected" in what for what in whats(original))


def test_everything_that_is_wrong_is_named_at_once(original):
    lfs_pointer(original / "model_tp0_pp0.pt")
    web_page(original / "model_tp1_pp0.pt")
    (original / "model_tp1_pp1.pt").unlink()
    (original / "tokenizer.model").unlink()
    found = " ".join(whats(original))
    for word in ("LFS pointer", "web page", "is missing from the grid", "no tokenizer"):
        assert word in found


# --- deep -----------------------------------------------------------------------------------------------


def changed(folder, tensor, change):
    for path in folder.glob("*.safetensors"):
        state = load_file(path)
        if tensor in state:
            change(state[tensor])
            save_file(state, path, metadata={"format": "pt"})


NAME = "model.layers.2.feed_forward.w1.weight"
FAULTS = {
    "NaN": (lambda t: t[1, 2:4].fill_(float("nan")), "2 of 24,576 values are NaN"),
    "infinite": (lambda t: t[1, 2].fill_(float("-inf")), "1 of 24,576 values are infinite"),
    "zero": (lambda t: t.zero_(), "all of it is zero"),
    "constant rows": (lambda t: t[3:8].fill_(0.25), "5 of its rows hold one value each"),
    "too large": (lambda t: t.mul_(40), "times that of the same tensor in other layers"),
    "too small": (lambda t: t.mul_(0.01), "times that of the same tensor in other layers"),
}


@pytest.fixture
def plausible(tmp_path):
    """Weights as those of a model: normal, of one deviation."""
    torch.manual_seed(0)
    folder = with_tokenizer(write_hf(tmp_path / "plausible", make_model(DIMS), DIMS, files=2))
    for path in folder.glob("*.safetensors"):
        state = {name: torch.randn_like(tensor) * 0.02 for name, tensor in load_file(path).items()}
        save_file(state, path, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("fault", FAULTS)
def test_values_that_cannot_be_right_are_named_by_deep(plausible, fault):
    change, what = FAULTS[fault]
    assert look(plausible, deep=True)[1] == []
    changed(plausible, NAME, change)
    assert whats(plausible) == []
    findings = look(plausible, deep=True)[1]
    assert [where for _, where in findings] == ["layers.2.mlp.gate.weight"]
    assert what in findings[0][0]


def test_statistics_are_those_that_torch_computes(plausible):
    changed(plausible, NAME, lambda t: t[1, 2:4].fill_(0.0))
    (found,) = [
        one for one in look(plausible, deep=True)[0].statistics if one.name == "layers.2.mlp.gate.weight"
    ]
    state = {n: t for path in plausible.glob("*.safetensors") for n, t in load_file(path).items()}
    values = state[NAME].double()
    assert found.elements == values.numel()
    assert found.zeros == int((values == 0).sum())
    assert found.mean == pytest.approx(float(values.mean()), abs=1e-9)
    assert found.std == pytest.approx(float(values.std(unbiased=False)), rel=1e-6)
    assert (found.low, found.high) == (float(values.min()), float(values.max()))


def test_deep_checks_side_cars(original):
    path = original / "model_tp0_pp0.pt"
    (original / "model_tp0_pp0.pt.md5").write_text(hashlib.md5(path.read_bytes()).hexdigest())
    deep = [what for what in whats(original, deep=True) if "MD5" in what]
    assert deep == []
    (original / "model_tp0_pp0.pt.md5").write_text("0" * 32)
    assert any("MD5" in what for what in whats(original, deep=True))


# --- size -----------------------------------------------------------------------------------------------

COUNT = """
import sys, builtins
from converters.formats import bytesource
read = [0]
for name in ("_read_some", "_read_some_into"):
    def counted(self, offset, what, inner=getattr(bytesource.LocalFile, name)):
        read[0] += what if isinstance(what, int) else len(what)
        return inner(self, offset, what)
    setattr(bytesource.LocalFile, name, counted)
import converters
found = converters.inspect(sys.argv[1])
print(len(found.findings), found.nbytes, read[0], "torch" in sys.modules, "socket" in sys.modules)
"""


@pytest.mark.parametrize("form", ["original", "hf"])
def test_forty_gigabytes_are_looked_at_by_their_headers(tmp_path, form):
    """A sparse checkpoint of 64 layers: megabytes are read of it, and no torch is loaded."""
    folder = with_tokenizer(sparse(tmp_path, form))
    done = subprocess.run(
        [sys.executable, "-c", COUNT, str(folder)], capture_output=True, text=True, check=True
    )
    findings, nbytes, read, torch_loaded, _ = done.stdout.split()
    assert int(nbytes) > 40e9
    assert (findings, torch_loaded) == ("0", "False")
    assert int(read) < 64e6


def sparse(tmp_path, form):
    """40 GB in the shape of InternLM-20B, none of it on the disk."""
    small = replace(INTERNLM, layers=64, vocab=2048)
    src = write_hf(tmp_path / "small", make_model(small), small, names="llama")
    folder = tmp_path / form
    options = {"tp": 4, "pp": 2} if form == "original" else {}
    converters.convert(src, folder, to=form, **options)
    scale = {small.hidden: 5120, 3 * small.hidden: 15360, small.inter: 13824, small.vocab: 2048}
    if form == "original":
        scale |= {size // 4: big // 4 for size, big in scale.items()}
    for path in [*folder.glob("*.safetensors"), *folder.glob("model_tp*.pt")]:
        reader, writer = (safetensors, safetensors) if form == "hf" else (torchzip, torchzip)
        specs = [
            TensorSpec(name, tensor.dtype, tuple(scale[size] for size in tensor.shape))
            for name, tensor in reader.read_index(path).tensors.items()
        ]
        layout = writer.layout(specs)
        with path.open("wb") as file:
            file.truncate(layout.size)
            for offset, data in (*layout.fixed, *layout.seal({spec.name: 0 for spec in specs})):
                file.seek(offset)
                file.write(data)
    rescale_config(folder, form)
    return folder


def rescale_config(folder, form):
    sizes = {"hidden_size": 5120, "intermediate_size": 13824}
    if form == "hf":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | sizes))
    else:
        config = torch.load(folder / "model_config.pt", weights_only=False)
        config["hidden_size"] = 5120
        torch.save(config, folder / "model_config.pt")


# --- the command ----------------------------------------------------------------------------------------


def test_the_command_says_what_it_is_and_exits_with_what_it_found(zoo, original):
    code, out, _ = zoo("inspect", original)
    assert code == 0
    assert "nothing is wrong" in out
    for word in ("internlm2", "original", "model_config.pt", "tokenizer.model"):
        assert word in out
    web_page(original / "model_tp1_pp0.pt")
    code, out, _ = zoo("inspect", original, "--json")
    data = json.loads(out)
    assert (code, data["sound"]) == (1, False)
    assert data["findings"][0]["where"].endswith("model_tp1_pp0.pt")
    assert data["findings"][0]["fix"]


def test_deep_prints_statistics(zoo, plausible):
    code, out, _ = zoo("inspect", plausible, "--deep", "--json")
    assert code == 0
    assert len(json.loads(out)["statistics"]) == 2 + 1 + 9 * DIMS.layers
    code, out, _ = zoo("inspect", plausible, "--deep")
    assert (code, "Std" in out) == (0, True)

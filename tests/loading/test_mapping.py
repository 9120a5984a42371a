"""Tensors that lie in a file as they are needed stay there, others are read once, and no way to the memory
changes a number."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from converters.formats import safetensors
from converters.formats.tensors import TensorSpec
from internlm_zoo.errors import IntegrityError
from internlm_zoo.loading.generate import all_logits
from internlm_zoo.loading.load import execute
from tests.loading.demo import FORMS, MODELS, home_of, load_model, mappings, plan_load

IDS = [3, 14, 15, 9, 26, 5]


def loaded_from(folder, tmp_path, **how):
    return load_model(folder, settings=home_of(tmp_path), known_as=how.pop("known_as", None), **how)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", MODELS)
def test_mapped_and_read_weights_give_the_same_logits(directories, model, form, tmp_path):
    mapped, read = (
        loaded_from(directories[model, form], tmp_path, known_as=model, mmap=mmap) for mmap in (True, False)
    )
    assert torch.equal(all_logits(mapped, IDS), all_logits(read, IDS))
    assert not mappings(read) and bool(mappings(mapped)) >= (form in ("hf", "llama"))


def test_another_element_type_is_that_of_torch(directories, tmp_path):
    folder = directories[MODELS[0], "llama"]
    stored = dict(loaded_from(folder, tmp_path).model.named_parameters())
    for name, tensor in loaded_from(folder, tmp_path, dtype="float32").model.named_parameters():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, stored[name].float()), name


def test_what_is_written_to_a_mapped_weight_changes_no_file(directories, tmp_path):
    folder = directories[MODELS[0], "llama"]
    before = (folder / "model.safetensors").read_bytes()
    loaded = loaded_from(folder, tmp_path)
    for parameter in loaded.model.parameters():
        parameter.zero_()
    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("blanks", [0, 1], ids=["as it was written", "at an odd offset"])
def test_a_tensor_at_no_multiple_of_its_elements_is_read(directories, tmp_path, blanks):
    folder = copied(directories[MODELS[0], "llama"], tmp_path / "copy")
    file = folder / "model.safetensors"
    content = file.read_bytes()
    header = int.from_bytes(content[:8], "little")
    longer = (header + blanks).to_bytes(8, "little") + content[8 : 8 + header] + b" " * blanks
    file.write_bytes(longer + content[8 + header :])
    loaded = loaded_from(folder, tmp_path)
    assert bool(mappings(loaded)) == (not blanks)
    sound = loaded_from(directories[MODELS[0], "llama"], tmp_path)
    assert torch.equal(all_logits(loaded, IDS), all_logits(sound, IDS))


def test_a_grid_whose_members_are_not_aligned_is_read(directories, tmp_path):
    """As who packs it again leaves it: torch.save puts every tensor at a multiple of 64 bytes."""
    source = directories[MODELS[0], "original"]
    folder = copied(source, tmp_path / "copy")
    (file,) = folder.glob("model_tp*.pt")
    with zipfile.ZipFile(source / file.name) as old, zipfile.ZipFile(file, "w") as new:
        for number, name in enumerate(old.namelist()):
            member = zipfile.ZipInfo(name)
            member.extra = b"\xff\xff" + (number % 2).to_bytes(2, "little") + b" " * (number % 2)
            new.writestr(member, old.read(name))
    loaded, sound = (loaded_from(one, tmp_path, known_as=MODELS[0]) for one in (folder, source))
    assert torch.equal(all_logits(loaded, IDS), all_logits(sound, IDS))


def test_a_file_that_was_cut_off_since_it_was_planned_is_named(directories, tmp_path):
    folder = copied(directories[MODELS[0], "llama"], tmp_path / "copy")
    plan = plan_load(folder, settings=home_of(tmp_path))
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(10_000)
    with pytest.raises(IntegrityError, match=r"10,000") as caught:
        execute(plan)
    assert caught.value.where == str(folder / "model.safetensors")


def test_ranks_that_hold_another_copy_of_a_norm_are_no_model(directories, tmp_path):
    folder = copied(directories[MODELS[0], "original tp2 pp2"], tmp_path / "copy")
    (file,) = folder.glob("model_tp1_pp1.pt")
    state = torch.load(file, weights_only=True)
    state["norm.weight"].view(torch.int16)[-1] ^= 1
    torch.save(state, file)
    with pytest.raises(IntegrityError, match=r"norm\.weight differs between ranks"):
        loaded_from(folder, tmp_path, known_as=MODELS[0])


def test_the_command_line_has_the_flag(zoo, directories):
    for flag in ("--mmap", "--no-mmap"):
        code, _, err = zoo("load", directories[MODELS[0], "llama"], flag)
        assert code == 0, err


@pytest.mark.slow
def test_bench_times_every_way_beside_from_pretrained(zoo, directories):
    folder = directories[MODELS[0], "llama"]
    code, out, err = zoo("load", folder, "--devices", "cpu", "--bench", "1", "--json")
    assert code == 0, err
    taken = json.loads(out)["taken"]
    assert [*taken] == ["load", "load, not mapped", "from_pretrained"]
    assert all(0 < times["load"] < times["first_logits"] and times["cpu"] > 0 for times in taken.values())
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert taken["load, not mapped"]["read"] - taken["load"]["read"] > 0.9 * size


# Prints, in MB: anonymous memory that loading took, and bytes that system calls read for it.
MEASURED = """
import sys
from pathlib import Path
from internlm_zoo.settings import Settings
from tests.loading.demo import load_model
def anonymous():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous")) * 1024 / 1e6
def read():
    return int(Path("/proc/self/io").read_text().split()[1]) / 1e6
def loaded(folder, mmap):
    return load_model(folder, settings=Settings(home=Path(sys.argv[1]), offline=True), mmap=mmap)
small = loaded(sys.argv[2], True)
for mmap in (True, False):
    memory, count = anonymous(), read()
    big = loaded(sys.argv[3], mmap)
    print(anonymous() - memory, read() - count)
    del big
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells")
def test_mapped_weights_take_no_memory_and_read_ones_take_it_once(directories, tmp_path):
    folder = wide(tmp_path / "wide")
    size = (folder / "model.safetensors").stat().st_size / 1e6
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, tmp_path / "home", directories[MODELS[0], "llama"], folder],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (mapped, looked), (held, read) = (map(float, line.split()) for line in done.stdout.splitlines())
    assert mapped < 0.1 * size and looked < 0.1 * size
    assert size - 1 < held < 1.1 * size and size - 1 < read < 1.01 * size


def wide(folder: Path, layers: int = 1) -> Path:
    """A Llama whose weights are all holes: 67 MB, and 134 MB in each layer."""
    config = {
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": layers,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "vocab_size": 8192,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000,
        "attention_bias": False,
    }
    layer: dict[str, tuple[int, ...]] = {"self_attn.q_proj": (2048, 2048), "self_attn.k_proj": (2048, 2048)}
    layer |= {"self_attn.v_proj": (2048, 2048), "self_attn.o_proj": (2048, 2048)}
    layer |= {"mlp.gate_proj": (8192, 2048), "mlp.up_proj": (8192, 2048), "mlp.down_proj": (2048, 8192)}
    layer |= {"input_layernorm": (2048,), "post_attention_layernorm": (2048,)}
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (8192, 2048)}
    for number in range(layers):
        shapes |= {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}
    shapes |= {"model.norm.weight": (2048,), "lm_head.weight": (8192, 2048)}
    layout = safetensors.layout([TensorSpec(name, "BF16", shape) for name, shape in shapes.items()])
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(layout.size)
        for offset, data in (*layout.fixed, *layout.finalize({span.name: 0 for span in layout.spans})):
            file.seek(offset)
            file.write(data)
    return folder


def copied(source: Path, folder: Path) -> Path:
    folder.mkdir()
    for file in filter(Path.is_file, source.iterdir()):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder

"""Layers that have room nowhere stay on disk: as few as can be, read for each pass, and the same tokens."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from internlm_zoo import fit
from internlm_zoo.errors import IntegrityError, UnsupportedError
from internlm_zoo.fitting.offload import BlockSizes
from internlm_zoo.loading.generate import all_logits, greedy
from internlm_zoo.loading.placement import Device, place
from tests.loading.demo import FORMS, MODELS, edit_config, home_of, load_model, plan_load, rewritten
from tests.loading.test_mapping import copied, wide

BASE, CHAT = MODELS
IDS = [3, 14, 15, 9, 26, 5]
# Of 2.2 MB in bfloat16, 4 layers: one layer and the embedding are held, or nothing is.
SOME, NONE = "1.5MB", "700kB"


def loaded_from(folder, tmp_path, **how):
    return load_model(folder, settings=home_of(tmp_path), **{"known_as": CHAT, "context": 20} | how)


def check_the_same(found, sound):
    assert torch.equal(all_logits(found, IDS), all_logits(sound, IDS))
    assert [*greedy(found, IDS, 6)] == [*greedy(sound, IDS, 6)]


def empty(loaded):
    return {name for name, tensor in loaded.model.named_parameters() if tensor.is_meta}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("room", [SOME, NONE])
def test_tokens_are_those_of_the_model_that_is_held(directories, form, room, tmp_path):
    loaded = loaded_from(directories[CHAT, form], tmp_path, max_memory=room, mmap=room == SOME)
    assert "model.layers.3.mlp.up_proj.weight" in empty(loaded), "after a load as after a pass"
    assert ("model.embed_tokens.weight" in empty(loaded)) == (room == NONE)
    before = empty(loaded)
    check_the_same(loaded, loaded_from(directories[CHAT, form], tmp_path))
    assert empty(loaded) == before


def test_activations_go_from_device_to_device_and_to_what_is_read(directories, tmp_path):
    """In float32, which no file here has, and by transformers' own `generate` as well."""
    how = {"devices": ["cpu", "cpu", "disk"], "max_memory": "4MB", "dtype": "float32"}
    loaded = loaded_from(directories[CHAT, "hf"], tmp_path, **how)
    held, on_disk = loaded.plan.placement.parts
    assert (held.computes, on_disk.device.name, on_disk.computes) == ("cpu", "disk", "cpu")
    assert all(hasattr(layer, "_hf_hook") for layer in loaded.model.model.layers)
    assert on_disk.read == on_disk.nbytes // 2, "as the files have it"
    sound = loaded_from(directories[CHAT, "hf"], tmp_path, dtype="float32")
    check_the_same(loaded, sound)
    ask = {"max_new_tokens": 5, "do_sample": False}
    theirs = [one.model.generate(torch.tensor([IDS]), **ask).tolist() for one in (loaded, sound)]
    assert theirs[0] == theirs[1]


@pytest.mark.parametrize("room", [SOME, "1MB"])
def test_a_head_that_is_the_embedding_lies_with_it(directories, tmp_path, room):
    folder = rewritten(
        directories[CHAT, "llama"], tmp_path / "tied", lambda tensors: tensors.pop("lm_head.weight")
    )
    edit_config(folder, tie_word_embeddings=True)
    loaded = loaded_from(folder, tmp_path, max_memory=room)
    assert empty(loaded)
    assert ("model.embed_tokens.weight" in empty(loaded)) == (room == "1MB")
    check_the_same(loaded, loaded_from(folder, tmp_path))


def test_a_file_that_changes_between_two_passes_is_named(directories, tmp_path):
    folder = copied(directories[CHAT, "llama"], tmp_path / "copy")
    loaded = loaded_from(folder, tmp_path, max_memory=SOME)
    assert [*greedy(loaded, IDS, 1)]
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-2, 2)
        file.write(b"\0\0")
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        list(greedy(loaded, IDS, 1))


def test_what_lies_on_disk_and_what_a_token_costs_is_said(zoo, directories):
    ask = ("load", directories[CHAT, "hf"], "--plan", "--context", 20, "--max-memory")
    code, out, err = zoo(*ask, "cpu=1.5MB", "--json")
    held, on_disk = json.loads(out)["parts"]
    assert code == 0 and (held["device"], held["last_layer"], held["read_bytes"]) == ("cpu", 0, 0)
    assert (on_disk["device"], on_disk["runs_on"], on_disk["first_layer"]) == ("disk", "cpu", 1)
    assert on_disk["read_bytes"] == on_disk["bytes"] == 1410816
    assert "layers 1 to 3 and the head stay on disk" in err and "up to 1.4 MB for each token" in err
    assert "disk, read by cpu" in zoo(*ask, "1.5MB")[1]
    say = ("generate", directories[CHAT, "hf"], "-p", "Hello", "--max-memory", "1.5MB", "--json")
    code, out, err = zoo(*say, "--context", 30, "--max-new-tokens", 40)
    assert code == 0 and json.loads(out)["tokens"]
    assert "memory was kept for 30, and --context keeps it for more" in err


def test_named_devices_are_all_that_is_taken_and_the_refusal_names_the_disk(zoo, directories):
    ask = ("load", directories[CHAT, "hf"], "--plan", "--context", 20, "--max-memory")
    code, _, err = zoo(*ask, SOME, "--devices", "cpu")
    assert code == 7 and "do not fit on 1 device with" in err and "disk" in err
    code, _, err = zoo(*ask, "400kB")
    assert code == 7 and "not even one at a time from disk" in err
    assert zoo(*ask, SOME, "--devices", "disk")[0] == zoo(*ask, SOME, "--devices", "disk,cpu")[0] == 2


sizes = st.builds(
    BlockSizes,
    st.integers(0, 50),
    st.lists(st.integers(1, 50), min_size=1, max_size=5).map(tuple),
    st.integers(0, 50),
)


@pytest.mark.slow
def test_what_is_timed_may_lie_on_disk(zoo, directories):
    ask = (
        "load",
        directories[CHAT, "llama"],
        "--max-memory",
        "1.5MB",
        "--context",
        20,
        "--bench",
        1,
        "--json",
    )
    code, out, err = zoo(*ask)
    assert code == 0, err
    assert [*json.loads(out)["taken"]] == ["load", "load, not mapped"]


@settings(max_examples=60)
@given(sizes, st.integers(0, 3), st.lists(st.integers(0, 150), min_size=1, max_size=3))
def test_no_fewer_layers_could_stay_on_disk(sizes, cache, memories):
    sizes = BlockSizes(sizes.embedding, sizes.layers, sizes.head, cache)
    count, devices = (
        len(sizes.layers),
        [Device(f"cuda:{n}", size) for n, size in enumerate(memories)][: len(sizes.layers)],
    )
    blocks = sizes.blocks

    def fits(stops):
        left = count - stops[-1]
        ends = [sum(blocks[start:stop]) for start, stop in itertools.pairwise((0, *stops))]
        alone = [*sizes.layers[stops[-1] :], sizes.head, sizes.embedding * (stops[-1] == 0)]
        ends[0] += max(alone) + left * cache if left else 0
        return all(size <= device.memory for size, device in zip(ends, devices, strict=True))

    ways = itertools.combinations_with_replacement(range(count + 1), len(devices))
    most = max((stops[-1] for stops in ways if fits(stops)), default=None)
    try:
        placement = place(sizes, [*devices, Device("disk")])
    except UnsupportedError:
        assert most is None
    else:
        on_disk = placement.on_disk
        assert most == (on_disk.first if on_disk else count)


def test_fit_says_of_a_gpu_and_a_host_what_a_plan_for_them_says(directories, tmp_path):
    from internlm_zoo.fitting.cards import RESERVE

    settings, room = home_of(tmp_path), {"cuda:0": 1_400_000, "cpu": 500_000}
    ask = {"context": 20, "known_as": CHAT, "dtype": "float32"}
    plan = plan_load(
        directories[CHAT, "hf"], settings=settings, devices=[*room, "disk"], max_memory=room, **ask
    )
    gpu, host = room["cuda:0"] + RESERVE, room["cpu"]
    (verdict,) = fit(directories[CHAT, "hf"], settings=settings, gpu_mem=gpu, host_mem=host, **ask).verdicts
    found, on_disk = verdict.offload, plan.placement.on_disk
    assert found and on_disk and not verdict.fits
    layers = {part.device.name: len(part.layers) for part in plan.placement.parts}
    assert layers == {
        name: count
        for name, count in zip(
            (*room, "disk"), (found.gpu_layers, found.host_layers, found.disk_layers), strict=True
        )
        if count
    }
    assert found.disk == on_disk.read > 0
    assert found.gpu + found.host == sum(part.nbytes for part in plan.placement.parts) - on_disk.nbytes


def test_fit_has_no_word_of_a_disk_where_it_fits_or_ranks_share_it(tmp_path):
    ask = {"context": 8192, "gpu_mem": "24GB", "settings": home_of(tmp_path)}
    assert fit("internlm2-7b", **ask).verdicts[0].offload is None
    assert fit("internlm2-20b", pp=2, **ask).verdicts[0].offload is None
    alone, helped = (
        fit("internlm2-20b", host_mem=host, **ask).verdicts[0].offload for host in (None, "64GB")
    )
    assert alone and helped and alone.disk_layers > 0 == alone.host_layers
    assert (helped.disk_layers, helped.disk) == (0, 0) and helped.gpu_layers >= alone.gpu_layers


# Prints, in MB: the most host memory beyond that before, pages of files included.
MEASURED = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from internlm_zoo.loading.generate import greedy
from internlm_zoo.settings import Settings
from tests.loading.demo import load_model
def held(line):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(one for one in lines if one.startswith(line)).split()[1]) / 1000
def run(folder, most, mmap):
    settings = Settings(home=Path(sys.argv[1]), offline=True)
    loaded = load_model(folder, settings=settings, mmap=mmap, context=16, max_memory=most)
    return list(greedy(loaded, [1, 2, 3], 2))
run(sys.argv[2], None, False)
for most, mmap in ((None, False), (sys.argv[4], False), (sys.argv[4], True)):
    before = held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    run(sys.argv[3], most, mmap)
    print(held("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells")
def test_memory_is_held_to_what_was_given(directories, tmp_path):
    """Of 335 MB in two layers of 134 MB, an embedding and a head of 34 MB, 210 MB."""
    folder, budget = wide(tmp_path / "wide", layers=2), 210
    small = directories[BASE, "llama"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, tmp_path / "home", small, folder, f"{budget}MB"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    whole, *limited = map(float, done.stdout.split())
    assert whole > 1.3 * budget > budget > max(limited), done.stdout

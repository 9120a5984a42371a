"""A state dict of any mesh is filled by `torch.distributed.checkpoint` from any checkpoint, and each rank
reads its part of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor import empty as empty_dtensor

import internlm_zoo as zoo
from internlm_zoo.errors import IntegrityError, NotFoundError, UnsupportedError, UsageError
from tests.converters.oracle import (
    INTERNLM2,
    Variant,
    expected,
    make_model,
    write_hf,
    write_original,
    write_tied,
)
from tests.loading.demo import FORMS, MODELS, home_of

DIMS = replace(INTERNLM2, vocab=68)
MODEL = make_model(DIMS)
WHOLE = {name: torch.from_numpy(array.view("i2")).view(torch.bfloat16) for name, array in MODEL.items()}
MESHES = {
    "rows": ((4,), (Shard(0),)),
    "columns": ((4,), (Shard(1),)),
    "rows of columns": ((2, 3), (Shard(1), Shard(0))),
    "rows of rows": ((3, 2), (Shard(0), Shard(0))),
    "replicated rows": ((2, 2), (Replicate(), Shard(0))),
}
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    made = {
        "original 2x2": write_original(folder / "original 2x2", MODEL, DIMS, 2, (1, 2)),
        "original 4x1": write_original(folder / "original 4x1", MODEL, DIMS, 4),
    }
    return made | {names: write_hf(folder / names, MODEL, DIMS, names) for names in ("hf", "llama")}


def reader_of(folder: Path, **how):
    return zoo.checkpoint_reader(folder, settings=home_of(folder), **how)


@contextmanager
def rank_of(mesh: tuple[int, ...], rank: int) -> Iterator[dist.DeviceMesh]:
    """This process as one rank of several, the others of which nobody needs."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    world = int(torch.tensor(mesh).prod())
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world)
    try:
        yield init_device_mesh("cpu", mesh)
    finally:
        dist.destroy_process_group()


def held(tensor: torch.Tensor, mesh: tuple[int, ...], placements, rank: int) -> torch.Tensor:
    """What a rank has of a tensor, cut by hand."""
    for dim, placement in enumerate(placements):
        number = rank // int(torch.tensor(mesh[dim + 1 :]).prod()) % mesh[dim]
        if isinstance(placement, Shard):
            parts = tensor.chunk(mesh[dim], placement.dim)
            tensor = parts[number] if number < len(parts) else tensor.narrow(placement.dim, 0, 0)
    return tensor


def fitting(placements, tensor: torch.Tensor):
    """A vector has no columns."""
    return [Replicate() if isinstance(one, Shard) and one.dim >= tensor.dim() else one for one in placements]


def filled(folder: Path, whole, mesh, placements, rank: int, **how):
    with rank_of(mesh, rank) as devices:
        state = {
            name: empty_dtensor(
                *tensor.shape, dtype=tensor.dtype, device_mesh=devices, placements=fitting(placements, tensor)
            )
            for name, tensor in whole.items()
        }
        dcp.load(state, storage_reader=reader_of(folder, **how), no_dist=True)
        return {name: tensor.to_local() for name, tensor in state.items()}


@pytest.mark.parametrize("cut", MESHES)
@pytest.mark.parametrize("source", ["original 2x2", "original 4x1", "hf", "llama"])
def test_every_rank_gets_its_slices(sources, source, cut):
    mesh, placements = MESHES[cut]
    for rank in range(int(torch.tensor(mesh).prod())):
        found = filled(sources[source], WHOLE, mesh, placements, rank)
        for name, tensor in WHOLE.items():
            wanted = held(tensor, mesh, fitting(placements, tensor), rank)
            assert torch.equal(found[name], wanted), (name, rank)


def test_slices_of_fused_matrices_are_those_of_published_names(sources):
    arrays = expected(MODEL, DIMS, "hf")
    whole = {name: torch.from_numpy(array.view("i2")).view(torch.bfloat16) for name, array in arrays.items()}
    for rank in range(6):
        found = filled(sources["original 2x2"], whole, *MESHES["rows of columns"], rank, names="hf")
        for name, tensor in whole.items():
            placements = fitting(MESHES["rows of columns"][1], tensor)
            assert torch.equal(found[name], held(tensor, (2, 3), placements, rank)), (name, rank)


def test_columns_of_a_head_are_those_of_rows_brought_to_length_one(tmp_path):
    folder = write_original(tmp_path / "normed", MODEL, DIMS, 2, (), Variant(norm_head=True))
    whole = dict(zoo.iter_tensors(folder, settings=home_of(tmp_path)))
    lengths = whole["lm_head.weight"].float().norm(dim=1)
    assert torch.allclose(lengths, torch.ones_like(lengths), atol=0.02)
    found = filled(folder, whole, *MESHES["columns"], 2)
    assert torch.equal(found["lm_head.weight"], whole["lm_head.weight"].chunk(4, 1)[2])


def test_plain_tensors_in_any_strides_and_of_another_type_are_filled(sources):
    state = {name: torch.empty(*tensor.shape, 2)[..., 1] for name, tensor in WHOLE.items()}
    matrix = "lm_head.weight"
    state[matrix] = torch.empty(WHOLE[matrix].shape[::-1]).T
    reader = reader_of(sources["original 2x2"])
    reader.check(state)
    dcp.load(state, storage_reader=reader)
    assert all(torch.equal(state[name], tensor.float()) for name, tensor in WHOLE.items())


def test_a_model_of_the_readers_config_has_both_names_of_a_tied_head(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    reader = reader_of(write_tied(tmp_path / "tied", MODEL, DIMS, "llama"))
    state = LlamaForCausalLM(LlamaConfig(**reader.config)).state_dict()
    assert state.keys() == WHOLE.keys()
    reader.check(state)
    dcp.load(state, storage_reader=reader)
    assert torch.equal(state["lm_head.weight"], WHOLE["model.embed_tokens.weight"].float())


def test_what_the_model_has_otherwise_is_refused_by_name(sources):
    reader = reader_of(sources["llama"])
    with pytest.raises(NotFoundError, match=r"_orig_mod\.norm\.weight and 1 more"):
        reader.check({"_orig_mod.norm.weight": torch.empty(1), "other": torch.empty(1)})
    with pytest.raises(UsageError, match=r"shape \[64, 128\] in the model is \[68, 128\] here") as caught:
        reader.check({"lm_head.weight": torch.empty(64, 128)})
    assert caught.value.where == "lm_head.weight"
    with pytest.raises(UsageError, match="this reader is of"):
        dcp.load({}, storage_reader=reader, checkpoint_id="elsewhere")


def failure_of(reader, state) -> BaseException:
    with pytest.raises(CheckpointException) as caught:
        dcp.load(state, storage_reader=reader)
    return caught.value.failures[0][0]


def test_a_tensor_that_no_rank_asks_for_is_not_left_out_in_silence(sources):
    """Stock Llama has no biases unless its config says so, and InternLM has them."""
    state = {name: torch.empty(tensor.shape) for name, tensor in WHOLE.items() if name != "lm_head.weight"}
    error = failure_of(reader_of(sources["original 4x1"]), state)
    assert isinstance(error, UsageError) and "has lm_head.weight" in error.what
    dcp.load(state, storage_reader=reader_of(sources["original 4x1"], partial=True))
    assert torch.equal(state["model.norm.weight"], WHOLE["model.norm.weight"].float())


def test_a_type_that_weights_are_not_read_as_is_refused(sources):
    state = {name: torch.empty(tensor.shape, dtype=torch.int8) for name, tensor in WHOLE.items()}
    error = failure_of(reader_of(sources["llama"]), state)
    assert isinstance(error, UnsupportedError) and "wanted as torch.int8" in error.what


def test_files_that_are_not_what_their_headers_said_are_named(sources, tmp_path):
    folder = shutil.copytree(sources["original 2x2"], tmp_path / "copy")
    reader = reader_of(folder)
    with (folder / "model_tp1_pp0.pt").open("r+b") as file:
        file.truncate(9_000)
    error = failure_of(reader, {name: torch.empty(tensor.shape) for name, tensor in WHOLE.items()})
    assert isinstance(error, IntegrityError) and error.where == str(folder / "model_tp1_pp0.pt")


def other_norm(source: Path, target: Path) -> Path:
    """A copy of a grid of 2 x 2 whose last file has another norm than the one before it."""
    folder = shutil.copytree(source, target)
    state = torch.load(folder / "model_tp1_pp1.pt", weights_only=True)
    state["norm.weight"].view(torch.int16)[-1] ^= 1
    torch.save(state, folder / "model_tp1_pp1.pt")
    return folder


def test_ranks_that_hold_another_copy_of_a_norm_are_no_checkpoint(sources, tmp_path):
    folder = other_norm(sources["original 2x2"], tmp_path / "copy")
    error = failure_of(reader_of(folder), {name: torch.empty(tensor.shape) for name, tensor in WHOLE.items()})
    assert isinstance(error, IntegrityError) and "differs between ranks" in error.what
    with pytest.raises(IntegrityError, match="differs between ranks"):
        list(zoo.iter_tensors(folder, settings=home_of(tmp_path)))


def count_read() -> int:
    """Bytes that system calls of this process read so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux tells")
@pytest.mark.parametrize("form", ["original", "hf", "llama"])
def test_a_rank_reads_its_share_of_the_bytes(tmp_path, form):
    dims = replace(INTERNLM2, layers=2, hidden=512, heads=8, kv_heads=4, inter=1408, vocab=1024)
    model = make_model(dims)
    whole = {name: torch.from_numpy(array.view("i2")).view(torch.bfloat16) for name, array in model.items()}
    folder = (
        write_original(tmp_path / form, model, dims, 2, (1, 1))
        if form == "original"
        else write_hf(tmp_path / form, model, dims, form)
    )
    total = sum(tensor.nbytes for tensor in whole.values())
    filled(folder, whole, (2,), (Shard(0),), 1)  # what is imported on the way is read, too
    for cut in (Shard(0), Shard(1)):
        before = count_read()
        filled(folder, whole, (2,), (cut,), 1)
        assert 0.49 < (count_read() - before) / total < 0.52, cut
    of_rank = zoo.iter_tensors(folder, rank=1, tp=2, settings=home_of(tmp_path))
    before = count_read()
    share = sum(tensor.nbytes for _, tensor in of_rank)
    assert share < 0.51 * total and count_read() - before < 1.02 * share


@pytest.mark.slow
def test_fsdp_on_several_ranks_has_the_parameters_that_from_pretrained_gives(directories, tmp_path):
    """On 2 and on 4: FSDP over all of them and, on 4, over a mesh of 2 x 2; tensor-parallel DTensors; stages.
    What the first rank finds wrong every rank is told."""
    damaged = other_norm(directories[MODELS[0], "original tp2 pp2"], tmp_path / "damaged")
    jobs: list[tuple[str, str | None, str]] = [(MODELS[0], None, str(damaged))]
    for model in MODELS:
        llama, tp4 = directories[model, "llama"], tmp_path / f"{model}-tp4"
        zoo.convert(llama, tp4, to="original", tp=4, evidence=False, settings=home_of(tmp_path))
        folders = [*(directories[model, form] for form in FORMS), tp4]
        jobs += [(model, str(llama), str(folder)) for folder in folders]
    done = subprocess.run(
        [sys.executable, "-m", "tests.loading.sharded_ranks", tmp_path, json.dumps(jobs)],
        capture_output=True,
        text=True,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted({one["world"] for one in results}) == [2, 4]
    assert len(results) == (2 + 4) * len(jobs)
    for one in [one for one in results if "failures" in one]:
        ((kind, what),) = one["failures"].values()
        assert kind == "IntegrityError" and "norm.weight differs between ranks" in what
    loaded = [one for one in results if "failures" not in one]
    assert len(loaded) == (2 + 4) * (len(jobs) - 1)
    for one in loaded:
        assert one["parameters"] > 20 and one["different"] == [], one
        assert one["logits"], one


@pytest.mark.slow
def test_the_example_of_the_guide_fills_a_model_on_two_ranks(tmp_path):
    guide = (Path(__file__).parents[2] / "docs/loading.md").read_text(encoding="utf-8")
    section = guide.partition("## Into a training framework")[2].partition("\n## ")[0]
    code = "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
    program = tmp_path / "example.py"
    assert END in code
    program.write_text(code.replace(END, f"{COMPARED}{END}"), encoding="utf-8")
    environ = {
        **os.environ,
        "INTERNLM_ZOO_HOME": str(tmp_path),
        "INTERNLM_ZOO_OFFLINE": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }
    ranks = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, "-m", *ranks, program], env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("as load has it") == 2


END = "dist.destroy_process_group()"
COMPARED = """
theirs, _ = zoo.load("demo-internlm2-chat", devices=["cpu"])
for name, parameter in theirs.named_parameters():
    assert torch.equal(model.get_parameter(name).full_tensor(), parameter), name
print("as load has it", flush=True)
"""

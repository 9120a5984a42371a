"""Loads checkpoints into models that are sharded over processes of this machine; test_dcp.py looks at what it
prints: a line of JSON for each checkpoint and rank.

    python -m tests.loading.sharded_ranks FOLDER '[["MODEL", "LLAMA_DIRECTORY", "CHECKPOINT"], ...]'

A checkpoint without a LLAMA_DIRECTORY (null) is one that does not load. The processes are forked, so that
torch is imported once.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor import empty as empty_dtensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

import internlm_zoo as zoo
from internlm_zoo.loading.dcp import CheckpointReader
from internlm_zoo.settings import Settings

Job = tuple[str, str | None, str]
IDS = torch.tensor([[1, 3, 14, 15, 9, 26, 5]])
COLUMNS = ("o_proj.weight", "down_proj.weight")


def sharded(reader: CheckpointReader, mesh: DeviceMesh) -> PreTrainedModel:
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**reader.config)).to(torch.bfloat16)
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model.to_empty(device=mesh.device_type)
    model.model.rotary_emb = LlamaRotaryEmbedding(model.config)
    return model.eval()


def tensor_parallel(state: Mapping[str, torch.Tensor], mesh: DeviceMesh) -> dict[str, torch.Tensor]:
    """The state dict of a model that is cut by heads on the last axis of the mesh, and repeated on others."""
    before = [Replicate()] * (mesh.ndim - 1)

    def cut(name: str) -> Shard | Replicate:
        return Replicate() if "norm" in name else Shard(1 if name.endswith(COLUMNS) else 0)

    return {
        name: empty_dtensor(
            *tensor.shape, dtype=tensor.dtype, device_mesh=mesh, placements=[*before, cut(name)]
        )
        for name, tensor in state.items()
    }


def different(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> list[str]:
    assert found.keys() == wanted.keys()
    return [name for name in wanted if not torch.equal(found[name].full_tensor(), wanted[name])]


def failures(job: Job, settings: Settings) -> dict[str, object]:
    """By rank, what each rank is told of the failures of all."""
    reader = zoo.checkpoint_reader(job[2], known_as=job[0], settings=settings)
    try:
        dcp.load(
            {name: torch.empty(one.shape) for name, one in reader.tensors.items()}, storage_reader=reader
        )
    except CheckpointException as error:
        told = {rank: [type(one).__name__, one.what] for rank, (one, _) in error.failures.items()}
        return {"world": dist.get_world_size(), "failures": told}
    return {}


def stage(reader: CheckpointReader, wanted: Mapping[str, torch.Tensor]) -> list[str]:
    """What is wrong with a part of the model that no other rank has, as of a pipeline."""
    number, of = dist.get_rank(), dist.get_world_size()
    mine = {name: torch.empty_like(tensor) for name, tensor in list(wanted.items())[number::of]}
    reader.check(mine)
    dcp.load(mine, storage_reader=reader)
    return [name for name, tensor in mine.items() if not torch.equal(tensor, wanted[name])]


def run(job: Job, meshes: list[DeviceMesh], settings: Settings) -> dict[str, object]:
    known_as, llama, checkpoint = job
    if llama is None:
        return failures(job, settings)
    theirs = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.bfloat16).eval()
    wanted, wrong, same = theirs.state_dict(), [], True
    for mesh in meshes:
        reader = zoo.checkpoint_reader(checkpoint, known_as=known_as, settings=settings)
        model = sharded(reader, mesh)
        state = model.state_dict()
        reader.check(state)
        dcp.load(state, storage_reader=reader)
        model.load_state_dict(state)
        cut = tensor_parallel(wanted, mesh)
        dcp.load(cut, storage_reader=reader)
        wrong += different(model.state_dict(), wanted) + different(cut, wanted)
        with torch.no_grad():
            same &= torch.equal(model(input_ids=IDS).logits, theirs(input_ids=IDS).logits)
    wrong += stage(reader, wanted)
    return {"world": dist.get_world_size(), "parameters": len(wanted), "different": wrong, "logits": same}


def rank_main(rank: int, world: int, folder: Path, jobs: list[Job]) -> None:
    store = f"file://{folder}/store-{world}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    meshes = [init_device_mesh("cpu", (world,))]
    if world == 4:
        meshes.append(init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicas", "shards")))
    for job in jobs:
        line = json.dumps(run(job, meshes, Settings(home=folder / "home", offline=True)))
        os.write(1, f"{line}\n".encode())  # in one piece, beside those of the others
    dist.destroy_process_group()


def forked(rank: int, world: int, folder: Path, jobs: list[Job]) -> int:
    process = os.fork()
    if not process:
        code = 1
        try:
            rank_main(rank, world, folder, jobs)
            code = 0
        except BaseException:  # noqa: BLE001 - told by who waits for it
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return process


def main(folder: Path, jobs: list[Job]) -> int:
    torch.set_num_threads(1)
    failed = 0
    for world in (2, 4):
        ranks = [forked(rank, world, folder, jobs) for rank in range(world)]
        failed += sum(os.waitpid(process, 0)[1] != 0 for process in ranks)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))

"""On an accelerator the same code gives the golden tokens: `pytest -m gpu` where there is one."""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from internlm_zoo import checkpoint_reader
from internlm_zoo.errors import UnsupportedError
from internlm_zoo.loading.answer import generate
from internlm_zoo.loading.generate import greedy, last_logits
from internlm_zoo.smoke.golden import load_golden
from tests.loading.demo import FORMS, MODELS, home_of, load_model

pytestmark = pytest.mark.gpu

# Other kernels sum in another order than the training module did on a CPU.
CLOSE = 1e-4


@pytest.fixture(scope="session")
def device() -> str:
    """INTERNLM_ZOO_TEST_DEVICE=cpu tries the tests themselves where no accelerator is."""
    named = os.environ.get("INTERNLM_ZOO_TEST_DEVICE")
    if named is None and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
    return named or "cuda:0"


@pytest.fixture
def mesh(device) -> Iterator[DeviceMesh]:
    """Of a process group of this process alone, which talks as several would."""
    kind = torch.device(device).type
    backend = "nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield init_device_mesh(kind, (1,))
    finally:
        dist.destroy_process_group()


def loaded_on(directories, model, form, tmp_path, *devices, dtype="float32", **how):
    return load_model(
        directories[model, form],
        settings=home_of(tmp_path),
        known_as=model,
        devices=devices or None,
        dtype=dtype,
        **how,
    )


def check_golden(loaded, model):
    golden = load_golden(model)
    for prompt, logits in zip(golden.prompts, golden.logits, strict=True):
        found = last_logits(loaded, prompt.input_ids).cpu()
        assert float((found - torch.from_numpy(logits)).abs().max()) < CLOSE
        assert tuple(greedy(loaded, prompt.input_ids, len(prompt.greedy))) == prompt.greedy


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", MODELS)
def test_golden_logits_and_tokens_come_from_every_format(directories, model, form, tmp_path, device):
    check_golden(loaded_on(directories, model, form, tmp_path, device), model)


@pytest.mark.parametrize("model", MODELS)
def test_layers_on_the_accelerator_and_the_processor_give_the_golden_tokens(
    directories, model, tmp_path, device
):
    loaded = loaded_on(directories, model, "original tp2 pp2", tmp_path, device, "cpu")
    assert {parameter.device.type for parameter in loaded.model.parameters()} == {
        torch.device(device).type,
        "cpu",
    }
    check_golden(loaded, model)


@pytest.mark.parametrize("form", ["original tp2 pp2", "llama"])
def test_layers_on_disk_are_read_onto_the_accelerator(directories, form, tmp_path, device):
    loaded = loaded_on(
        directories, MODELS[1], form, tmp_path, device, "disk", max_memory={device: "3.5MB"}, context=64
    )
    kinds = {parameter.device.type for parameter in loaded.model.parameters()}
    assert kinds == {torch.device(device).type, "meta"}
    check_golden(loaded, MODELS[1])


def test_the_accelerator_holds_the_weights_and_little_else(directories, tmp_path, device):
    if torch.device(device).type != "cuda":
        pytest.skip("only CUDA counts what is allocated")
    gc.collect()  # models of earlier tests
    before = torch.cuda.memory_allocated(device)
    loaded = loaded_on(directories, MODELS[0], "hf", tmp_path, device, dtype="bfloat16")
    weights = sum(parameter.nbytes for parameter in loaded.model.parameters())
    assert weights <= torch.cuda.memory_allocated(device) - before < 1.05 * weights + 65536


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_state_dict_on_the_accelerator_is_filled(directories, tmp_path, device, dtype):
    folder = directories[MODELS[1], "original tp2 pp2"]
    reader = checkpoint_reader(folder, known_as=MODELS[1], settings=home_of(tmp_path))
    state = {name: torch.empty(one.shape, dtype=dtype, device=device) for name, one in reader.tensors.items()}
    dcp.load(state, storage_reader=reader)
    loaded = loaded_on(directories, MODELS[1], "llama", tmp_path, "cpu", dtype="bfloat16")
    for name, parameter in loaded.model.named_parameters():
        assert torch.equal(state[name].cpu(), parameter.to(dtype))


def test_a_sharded_model_on_the_accelerator_is_filled(directories, tmp_path, device, mesh):
    from tests.loading.sharded_ranks import sharded

    folder = directories[MODELS[1], "original tp2 pp2"]
    reader = checkpoint_reader(folder, known_as=MODELS[1], settings=home_of(tmp_path))
    state = sharded(reader, mesh).state_dict()
    reader.check(state)
    dcp.load(state, storage_reader=reader)
    loaded = loaded_on(directories, MODELS[1], "llama", tmp_path, "cpu", dtype="bfloat16")
    for name, parameter in loaded.model.named_parameters():
        found = state[name].full_tensor()
        assert found.device.type == torch.device(device).type
        assert torch.equal(found.cpu(), parameter), name


@pytest.mark.parametrize("form", FORMS)
def test_a_rank_on_the_accelerator_gives_the_golden_tokens(directories, form, tmp_path, device, mesh):
    """One alone: more of them want a device each."""
    loaded = loaded_on(directories, MODELS[1], form, tmp_path, parallel="tensor")
    assert {parameter.device.type for parameter in loaded.model.parameters()} == {torch.device(device).type}
    check_golden(loaded, MODELS[1])


@pytest.mark.parametrize("model", MODELS)
def test_smoke_passes_on_the_accelerator(zoo, directories, model, device):
    code, out, err = zoo("smoke", directories[model, "original"], "--as", model, "--devices", device)
    assert code == 0, out + err


def test_an_id_beyond_the_embedding_never_reaches_the_accelerator(directories, tmp_path, device):
    """There it would end every later use of the device by this process."""
    folder = shutil.copytree(directories[MODELS[1], "llama"], tmp_path / "model")
    file = folder / "tokenizer.json"
    stated = json.loads(file.read_text())
    stated["post_processor"]["special_tokens"]["<s>"]["ids"] = [92600]
    file.write_text(json.dumps(stated))
    loaded = load_model(folder, settings=home_of(tmp_path), devices=[device], known_as=MODELS[1])
    with pytest.raises(UnsupportedError, match="92600"):
        generate(loaded, "Hello", raw=True)
    assert list(greedy(loaded, [1, 2, 3], 2))

"""What ranks refuse before there are any."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import internlm_zoo as zoo_api
from internlm_zoo.errors import UnsupportedError, UsageError
from internlm_zoo.loading.ranks import Ranks
from internlm_zoo.settings import Settings
from tests.loading.demo import MODELS, home_of

BASE = MODELS[0]


def test_without_a_process_group_the_way_to_one_is_named(zoo, directories, tmp_path):
    folder = directories[BASE, "llama"]
    with pytest.raises(UsageError, match="no process group") as refused:
        zoo_api.load(folder, parallel="tensor", settings=home_of(tmp_path))
    assert "torchrun -m internlm_zoo" in str(refused.value.fix)
    for verb in (("load",), ("smoke",), ("generate", "-p", "x"), ("score", "-p", "x")):
        code, out, err = zoo(verb[0], folder, *verb[1:], "--parallel", "tensor")
        assert (code, out) == (2, "") and "--parallel" in err and "torchrun -m internlm_zoo" in err


def test_stages_are_of_ranks(zoo, directories, tmp_path):
    folder = directories[BASE, "llama"]
    with pytest.raises(UsageError, match="only ranks are divided into stages") as refused:
        zoo_api.load(folder, pp=2, settings=home_of(tmp_path))
    assert refused.value.fix == "`parallel='tensor'`"
    code, _, err = zoo("load", folder, "--pp", "2")
    assert code == 2 and "--pp" in err and "fix: --parallel tensor" in err
    four = Ranks(3, 4, "cpu", 4, pp=4)
    assert [replace(four, rank=rank).held(6) for rank in range(4)] == [
        range(2),
        range(2, 4),
        range(4, 5),
        range(5, 6),
    ]
    with pytest.raises(UnsupportedError, match="4 stages cannot share 3 layers"):
        four.held(3)


def as_rank(monkeypatch, tmp_path, gpus: int, rank: int, size: int) -> Settings:
    """Of several of one machine that has so many GPUs, or says so."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    found_by = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    numbers = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size}
    environ = found_by | {name: str(number) for name, number in numbers.items()}
    return Settings(home=tmp_path, offline=True, environ=environ)


@pytest.mark.parametrize("devices", [None, ["cuda"], ["cuda:0"], ["cuda:0", "cuda:0"]])
def test_more_ranks_of_a_machine_than_it_has_gpus_are_refused(monkeypatch, directories, tmp_path, devices):
    settings = as_rank(monkeypatch, tmp_path, gpus=1, rank=1, size=2)
    with pytest.raises(UnsupportedError, match="each of the 2 ranks of this machine needs a GPU") as refused:
        zoo_api.load(directories[BASE, "llama"], parallel="tensor", devices=devices, settings=settings)
    assert "1 are here" in refused.value.what and refused.value.fix == "start fewer ranks, or name cpu"


@pytest.mark.parametrize(
    ("devices", "mine"),
    [(None, 1), (["cuda"], 1), (["cuda:2", "cuda:0"], 0)],
    ids=["default", "kind", "named"],
)
def test_a_rank_takes_a_gpu_of_its_own_and_talks_over_it(monkeypatch, directories, tmp_path, devices, mine):
    settings, begun = as_rank(monkeypatch, tmp_path, gpus=3, rank=1, size=2), {}
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: begun.update(current=device))

    def begin(backend: str, **how: object) -> None:
        begun.update(how, backend=backend)
        raise RuntimeError("as far as it goes without one")

    monkeypatch.setattr(torch.distributed, "init_process_group", begin)
    with pytest.raises(UsageError, match="the ranks do not find each other: as far as it goes"):
        zoo_api.load(directories[BASE, "llama"], parallel="tensor", devices=devices, settings=settings)
    assert begun["backend"] == "nccl"
    assert begun["device_id"] == begun["current"] == torch.device("cuda", mine)


def test_what_one_process_does_is_not_asked_of_ranks(directories, tmp_path):
    settings = home_of(tmp_path)
    with pytest.raises(UnsupportedError, match="timed"):
        zoo_api.bench_load(directories[BASE, "llama"], parallel="tensor", settings=settings)
    with pytest.raises(UnsupportedError, match="miniature"):
        zoo_api.smoke_test("internlm2-7b", miniature=True, parallel="tensor", settings=settings)

"""What ranks refuse before there are any."""

from __future__ import annotations

from dataclasses import replace

import pytest

import internlm_zoo as zoo_api
from internlm_zoo.errors import UnsupportedError, UsageError
from internlm_zoo.loading.ranks import Ranks
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


def test_what_one_process_does_is_not_asked_of_ranks(directories, tmp_path):
    settings = home_of(tmp_path)
    with pytest.raises(UnsupportedError, match="timed"):
        zoo_api.bench_load(directories[BASE, "llama"], parallel="tensor", settings=settings)
    with pytest.raises(UnsupportedError, match="miniature"):
        zoo_api.smoke_test("internlm2-7b", miniature=True, parallel="tensor", settings=settings)

"""Placement keeps room for keys and values and for what comes and goes; a plan downloads nothing."""

from __future__ import annotations

import json

import pytest

from internlm_zoo.errors import UnsupportedError
from internlm_zoo.fitting.network import network_in
from internlm_zoo.loading.placement import Device
from internlm_zoo.loading.room import Need, find_room
from internlm_zoo.registry import load_registry
from internlm_zoo.settings import Settings
from tests.fitting.test_fit import hub, weights_at
from tests.loading.demo import MODELS

__all__ = ["hub"]
BASE, CHAT = MODELS
GB = 10**9
# internlm2-7b: 15.5 GB; of 32,768 tokens 4.3 GB of keys and values and 3.9 GB that come and go.
CACHE = 2 * 32 * 8 * 128 * 2


@pytest.fixture(scope="module")
def need():
    registry = load_registry(Settings.from_environment({}))
    network = network_in(registry, registry.model("internlm2-7b"))
    assert network
    return Need(network, "bfloat16")


def cards(*gigabytes: float, names: tuple[str, ...] = ()) -> list[Device]:
    named = names or tuple(f"cuda:{index}" for index in range(len(gigabytes)))
    return [Device(name, int(size * GB)) for name, size in zip(named, gigabytes, strict=True)]


def test_every_part_has_room_for_the_cache_of_its_layers(need):
    placement = find_room(need, [cards(24, 24)], 32768).placement
    assert sum(part.cache for part in placement.parts) == CACHE * 32768
    assert all(part.cache == CACHE * 32768 * len(part.layers) // 32 for part in placement.parts)
    assert placement.nbytes == 2 * need.network.parameters


def test_a_context_that_is_asked_for_and_has_no_room_is_refused_with_what_it_takes(need):
    assert find_room(need, [cards(24)], 32768).context == 32768
    with pytest.raises(UnsupportedError, match=r"19\.8 GB .* and 3\.9 GB on each to run") as refused:
        find_room(need, [cards(23)], 32768)
    assert refused.value.exit_code == 7


def test_without_a_wish_there_is_room_for_what_was_trained_or_for_what_fits_and_that_is_said(need):
    whole = find_room(need, [cards(24)], None)
    assert (whole.context, whole.note) == (32768, None)
    part = find_room(need, [cards(18)], None)
    assert 0 < part.context < 32768 and f"{part.context:,} tokens of 32,768" in str(part.note)
    assert find_room(need, [cards(18)], part.context).context == part.context
    with pytest.raises(UnsupportedError):
        find_room(need, [cards(18)], part.context + 1)
    with pytest.raises(UnsupportedError):
        find_room(need, [cards(15)], None)


def test_more_accelerators_and_at_last_the_cpu_are_tried_and_that_is_said(need):
    ways = [cards(16), cards(16, 16), cards(16, 16, 64, names=("cuda:0", "cuda:1", "cpu"))]
    two = find_room(need, ways, 32768)
    assert [part.device.name for part in two.placement.parts] == ["cuda:0", "cuda:1"]
    assert "cuda:0, cuda:1" in str(two.note) and "slowly" not in str(two.note)
    small = [cards(8), cards(8, 8), cards(8, 8, 64, names=("cuda:0", "cuda:1", "cpu"))]
    last = find_room(need, small, 32768)
    assert last.placement.parts[-1].device.name == "cpu" and "run slowly" in str(last.note)
    assert "cuda:0" in str(last.note)


def test_load_plans_within_max_memory_and_says_the_cache(zoo, directories):
    ask = ("load", directories[BASE, "hf"], "--devices", "cuda:0,cuda:1", "--plan", "--json", "--max-memory")
    code, out, _ = zoo(*ask, "cuda:0=1.2MB,cuda:1=20MB", "--context", 100)
    facts = json.loads(out)
    assert code == 0 and facts["context"] == 100
    assert [part["free_bytes"] for part in facts["parts"]] == [1_200_000, 20_000_000]
    layers = [part["last_layer"] - part["first_layer"] + 1 for part in facts["parts"]]
    assert layers[0] < layers[1] and sum(layers) == 4
    code, out, _ = zoo(*ask, "1MB", "--context", 100)
    assert code == 7 and "1.0 MB free" in json.loads(out)["error"]["what"]
    assert zoo(*ask, "cuda:0=much")[0] == 2
    code, out, _ = zoo(*ask, "gpu=1MB")
    assert code == 2 and json.loads(out)["error"]["where"] == "--max-memory"
    code, out, _ = zoo(*ask, "cuda=1.2MB,cuda:1=20MB", "--context", 100)
    assert code == 0 and json.loads(out)["parts"][0]["free_bytes"] == 1_200_000, "cuda is cuda:0"


def test_a_plan_fetches_headers_and_stores_nothing(zoo, hub, tmp_path):
    code, out, _ = zoo("load", "tiny", "--plan", "--json", "--devices", "cpu")
    facts = json.loads(out)
    assert code == 0 and facts["seconds"] is None
    assert facts["bytes"] == pytest.approx(weights_at(tmp_path), rel=0.01)
    assert 0 < hub.sent < 0.03 * weights_at(tmp_path)
    assert not (tmp_path / "home").exists()


def test_scores_are_given_room_on_a_gpu_and_not_on_the_processor(need):
    """In float32 a GPU keeps 9 bytes for each of 32 heads and pair of tokens: 1.2 GB of 2,048."""
    wide = Need(need.network, "float32")
    fits = {name: find_room(wide, [cards(33.5, names=(name,))], None).context for name in ("cuda:0", "cpu")}
    assert 2000 < fits["cuda:0"] < 2500 < 5000 < fits["cpu"]

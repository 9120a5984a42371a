"""Checkpoints with one value, key, byte or end that is another: a result or a ZooError, whatever is done."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import converters
from converters.errors import LINE, LINES, UsageError, ZooError
from converters.record import record
from tests.converters.hostile.mutating import HOSTILE, checkpoints, nodes, renamed, replaced

FORMATS = ("shards", "grid", "llama", "gguf")
TARGETS = {"shards": "llama", "grid": "llama", "llama": "hf", "gguf": "llama"}
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 7, 2**63, 10**40, 10**600, -0.5, float("inf"), float("nan"), 1e300),
    *(
        "",
        "x",
        "linear",
        "a\0\x1b[31m\u202e",
        "y" * 100_000,
        [],
        [1],
        ["x"],
        (),
        (1, 2),
        {},
        {"": ""},
        {1: 2},
    ),
    *({"type": ["dynamic"], "factor": 2}, {"type": "linear", "factor": [1]}, {"base": {}}, torch.float16),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Path]:
    return checkpoints(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def folder(request, whole, tmp_path) -> Path:
    return shutil.copytree(whole[request.param], tmp_path / request.param)


def look(source: Path, to: str) -> None:
    """All that is done with a checkpoint; where a ZooError is raised, its message is a short one."""
    target = source.with_name("out")
    work: list[Callable[[], object]] = [
        lambda: converters.inspect(source),
        lambda: converters.convert(source, target, to=to, workers=1),
        lambda: record.check(source),
    ]
    for step in work:
        shutil.rmtree(target, ignore_errors=True)
        try:
            step()
        except ZooError as error:
            assert len(str(error)) < 3 * LINE * LINES


def look_closer(source: Path, whole: Path, to: str) -> None:
    look(source, to)
    for step in (lambda: converters.fingerprint(source), lambda: converters.compare(source, whole)):
        try:
            step()
        except ZooError as error:
            assert len(str(error)) < 3 * LINE * LINES


def mutations(document: Any) -> Iterator[Callable[[], str]]:
    for path in nodes(document):
        for text in HOSTILE:
            yield partial(replaced, document, path, text)
            if path and isinstance(path[-1], str) and text.startswith('"'):
                yield partial(renamed, document, path, text)


def mutated(folder: Path, times: int) -> Iterator[None]:
    """With each of its JSON files another so many times."""
    chance = random.Random(times)
    for file in sorted(folder.glob("*.json")):
        data = file.read_bytes()
        for text in chance.sample(list(mutations(json.loads(data))), times):
            file.write_text(text(), encoding="utf-8")
            yield
        file.write_bytes(data)


@pytest.mark.parametrize("folder", ["shards", "llama"], indirect=True)
def test_any_value_in_any_place_of_a_json_file_ends_in_a_result_or_a_sentence(folder):
    for _ in mutated(folder, 4):
        look(folder, TARGETS[folder.name])


@pytest.mark.slow
@pytest.mark.parametrize("to", ["hf", "original", "gguf"])
@pytest.mark.parametrize("folder", ["shards", "llama"], indirect=True)
def test_many_more_values_in_places_of_json_files_do(folder, whole, to):
    for _ in mutated(folder, 25):
        look_closer(folder, whole["llama"], to)


def rerun(source: Path, target: Path, times: int) -> None:
    """A conversion to a target whose record says something else."""
    data = (target / "conversion.json").read_bytes()
    for text in random.Random(times).sample(list(mutations(json.loads(data))), times):
        (target / "conversion.json").write_text(text(), encoding="utf-8")
        with suppress(ZooError):
            converters.convert(source, target, to="llama", workers=1, given={"mlp_order": "up_down"})


def test_a_rerun_to_a_target_with_any_record_ends_in_a_result_or_a_sentence(whole, tmp_path):
    rerun(whole["grid"], shutil.copytree(whole["llama"], tmp_path / "llama"), 30)


@pytest.mark.parametrize("given", [[7], {"a": []}, "x", 5, None, [{}]])
def test_a_record_whose_options_are_of_another_kind_is_no_record_of_ours(whole, tmp_path, given):
    target = shutil.copytree(whole["llama"], tmp_path / "llama")
    said = json.loads((target / "conversion.json").read_bytes())
    said["options"]["given"] = given
    (target / "conversion.json").write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(UsageError, match="exists and is not empty"):
        converters.convert(whole["grid"], target, to="llama", given={"mlp_order": "up_down"})


@pytest.mark.slow
def test_many_more_reruns_do(whole, tmp_path):
    rerun(whole["grid"], shutil.copytree(whole["llama"], tmp_path / "llama"), 300)


GIVEN: tuple[Any, ...] = (
    *(10**700, "\ud800", "linear", [], {}, {"type": []}, True, -5, float("nan")),
    {"type": "linear", "factor": [1]},
)
KEYS = ("rope_scaling", "rope_theta", "max_position_embeddings", "pad_token_id", "summary", "anything")


@pytest.mark.parametrize("key", KEYS)
def test_what_is_given_ends_in_a_result_or_a_sentence(whole, tmp_path, key):
    for to in ("hf", "gguf"):
        for value in GIVEN:
            with suppress(ZooError):
                shutil.rmtree(tmp_path / "out", ignore_errors=True)
                converters.convert(whole["shards"], tmp_path / "out", to=to, workers=1, given={key: value})


def test_any_value_in_any_place_of_model_config_ends_in_a_result_or_a_sentence(whole, tmp_path):
    folder = shutil.copytree(whole["grid"], tmp_path / "grid")
    config = torch.load(folder / "model_config.pt", weights_only=True)
    for n, key in enumerate(config):
        for value in ODD[n % 24 :: 24]:
            torch.save({**config, key: value}, folder / "model_config.pt")
            look(folder, "llama")


@pytest.mark.slow
@pytest.mark.parametrize("to", ["llama", "hf", "original", "gguf"])
def test_every_value_in_every_place_of_model_config_does(whole, tmp_path, to):
    folder = shutil.copytree(whole["grid"], tmp_path / "grid")
    config = torch.load(folder / "model_config.pt", weights_only=True)
    for key in (*config, "rope_scaling", "num_kv_attention_heads", "anything"):
        for value in ODD[len(key) % 6 :: 6]:
            torch.save({**config, key: value}, folder / "model_config.pt")
            look_closer(folder, whole["grid"], to)
            torch.save(value, folder / "model_config.pt")
    look(folder, to)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """With some bytes changed, most of them where headers are, or cut short."""
    if chance.random() < 0.2:
        return data[: chance.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        end = chance.choice((200, 2000, len(data)))
        at = chance.randrange(min(end, len(data)))
        at = len(data) - 1 - at if chance.random() < 0.3 else at
        changed[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, changed[at] ^ 1 << chance.randrange(8)))
    return bytes(changed)


def damage_each(folder: Path, whole: dict[str, Path], times: int) -> None:
    chance = random.Random(times)
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        data = file.read_bytes()
        for _ in range(times):
            file.write_bytes(damaged(data, chance))
            look(folder, TARGETS[folder.name])
        file.write_bytes(data)


@pytest.mark.parametrize("folder", FORMATS, indirect=True)
def test_changed_and_missing_bytes_in_any_file_end_in_a_result_or_a_sentence(folder, whole):
    damage_each(folder, whole, 1)


@pytest.mark.slow
@pytest.mark.parametrize("folder", FORMATS, indirect=True)
def test_many_more_changed_and_missing_bytes_do(folder, whole):
    damage_each(folder, whole, 10)

"""Quantised releases: fetched, verified, mended, mirrored and locked like any other, and refused by name
where the model's own weights are wanted."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import get_args

import pytest

import internlm_zoo.cli.checkpoints
import internlm_zoo.cli.convert
import internlm_zoo.cli.download
import internlm_zoo.cli.lock
import internlm_zoo.cli.mirror
import internlm_zoo.cli.models
import internlm_zoo.cli.smoke
from internlm_zoo.downloads.on_demand import find_model
from internlm_zoo.errors import NotFoundError
from internlm_zoo.registry import read_registry
from internlm_zoo.registry.lock import Lock
from internlm_zoo.registry.release import QUANTISED, Format
from tests.cli.test_commands import Terminal, zoo  # noqa: F401 - the fixture
from tests.world import FILES, OVERLAY, World, content_below, write

GGUF = {
    "tiny-q4_0.gguf": random.Random(7).randbytes(300_000),
    "tiny-q8_0.gguf": random.Random(8).randbytes(90_000),
}
AWQ = {
    "config.json": b'{"model_type": "internlm2", "quantization_config": {}}',
    "model.safetensors": b"awq" * 999,
}
RELEASES = """\
      - {hub: huggingface, repo: acme/tiny-gguf, format: gguf, quantisation: q4_0 and q8_0}
      - {hub: modelscope, repo: acme/tiny-gguf, format: gguf}
      - {hub: huggingface, repo: acme/tiny-awq, format: awq, quantisation: int4}
  rounded:
    {display_name: Rounded, family: internlm, size: 1m, kind: chat,
     releases: [{hub: huggingface, repo: acme/tiny-awq, format: awq, quantisation: int4}]}
"""


@pytest.fixture
def quantised(world: World) -> World:
    write(world.root / "acme/tiny-gguf", GGUF)
    write(world.root / "acme/tiny-awq", AWQ)
    (world.folder / "overlay.yaml").write_text(OVERLAY + RELEASES)
    return world


def test_a_quantised_release_is_taken_by_its_name_and_never_by_itself(quantised: World) -> None:
    own = quantised.download()
    assert (own.format, content_below(own.path)) == ("hf", FILES)
    done = quantised.download(format="gguf")
    assert (done.format, content_below(done.path)) == ("gguf", GGUF)
    assert find_model("tiny", settings=quantised.settings).path == own.path
    one = quantised.download("tiny-q8_0.gguf", format="gguf", local_dir=quantised.folder / "one")
    assert set(content_below(one.path)) == {"tiny-q8_0.gguf"}


def test_it_comes_from_the_other_hub_where_one_fails(quantised: World) -> None:
    quantised.fault(503, "*.gguf", "huggingface")
    done = quantised.download(format="gguf")
    assert content_below(done.path) == GGUF
    assert quantised.sent["modelscope"] > 0


def test_one_that_is_damaged_is_mended_by_the_block(quantised: World, zoo: Terminal) -> None:  # noqa: F811
    folder = quantised.download(format="gguf").path
    file = folder / "tiny-q4_0.gguf"
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.resolve().chmod(0o600)
    file.resolve().write_bytes(content)
    assert zoo("verify", folder)[0] == 1
    assert zoo("verify", folder, "--repair")[0] == 0
    assert content_below(folder) == GGUF


def test_a_model_that_is_only_quantised_says_what_there_is(quantised: World, zoo: Terminal) -> None:  # noqa: F811
    code, _, err = zoo("download", "rounded")
    assert code == 4
    assert "rounded has no release" in err and "huggingface:acme/tiny-awq (awq)" in err
    assert zoo("download", "rounded", "--format", "awq")[0] == 0


@pytest.mark.parametrize(
    "verb",
    [
        ("convert", "{}", "out", "--to", "llama"),
        ("convert", "{}", "out", "--to", "hf", "--dry-run"),
        ("load", "{}"),
        ("generate", "{}", "-p", "Hi"),
        ("smoke", "{}"),
    ],
    ids=lambda verb: " ".join(verb[:1] + verb[3:]),
)
@pytest.mark.parametrize(("format", "how"), [("gguf", "gguf q4_0 and q8_0"), ("awq", "awq int4")])
def test_what_wants_the_models_own_weights_refuses_it_by_name(
    quantised: World,
    zoo: Terminal,  # noqa: F811
    tmp_path: Path,
    verb: tuple[str, ...],
    format: str,
    how: str,
) -> None:
    folder = quantised.download(format=format).path
    args = [arg.format(folder) if arg != "out" else str(tmp_path / "out") for arg in verb]
    code, _, err = zoo(*args)
    told = " ".join(err.split())
    assert code == 7, err
    assert f"acme/tiny-{format} is a quantised release ({how})" in told
    assert "`internlm-zoo download tiny --format hf`" in told
    assert not (tmp_path / "out").exists()


def test_a_quantised_repository_is_refused_from_its_hub_before_any_weights(
    quantised: World,
    zoo: Terminal,  # noqa: F811
    tmp_path: Path,
) -> None:
    code, _, err = zoo("convert", "huggingface:acme/tiny-awq", tmp_path / "out", "--to", "hf", "--from-hub")
    assert code == 7 and "acme/tiny-awq is a quantised release (awq int4)" in err
    assert sum(quantised.sent.values()) == 0


def test_inspect_says_that_it_is_one_and_what_it_finds(quantised: World, zoo: Terminal) -> None:  # noqa: F811
    for target in (quantised.download(format="awq").path, "huggingface:acme/tiny-awq"):
        code, _, err = zoo("inspect", target)
        assert code in (1, 7) and "acme/tiny-awq is a quantised release (awq int4)" in err


def test_inspecting_a_model_of_which_only_a_quantised_release_is_here_fetches_no_other(
    quantised: World,
    zoo: Terminal,  # noqa: F811
) -> None:
    quantised.download(format="awq")
    before = quantised.published()
    zoo("inspect", "tiny")
    assert quantised.published() == before


def test_lock_and_mirror_take_it_like_any_other(quantised: World, zoo: Terminal) -> None:  # noqa: F811
    code, answer = zoo.json("lock", "tiny")
    assert code == 0
    assert {"gguf", "awq"} <= {release["format"] for release in answer["releases"]}
    locked = Lock.load(quantised.settings).find("huggingface", "acme/tiny-gguf")
    assert (
        locked is not None and locked.format == "gguf" and {file.path for file in locked.files} == set(GGUF)
    )

    shelf = quantised.folder / "mirror"
    asked = {"destination": str(shelf), "models": ["tiny"], "formats": ["gguf"]}
    (quantised.folder / "mirror.json").write_text(json.dumps(asked))
    assert zoo("mirror", "apply", quantised.folder / "mirror.json")[0] == 0
    copied = {path.name: path.read_bytes() for path in shelf.rglob("*.gguf")}
    assert copied == GGUF


def test_the_command_line_offers_every_format_there_is() -> None:
    assert set(get_args(internlm_zoo.cli.download.Format)) == set(get_args(Format))


def test_the_shipped_registry_says_how_each_is_quantised() -> None:
    registry = read_registry()
    found = [(model, release) for model in registry.models.values() for release in model.releases]
    quantised = [(model, release) for model, release in found if release.quantised]
    assert {release.format for _, release in quantised} == QUANTISED
    assert all(release.quantisation and release.evidence for _, release in quantised)
    for model, _ in quantised:
        assert any(release.format == "hf" for release in model.releases), f"{model.name} is nothing else"


def test_plan_without_a_format_never_means_a_quantised_one(quantised: World) -> None:
    with pytest.raises(NotFoundError):
        quantised.plan(source="modelscope", format="awq")
    assert quantised.plan().format == "hf"

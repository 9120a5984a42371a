"""`internlm-zoo status` against two loopback hubs that do not always hold the same."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import internlm_zoo.cli.lock
import internlm_zoo.cli.status
from internlm_zoo.cli.shell import run
from tests.hubs import FaultyHub
from tests.sources.contract import write_files

REPO = "demo/tiny"
FILES = {"config.json": b"{}", "model.safetensors": bytes(1000), "README.md": b"here"}
OVERLAY = """
models:
  tiny:
    display_name: Tiny
    family: internlm
    size: 1m
    kind: base
    releases:
      - {hub: huggingface, repo: demo/tiny, format: hf}
      - {hub: modelscope, repo: demo/tiny, format: hf}
      - {hub: modelers, repo: demo/tiny, format: hf}
      - {hub: openxlab, repo: demo/tiny, format: hf}
"""
OLD, NEW = 1_700_000_000, 1_710_000_000


class World:
    """Hugging Face in one place, the other hubs in another."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        (folder / "overlay.yaml").write_text(OVERLAY)
        monkeypatch.setenv("HOME", str(folder))
        monkeypatch.setenv("INTERNLM_ZOO_HOME", str(folder / "store"))
        monkeypatch.setenv("INTERNLM_ZOO_REGISTRY", str(folder / "overlay.yaml"))

    def hub(self, name: str, files: dict[str, bytes], changed: float, *variables: str) -> FaultyHub:
        root = self.folder / name / REPO
        write_files(root, files)
        for path in root.rglob("*"):
            os.utime(path, (changed, changed))
        hub = FaultyHub(self.folder / name)
        for variable, value in hub.env.items():
            if variable in variables:
                self.monkeypatch.setenv(variable, value)
        return hub


HF_ENV = "HF_ENDPOINT"
OTHERS = ("MODELSCOPE_ENDPOINT", "INTERNLM_ZOO_MODELERS_ENDPOINT", "INTERNLM_ZOO_OPENXLAB_ENDPOINT")


@pytest.fixture
def world(tmp_path, monkeypatch):
    assert internlm_zoo.cli.status and internlm_zoo.cli.lock
    return World(tmp_path, monkeypatch)


def status(capsys, *options):
    capsys.readouterr()
    code = run(["status", "tiny", "--json", *options])
    return code, {one["hub"]: one for one in json.loads(capsys.readouterr().out)}


def test_hubs_that_hold_the_same_are_said_to(world, capsys):
    with (
        world.hub("one", FILES, OLD, HF_ENV),
        world.hub("two", {**FILES, "README.md": b"there"}, NEW, *OTHERS),
    ):
        code, found = status(capsys)
    assert code == 0
    assert {hub: one["state"] for hub, one in found.items()} == {
        "huggingface": "first",
        "modelscope": "same",
        "modelers": "same",
        "openxlab": "unknown",  # it lists neither sizes nor digests
    }
    assert found["huggingface"]["updated"].startswith("2023-11-14")
    assert found["modelscope"]["updated"].startswith("2024-03-09")
    assert found["modelers"]["updated"] == found["modelscope"]["updated"]


@pytest.mark.parametrize(("changed", "state"), [(OLD - 1000, "older"), (NEW, "newer")])
def test_other_weights_are_older_or_newer_by_the_hubs_dates(world, capsys, changed, state):
    other = {**FILES, "model.safetensors": b"x" * 1000}
    with world.hub("one", FILES, OLD, HF_ENV), world.hub("two", other, changed, *OTHERS):
        code, found = status(capsys)
    assert code == 1
    for hub in ("modelscope", "modelers"):
        assert (found[hub]["state"], found[hub]["differing"]) == (state, ["model.safetensors"])


def test_other_weights_of_the_same_date_are_different(world, capsys):
    other = {**FILES, "model.safetensors": b"x" * 1000}
    with world.hub("one", FILES, OLD, HF_ENV), world.hub("two", other, OLD, *OTHERS):
        assert status(capsys)[1]["modelscope"]["state"] == "different"


def test_a_file_that_one_hub_lacks_is_named(world, capsys):
    fewer = {name: data for name, data in FILES.items() if name != "config.json"}
    with world.hub("one", FILES, OLD, HF_ENV), world.hub("two", fewer, OLD, *OTHERS):
        found = status(capsys)[1]
    assert {tuple(found[hub]["differing"]) for hub in ("modelscope", "modelers", "openxlab")} == {
        ("config.json",)
    }


def test_a_repository_that_is_gone_is_drift(world, capsys):
    with world.hub("one", FILES, OLD, HF_ENV), world.hub("two", FILES, OLD, *OTHERS) as hub:
        hub.fault(404, "/api/v1/models/*")
        code, found = status(capsys)
    assert (code, found["modelscope"]["state"]) == (1, "gone")


def test_a_hub_that_does_not_answer_leaves_the_rest_to_be_said(world, capsys):
    with world.hub("one", FILES, OLD, HF_ENV), world.hub("two", FILES, OLD, *OTHERS) as hub:
        hub.fault(503, "/api/v1/models/*")
        code, found = status(capsys)
    assert code == 3
    assert found["modelscope"]["state"] == "unreachable"
    assert found["modelscope"]["error"]
    assert found["huggingface"]["state"] == "first"


def test_the_table_names_state_date_and_files(world, capsys):
    other = {**FILES, "model.safetensors": b"x" * 1000}
    with world.hub("one", FILES, OLD, HF_ENV), world.hub("two", other, NEW, *OTHERS):
        assert run(["status", "tiny"]) == 1
    out = capsys.readouterr().out
    for word in ("newer", "2024-03-09", "model.safetensors", "modelscope"):
        assert word in out

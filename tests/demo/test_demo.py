"""The demo as a user runs it, in a process of its own; and what it says when a committed weight is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import internlm_zoo

PACKAGES = Path(internlm_zoo.__file__).parents[1]
MODELS = {"demo-internlm-base", "demo-internlm2-chat"}
STEPS = {"list", "download", "corrupted hub", "verify", "convert", "load", "smoke test", "generate", "mirror"}


def run_demo(*args: str, packages: Path = PACKAGES) -> subprocess.CompletedProcess[str]:
    """internlm-zoo demo from the packages in a directory; no proxy stands between it and its own hubs."""
    environ = {**os.environ, "PYTHONPATH": str(packages), "NO_PROXY": "127.0.0.1"}
    code = "from internlm_zoo.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "demo", *args],
        capture_output=True,
        text=True,
        env=environ,
        cwd=packages,
        check=False,
    )


@pytest.mark.slow
def test_every_step_is_proved_for_both_models_and_reported(tmp_path: Path) -> None:
    done = run_demo("--json", "--report-dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["ok"]
    assert {(proof["model"], proof["step"]) for proof in document["proofs"]} == {
        (model, step) for model in MODELS for step in STEPS
    }
    said = [tuple(pair) for proof in document["proofs"] for pair in proof["said"]]
    assert len(said) == 4 and all(text for _, text in said)
    assert any("\u4e00" <= letter <= "\u9fff" for _, text in said for letter in text)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == document
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert all(model in markdown for model in MODELS)


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(MODELS))
def test_one_flipped_byte_of_a_committed_weight_fails_the_golden_comparison(
    model: str, tmp_path: Path
) -> None:
    for name in ("internlm_zoo", "converters"):
        shutil.copytree(PACKAGES / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("registry.yaml", "registry.lock", "registry.schema.json"):
        shutil.copy(PACKAGES / name, tmp_path / name)
    weights = tmp_path / "internlm_zoo/demo/models" / model / "model_tp0_pp0.pt"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)

    done = run_demo("--json", packages=tmp_path)

    assert done.returncode == 1
    proofs = json.loads(done.stdout)["proofs"]
    failed = {(proof["model"], proof["step"]): proof["proved"] for proof in proofs if not proof["ok"]}
    assert {name for name, _ in failed} == {model}
    assert "model_tp0_pp0.pt" in failed[model, "smoke test"]

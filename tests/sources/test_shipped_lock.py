"""The registry.lock of the repository says what the bundled demo models are, byte for byte."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import internlm_zoo
from internlm_zoo.registry.load import shipped
from internlm_zoo.registry.lock import NAME, read

MODELS = Path(internlm_zoo.__file__).parent / "demo" / "models"
RENEW = "internlm-zoo lock demo-internlm-base demo-internlm2-chat --file registry.lock"


@pytest.mark.parametrize("model", ["demo-internlm-base", "demo-internlm2-chat"])
def test_the_shipped_lock_agrees_with_the_bundled_files(model: str) -> None:
    found = read(shipped(NAME)).find("bundled", model)
    assert found is not None, f"renew it: {RENEW}"
    recorded = {file.path: (file.size, file.sha256) for file in found.files}
    there = {path.name: path.read_bytes() for path in (MODELS / model).iterdir()}
    facts = {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in there.items()}
    assert recorded == facts, f"renew it: {RENEW}"
    assert found.trust == "hub"

"""The releases, the hubs, and what converting a local copy gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import converters
from tests.converters.oracle import Variant, make_model, write_hf, write_original, write_tied
from tests.hubs import FaultyHub
from tests.remote.hub import (
    DIMS,
    OLDER,
    OVERLAY,
    TALL,
    Place,
)
from tests.timing import PATIENCE
from tests.world import ENDPOINTS


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Releases of some MB each."""
    root = tmp_path_factory.mktemp("hub")
    (root / "acme").mkdir()
    model, older = make_model(DIMS), make_model(OLDER)
    write_hf(root / "acme/hf", model, DIMS, files=3)
    write_original(root / "acme/tp1", model, DIMS)
    write_original(root / "acme/transposed", make_model(TALL), TALL, how=Variant(storage="transposed"))
    write_original(root / "acme/tp2", model, DIMS, 2)
    write_original(root / "acme/grid", model, DIMS, 2, (1, 3))
    write_tied(root / "acme/tied", model, DIMS)
    converters.convert(
        root / "acme/hf", root / "acme/padded", to="original", tp=2, pad_vocab_to_multiple=1000
    )
    write_hf(root / "acme/older-hf", older, OLDER, files=2)
    write_original(root / "acme/older", older, OLDER, 2)
    return root


@pytest.fixture
def place(tmp_path, root, monkeypatch) -> Iterator[Place]:
    (tmp_path / "overlay.yaml").write_text(OVERLAY)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "out").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    with ExitStack() as stack:
        hubs = {name: stack.enter_context(FaultyHub(root)) for name in ENDPOINTS}
        environ = {
            "HOME": str(tmp_path),
            "INTERNLM_ZOO_HOME": str(tmp_path / "home"),
            "INTERNLM_ZOO_REGISTRY": str(tmp_path / "overlay.yaml"),
            "INTERNLM_ZOO_TIMEOUT": str(PATIENCE),
            "INTERNLM_ZOO_TRIES": "3",
            **{variable: hubs[name].url for name, variable in ENDPOINTS.items()},
        }
        yield Place(tmp_path, root, hubs, environ)


@pytest.fixture
def local(tmp_path_factory, root):
    """The result of converting the local copy."""

    def convert(repo: str, options: dict) -> Path:
        dst = tmp_path_factory.mktemp("local") / "dst"
        converters.convert(root / repo, dst, known={}, **options)
        return dst

    return convert

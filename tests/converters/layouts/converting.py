"""An original checkpoint, converted and held against the oracle."""

from __future__ import annotations

import json

import converters
from tests.converters.bits import assert_same
from tests.converters.oracle import (
    Variant,
    expected,
    make_model,
    read_hf,
    write_original,
)


def assert_converts(tmp_path, dims, tp=2, stages=(), how=Variant(), names="hf", **config):
    model = make_model(dims)
    src = write_original(tmp_path / "src", model, dims, tp, stages, how, **config)
    converters.convert(src, tmp_path / "dst", to=names)
    assert_same(read_hf(tmp_path / "dst"), expected(model, dims, names))


def written_config(tmp_path):
    return json.loads((tmp_path / "dst" / "config.json").read_text())

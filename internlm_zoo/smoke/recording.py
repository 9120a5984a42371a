"""Records what the passages cost a model, as an overlay of the registry for `smoke` to read later."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from converters.sinks.digests import fingerprint_of, fingerprint_of_all
from internlm_zoo.errors import IntegrityError, UnsupportedError, UsageError
from internlm_zoo.fs.disk import disk
from internlm_zoo.loading.directory import ModelDirectory
from internlm_zoo.loading.load import Loaded
from internlm_zoo.registry import Model

_HEAD = "# What passages cost a model, as a smoke test recorded it. INTERNLM_ZOO_REGISTRY=FILE reads it.\n"


def check_recordable(directory: ModelDirectory, target: Path) -> None:
    """Raises UsageError if the target is there already or its folder is not, and if nothing says which model
    it is; UnsupportedError for a reward model, IntegrityError for other weights than the registry's."""
    if os.path.lexists(target) or not target.parent.is_dir():
        what = "it is there already" if target.parent.is_dir() else "its folder is not there"
        raise UsageError(what, target, "name a new file in a folder that is there")
    if directory.model is None:
        what = "what is recorded belongs to a model of the registry, and nothing says which one this is"
        raise UsageError(what, directory.path, "`known_as=MODEL`; an overlay adds a model of your own")
    if directory.scores:
        raise UnsupportedError("it is a reward model, to which no passage can be read", directory.title)
    changed = directory.identity is not None and directory.identity.changed
    stated = directory.model.fingerprint
    if changed or (stated and stated != _fingerprint(directory)):
        what = f"its weights are not those that the registry has as {directory.model.name}"
        raise IntegrityError(what, directory.path, "add it to an overlay as a model of its own")


def write_recording(loaded: Loaded, target: Path) -> None:
    """An overlay with the fingerprint of the weights and, by passage, its loss and the sha256 of its tokens.

    Raises NotFoundError without a tokenizer, UsageError for a place that cannot be written to.
    """
    from internlm_zoo.smoke.passages import encode_passages, passage_losses

    directory = loaded.plan.directory
    assert directory.model is not None, "check_recordable was asked"
    encoded = encode_passages(loaded)
    losses = passage_losses(loaded, encoded)
    rows = {
        one.passage.name: {"nats": round(losses[one.passage.name], 6), "tokens": one.tokens}
        for one in encoded
    }
    document = _overlay(directory.model, _fingerprint(directory), rows)
    text = _HEAD + yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    with disk(target, "name another file"), target.open("x", encoding="utf-8") as file:
        file.write(text)


def _overlay(model: Model, fingerprint: str, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {"models": {model.name: {"fingerprint": fingerprint, "smoke": {"passages": rows}}}}


def _fingerprint(directory: ModelDirectory) -> str:
    return fingerprint_of_all(fingerprint_of(directory.checkpoint))

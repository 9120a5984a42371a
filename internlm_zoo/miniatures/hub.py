"""The hubs that serve miniatures on loopback, and the overlay that says what they have: an original in each
of three grids, another format as it is, each from a hub of another protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from internlm_zoo.miniatures.draw import has_original
from internlm_zoo.registry import Model, Registry, load_registry
from internlm_zoo.registry.document import read
from internlm_zoo.registry.overlay import merge
from internlm_zoo.serve.background import start
from internlm_zoo.settings import Settings

_ORGANISATION = "miniatures"


@dataclass(frozen=True)
class MiniatureHub:
    """One that has miniatures in one grid."""

    name: str
    protocol: str
    tp: int = 1
    pp: int = 1

    @property
    def grid(self) -> str:
        return f"{self.tp}x{self.pp}"

    def repository(self, model: str) -> str:
        return f"{_ORGANISATION}/{model}-{self.name}"


# The most divided last.
ORIGINAL = (
    MiniatureHub("miniature-1x1", "huggingface"),
    MiniatureHub("miniature-2x1", "modelscope", tp=2),
    MiniatureHub("miniature-2x2", "openxlab", tp=2, pp=2),
)
RELEASED = (MiniatureHub("miniature-hf", "modelers"),)


def hubs_of(model: Model, registry: Registry) -> tuple[MiniatureHub, ...]:
    """Those that have its miniature."""
    return ORIGINAL if has_original(model, registry) else RELEASED


@contextmanager
def serving(root: Path, settings: Settings) -> Iterator[Path]:
    """Serve `root/hubs` on a free port; gives an overlay, over the user's own, that has every model there."""
    served = root / "hubs"
    served.mkdir()
    with start(served) as server:
        file = root / "miniatures.yaml"
        file.write_text(_overlay(server.url, load_registry(settings)), encoding="utf-8")
        if settings.registry is not None:
            file.write_text(yaml.serialize(merge(read(settings.registry), read(file))), encoding="utf-8")
        yield file


def _overlay(url: str, registry: Registry) -> str:
    """JSON, which is YAML."""
    hubs = {hub.name: _hub(hub, url) for hub in (*ORIGINAL, *RELEASED)}
    models = {name: {"releases": _releases(model, registry)} for name, model in registry.models.items()}
    return json.dumps({"hubs": hubs, "models": models})


def _hub(hub: MiniatureHub, url: str) -> Mapping[str, Any]:
    return {"title": f"miniatures, {hub.grid}", "protocol": hub.protocol, "endpoint": url}


def _releases(model: Model, registry: Registry) -> list[Mapping[str, str]]:
    format = "original" if has_original(model, registry) else "hf"
    return [
        {"hub": hub.name, "repo": hub.repository(model.name), "format": format}
        for hub in hubs_of(model, registry)
    ]

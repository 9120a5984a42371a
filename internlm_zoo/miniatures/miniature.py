"""One miniature: where it lies, what was drawn, and what of it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from converters import fingerprint
from internlm_zoo.loading.directory import LoadRequest, ModelDirectory, open_directory
from internlm_zoo.loading.load import Loaded, execute, plan_directory
from internlm_zoo.miniatures.draw import draw_miniature, has_original
from internlm_zoo.miniatures.hub import MiniatureHub, hubs_of
from internlm_zoo.miniatures.independent import reference_of
from internlm_zoo.miniatures.second_rank import SecondRank
from internlm_zoo.registry import Model, Registry
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    import torch

    from internlm_zoo.miniatures.random_checkpoint import Blueprint

_TWO = ("cpu", "cpu")


@dataclass(frozen=True)
class Miniature:
    """settings: of an empty store, and the overlay of the hubs that serve. served: the folder that these
    serve. folder: for all else, empty. devices: to load onto, None for the best one, and for two on the
    CPU."""

    model: Model
    registry: Registry
    settings: Settings
    served: Path
    folder: Path
    second: SecondRank
    devices: Sequence[str] | None = None

    @property
    def original(self) -> bool:
        return has_original(self.model, self.registry)

    @property
    def hubs(self) -> tuple[MiniatureHub, ...]:
        return hubs_of(self.model, self.registry)

    def served_by(self, hub: MiniatureHub) -> Path:
        return self.served / hub.repository(self.model.name)

    def downloaded(self, hub: MiniatureHub) -> Path:
        return self.folder / hub.name

    @property
    def source(self) -> Path:
        """What is converted, the most divided of what was downloaded."""
        return self.downloaded(self.hubs[-1])

    @property
    def hf(self) -> Path:
        return self.folder / "hf" if self.original else self.source

    @property
    def llama(self) -> Path:
        return self.folder / "llama"

    @cached_property
    def blueprint(self) -> Blueprint:
        target = self.served_by(self.hubs[0])
        target.mkdir(parents=True)
        return draw_miniature(self.model, self.registry, target, tp=1, pp=1)

    @cached_property
    def digests(self) -> dict[str, str]:
        """Of each logical tensor as drawn."""
        return fingerprint(self.served_by(self.hubs[0]))

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """Tokens from all over the vocabulary, after bos."""
        vocab = self.blueprint.sizes["vocab"]
        return (1, *(vocab * part // 11 + 3 for part in range(11)))

    @cached_property
    def reference(self) -> torch.nn.Module:
        return reference_of(self.blueprint, self.served_by(self.hubs[0]))

    @cached_property
    def directory(self) -> ModelDirectory:
        return open_directory(LoadRequest(self.llama), settings=self.settings)

    @cached_property
    def loaded(self) -> Loaded:
        """In float32, on one device, with its tokenizer."""
        devices = self.devices and self.devices[:1]
        return execute(plan_directory(self.directory, devices=devices, dtype="float32"))

    @property
    def two(self) -> Sequence[str]:
        """Devices, the same one twice where one was named."""
        named = self.devices or _TWO
        return (named[0], named[-1])

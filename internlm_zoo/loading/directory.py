"""A directory with a model in it, and what the registry knows about that model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import converters
from converters import Checkpoint
from converters.auxiliary.files import own_template
from converters.formats.folder import LocalFolder
from converters.source.model_identity import ModelIdentity
from internlm_zoo.checkpoints.conversion import family_with_layout
from internlm_zoo.checkpoints.facts import known_facts, naming_models
from internlm_zoo.checkpoints.identity import recorded_model
from internlm_zoo.checkpoints.inspection import opened
from internlm_zoo.checkpoints.quantised import refuse_quantised
from internlm_zoo.loading.runtime import require_torch
from internlm_zoo.progress import Progress
from internlm_zoo.registry import Family, Model, Registry, load_registry
from internlm_zoo.registry.schema import SpecialToken, takes_turns
from internlm_zoo.settings import Settings

MaxMemory = str | int | Mapping[str, str | int] | None
"""Bytes, or sizes such as "20GB", for every device or by its name; "cuda:0=20GB,cpu=8GB" in one text."""


@dataclass(frozen=True)
class LoadRequest:
    """model: a registry name, or a directory in hf, llama or original format. devices: as torch names them
    (None: the first accelerator, else the CPU). dtype: None for that of most of its bytes. known_as: the
    registry model that a directory holds, for its chat template and tokens. given: facts that its config does
    not state. weights: which of several sets. context: tokens of one text that there has to be room for; None
    for as many as it was trained on, or fewer. max_memory: of each device at most. parallel: "layers" puts
    consecutive ones on each device, "tensor" shares every tensor among the ranks of a process group. pp:
    stages that these ranks are divided into, each of which has consecutive layers.
    mmap: whether its files may be mapped into memory."""

    model: str | Path
    devices: Sequence[str] | None = None
    parallel: str = "layers"
    pp: int = 1
    dtype: str | None = None
    known_as: str | None = None
    given: Mapping[str, Any] | None = None
    weights: str | None = None
    mmap: bool = True
    context: int | None = None
    max_memory: MaxMemory = None


@dataclass(frozen=True)
class ModelDirectory:
    """checkpoint: its headers, no weights. model: None for a directory that no registry name stands for; its
    family is then the first one with the checkpoint's layout, None for one in Llama's names of which nothing
    says it. identity: what says which model it is, None where the user does, or nothing. own_template: the
    file of its own chat template, if it has one. given, weights: as they were asked for."""

    path: Path
    checkpoint: Checkpoint
    family: Family | None
    model: Model | None
    registry: Registry
    identity: ModelIdentity | None = None
    own_template: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None

    @property
    def title(self) -> str:
        return self.model.name if self.model else self.path.name

    @property
    def takes_turns(self) -> bool:
        """Whether a prompt is a turn of a conversation, to be rendered through the chat template: by the kind
        of the model, or where nothing says it by whether the directory has a template of its own."""
        if self.kind is None:
            return self.own_template is not None and not self.scores
        return takes_turns(self.kind)

    @property
    def kind(self) -> str | None:
        if self.model:
            return self.model.kind
        return self.identity.kind if self.identity else None

    @property
    def scores(self) -> bool:
        """Whether it is a reward model, which gives a text one number instead of a next token."""
        return "reward.weight" in self.checkpoint.tensors

    @property
    def special_tokens(self) -> dict[str, SpecialToken]:
        if self.model:
            return self.registry.special_tokens_of(self.model)
        return dict(self.family.special_tokens) if self.family else {}

    @property
    def chat_template(self) -> str | None:
        if self.model:
            return self.registry.chat_template_of(self.model)
        return self.family.chat_template if self.family else None

    @property
    def stop_tokens(self) -> tuple[SpecialToken, ...]:
        """The tokens that end a text; for an unknown model every one the family ends an answer with, none for
        an unknown family."""
        if self.model:
            return self.registry.stop_tokens_of(self.model)
        return self.family.ends if self.family else ()


def open_directory(
    request: LoadRequest,
    *,
    settings: Settings,
    progress: Progress | None = None,
    fetch: bool = True,
) -> ModelDirectory:
    """The directory, with the headers read. fetch: whether a model that is not in the store is downloaded
    first, if there is torch to load it with; else its headers are read at a hub, and its path is what errors
    call it. Raises NotFoundError for what is neither it nor a model, and what reading the headers raises."""
    from internlm_zoo.downloads.on_demand import find_model

    registry, told = load_registry(settings), progress or Progress()
    named = registry.model(request.known_as) if request.known_as else None
    found = None
    if fetch:
        found = find_model(request.model, settings=settings, progress=progress, before=require_torch)
    here = found and nullcontext((LocalFolder(found.path), found.model, found.release))
    with here or opened(str(request.model), registry, settings, told.note) as (folder, model, release):
        refuse_quantised(release, registry)
        entry = named or model or recorded_model(folder, registry)
        known = known_facts(entry, registry)
        reading = partial(converters.open_checkpoint, folder, request.given, known, request.weights)
        with naming_models(registry, entry, reading):
            checkpoint = reading()
    for note in checkpoint.notes:
        told.note(note)
    family = _family(registry, entry, checkpoint)
    identity = None if named else (found and found.identity) or checkpoint.model
    template = own_template(checkpoint.folder) if found else None
    path = found.path if found else checkpoint.path
    asked = dict(request.given or {}), request.weights
    return ModelDirectory(path, checkpoint, family, entry, registry, identity, template, *asked)


def _family(registry: Registry, model: Model | None, checkpoint: Checkpoint) -> Family | None:
    if model:
        return registry.family_of(model)
    return family_with_layout(registry, checkpoint.family) if checkpoint.family else None

"""From a name or a directory to its tensors, for who has a model of his own to put them into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from converters import Checkpoint
from internlm_zoo.checkpoints.facts import naming_models
from internlm_zoo.loading.directory import LoadRequest, open_directory
from internlm_zoo.loading.runtime import require_torch
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    import torch

    from internlm_zoo.loading.dcp import CheckpointReader


def open_reader(
    request: LoadRequest, names: str, *, partial: bool, settings: Settings, progress: Progress | None
) -> CheckpointReader:
    """A reader of all of it. Raises what opening the directory and `tensors_of` raise."""
    with _opened(request, settings, progress) as checkpoint:
        from internlm_zoo.loading.dcp import CheckpointReader

        return CheckpointReader(checkpoint, names, partial=partial)


def open_tensors(
    request: LoadRequest, names: str, rank: int, tp: int, *, settings: Settings, progress: Progress | None
) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and tensor of all that a rank holds, in the request's dtype. Raises what opening the directory and
    `iterate` raise."""
    with _opened(request, settings, progress) as checkpoint:
        from internlm_zoo.loading.slices import iterate

        return iterate(checkpoint, names, rank, tp, request.dtype)


@contextmanager
def _opened(request: LoadRequest, settings: Settings, progress: Progress | None) -> Iterator[Checkpoint]:
    """Who misses a fact inside is told which models of the registry it may be."""
    found = open_directory(request, settings=settings, progress=progress)
    require_torch()
    with naming_models(found.registry, found.model, lambda: found.checkpoint):
        yield found.checkpoint

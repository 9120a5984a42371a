"""Weights for training frameworks, and for whatever else has a model of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from converters.redaction import errors_redacted
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    import torch

    from internlm_zoo.loading.dcp import CheckpointReader


@errors_redacted()
def checkpoint_reader(
    model_or_dir: str | os.PathLike[str],
    *,
    names: str = "llama",
    partial: bool = False,
    known_as: str | None = None,
    given: Mapping[str, Any] | None = None,
    weights: str | None = None,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> CheckpointReader:
    """A `storage_reader` for `torch.distributed.checkpoint.load`: it fills a model that is sharded over any
    mesh, by DTensor or FSDP2, from hf, llama or original files of any grid; every rank reads what it holds.

    names: those of the tensors in the model: `llama`, as stock transformers has them, or `hf`, as the class
    does that is published with InternLM. partial: whether the model may leave tensors of the checkpoint out.
    Elements become of the model's type.
    model_or_dir, known_as, given, weights, progress, settings: as of `load`.
    Raises UsageError for other names, and what reading the headers raises.
    """
    from internlm_zoo.loading.directory import LoadRequest
    from internlm_zoo.loading.training import open_reader

    request = LoadRequest(os.fspath(model_or_dir), known_as=known_as, given=given, weights=weights)
    settings = Settings.or_environment(settings)
    return open_reader(request, names, partial=partial, settings=settings, progress=progress)


@errors_redacted()
def iter_tensors(
    model_or_dir: str | os.PathLike[str],
    *,
    names: str = "llama",
    rank: int = 0,
    tp: int = 1,
    dtype: str | None = None,
    known_as: str | None = None,
    given: Mapping[str, Any] | None = None,
    weights: str | None = None,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and tensor of one after another, in the order of the modules, each read as it is asked for.

    names: `llama` or `hf`, as of `checkpoint_reader`. rank, tp: only what this one of tp tensor-parallel
    ranks holds: some heads, rows of the MLP and of the vocabulary; norms and a reward head whole. dtype:
    float32, bfloat16, ...; None: what each tensor is stored in.
    model_or_dir, known_as, given, weights, progress, settings: as of `load`.
    Raises UsageError and UnsupportedError at once, for names, ranks and what ranks cannot share; what reading
    raises, when it comes to that.
    """
    from internlm_zoo.loading.directory import LoadRequest
    from internlm_zoo.loading.training import open_tensors

    how: dict[str, Any] = {"known_as": known_as, "given": given, "weights": weights, "dtype": dtype}
    request = LoadRequest(os.fspath(model_or_dir), **how)
    settings = Settings.or_environment(settings)
    return open_tensors(request, names, rank, tp, settings=settings, progress=progress)

"""Smoke tests of models, and of their miniatures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.redaction import errors_redacted
from internlm_zoo.errors import UnsupportedError, UsageError
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    from internlm_zoo.smoke.result import SmokeResult


@errors_redacted()
def smoke_test(
    model_or_dir: str | os.PathLike[str],
    *,
    miniature: bool = False,
    strict: bool = False,
    devices: Sequence[str] | None = None,
    parallel: str = "layers",
    pp: int = 1,
    known_as: str | None = None,
    given: Mapping[str, Any] | None = None,
    weights: str | None = None,
    record: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> SmokeResult:
    """Load a model and judge what it generates: `ok`, and a sentence saying why.

    Against golden tokens and logits where the registry has them, by limits of any sound model elsewhere; and
    by what a few passages cost it, where a mistake of a conversion that explains a failure is named. What
    none of these can say is not `judged`, and no failure.

    miniature: a small random model of the layout of this one of the registry, as of `smoke_miniatures`.
    strict: a model that cannot be judged has failed.
    record: a new file, an overlay of the registry, for what the passages cost a model that passes.
    model_or_dir, devices, parallel, pp, known_as, given, weights, progress, settings: as of `load`.
    Raises what `load` raises; UsageError for a recording that is there or of a model without a name,
    IntegrityError for one of other weights than the registry's. A model that fails is a result.
    """
    from internlm_zoo.loading.directory import LoadRequest
    from internlm_zoo.smoke.run import smoke_test as run

    name, settings = os.fspath(model_or_dir), Settings.or_environment(settings)
    if miniature:
        if record is not None:
            raise UsageError("random weights are not recorded", "`record`")
        if parallel != "layers":
            raise UnsupportedError("a miniature is tried by one process", "`parallel`")
        return smoke_miniatures([name], devices=devices, progress=progress, settings=settings)[0]
    if record is not None and parallel != "layers":
        raise UnsupportedError("what is recorded is what one process computes", "`parallel`")
    how: dict[str, Any] = {"devices": devices, "parallel": parallel, "pp": pp, "known_as": known_as}
    request = LoadRequest(name, **how, given=given, weights=weights)
    file = None if record is None else Path(record)
    return run(request, settings=settings, strict=strict, progress=progress, record=file)


@errors_redacted()
def smoke_miniatures(
    models: Iterable[str] | None = None,
    *,
    jobs: int | None = None,
    devices: Sequence[str] | None = None,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> list[SmokeResult]:
    """Take miniatures of models the whole way, a check for each step: written as released (an original in
    three grids), served on this machine, downloaded, verified, converted, loaded on one device and two, by
    tensor and by stages over two ranks, held against an independent forward pass, made to generate, and
    converted back.

    models: of the registry; None for all of it. jobs: models at a time, in processes of their own; None for
    one per processor, at most 8. devices: as of `load`, where one process has the model. progress: is told
    what happens, by model. settings: instead of the environment's.
    All is written below the folder for temporary files and removed; the store is not touched. Raises
    NotFoundError for an unknown model, UnsupportedError without torch, NoSpaceError. A miniature that fails
    is a result.
    """
    from internlm_zoo.miniatures.workers import smoke_miniatures as run
    from internlm_zoo.registry import load_registry

    settings = Settings.or_environment(settings)
    names = list(load_registry(settings).models) if models is None else list(models)
    return run(names, settings=settings, jobs=jobs, devices=devices, progress=progress)

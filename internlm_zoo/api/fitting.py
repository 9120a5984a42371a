"""What a model needs, before it is here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from converters.redaction import errors_redacted
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    from internlm_zoo.fitting.fit import Fit


@errors_redacted()
def fit(
    model_or_dir: str | os.PathLike[str],
    *,
    context: int | None = None,
    batch: int = 1,
    dtype: str | None = None,
    cache_dtype: str | None = None,
    tp: int = 1,
    pp: int = 1,
    gpu_mem: str | int | None = None,
    host_mem: str | int | None = None,
    known_as: str | None = None,
    given: Mapping[str, Any] | None = None,
    weights: str | None = None,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> Fit:
    """What every rank would hold of a model while it generates, whether that fits, and on what it does.

    Nothing is loaded, and torch is not imported: a directory and a release in the store are read by their
    headers, of another model the registry's facts do, or else its headers, read at a hub.

    model_or_dir: a model of the registry, a directory, `hub:repo[@revision]` or a URL.
    context: tokens of each text, prompt and answer together; None for as many as it was trained on.
    batch: texts at once. dtype: of weights and activations; None for that of most of its bytes.
    cache_dtype: of keys and values; None for the same. tp, pp: ranks that share each stage, and stages.
    gpu_mem: of one GPU, bytes or a size such as "24GB"; None for a table of common cards.
    host_mem: of the machine, for the layers that one GPU has no room for; what has none there either stays on
    disk. None for none of it.
    known_as: the registry model that it holds. given: facts that its config does not state. weights: which
    of several sets. progress: is told what happens. settings: instead of the environment's.
    Raises UsageError for heads that tp ranks cannot share and where the context is not known,
    UnsupportedError for more stages than layers, and what reading headers raises; a model that does not fit
    is a result.
    """
    from internlm_zoo.fitting.fit import FitRequest
    from internlm_zoo.fitting.fit import fit as run

    request = FitRequest(
        os.fspath(model_or_dir),
        context,
        batch,
        dtype,
        cache_dtype,
        tp,
        pp,
        gpu_mem,
        host_mem,
        known_as,
        given,
        weights,
    )
    return run(request, settings=Settings.or_environment(settings), progress=progress)

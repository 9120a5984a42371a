"""Models that run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from converters.redaction import errors_redacted
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from internlm_zoo.smoke.result import SmokeResult


@errors_redacted()
def load(
    model_or_dir: str | os.PathLike[str],
    *,
    devices: Sequence[str] | None = None,
    parallel: str = "layers",
    dtype: str | None = None,
    known_as: str | None = None,
    given: Mapping[str, Any] | None = None,
    weights: str | None = None,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast | None]:
    """A model that runs, on stock transformers classes, and its tokenizer (None where there is none that
    they can have).

    model_or_dir: a model of the registry, or a directory in hf, llama or original format. devices: as torch
    names them; consecutive layers go to each. parallel: how it is split; only by layers. dtype: float32,
    bfloat16, ...; None: the checkpoint's. known_as: the registry model that a directory holds. given: facts
    that its config does not state. weights: which of several sets: `original`, `hf` or the name of a file.
    progress: is told what happens. settings: instead of the environment's.
    No code that came with a checkpoint is run.
    Raises UnsupportedError for what does not fit or cannot be expressed, IntegrityError, NotFoundError.
    """
    from internlm_zoo.loading.directory import LoadRequest
    from internlm_zoo.loading.load import load_model
    from internlm_zoo.loading.tokenizer import stock

    request = LoadRequest(os.fspath(model_or_dir), devices, parallel, dtype, known_as, given, weights)
    loaded = load_model(request, settings=Settings.or_environment(settings), progress=progress)
    return loaded.model, loaded.tokenizer and stock(loaded.tokenizer)


@errors_redacted()
def score(
    model_or_dir: str | os.PathLike[str],
    conversation: Sequence[dict[str, str]] | str,
    *,
    devices: Sequence[str] | None = None,
    dtype: str | None = None,
    known_as: str | None = None,
    given: Mapping[str, Any] | None = None,
    weights: str | None = None,
    settings: Settings | None = None,
) -> float:
    """What a reward model makes of a conversation.

    conversation: `role` and `content` of each turn, or a text, which is taken as it is.
    model_or_dir, devices, dtype, known_as, given, weights, settings: as of `load`.
    Raises what `load` raises; UnsupportedError for a model that writes text.
    """
    from internlm_zoo.loading.directory import LoadRequest
    from internlm_zoo.loading.load import load_model
    from internlm_zoo.loading.score import score as score_of

    request = LoadRequest(os.fspath(model_or_dir), devices, "layers", dtype, known_as, given, weights)
    return score_of(load_model(request, settings=Settings.or_environment(settings)), conversation)


@errors_redacted()
def smoke_test(
    model_or_dir: str | os.PathLike[str],
    *,
    devices: Sequence[str] | None = None,
    known_as: str | None = None,
    given: Mapping[str, Any] | None = None,
    weights: str | None = None,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> SmokeResult:
    """Load a model and judge what it generates: `ok`, and a sentence saying why.

    Against golden tokens and logits where the registry has them, by limits of any sound model elsewhere.

    model_or_dir, devices, known_as, given, weights, progress, settings: as of `load`.
    Raises what `load` raises; a model that fails is a result.
    """
    from internlm_zoo.loading.directory import LoadRequest
    from internlm_zoo.smoke.run import smoke_test as run

    request = LoadRequest(os.fspath(model_or_dir), devices, known_as=known_as, given=given, weights=weights)
    return run(request, settings=Settings.or_environment(settings), progress=progress)

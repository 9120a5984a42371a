"""The Python API of models that run; the rest of it is in `internlm_zoo/api.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.redaction import errors_redacted
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from internlm_zoo.smoke.result import SmokeResult


@errors_redacted()
def load(
    model_or_dir: str | Path,
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

    devices: as torch names them; consecutive layers go to each. dtype: float32, bfloat16, ...; None:
    the checkpoint's. given: facts that its config does not state. weights: which of several sets: `original`,
    `hf` or the name of a file. No code that came with a checkpoint is run.
    Raises UnsupportedError for what does not fit or cannot be expressed, IntegrityError, NotFoundError.
    """
    from internlm_zoo.loading.load import load_model
    from internlm_zoo.loading.tokenizer import stock

    loaded = load_model(
        model_or_dir,
        settings=settings or Settings.from_environment(),
        devices=devices,
        parallel=parallel,
        dtype=dtype,
        known_as=known_as,
        given=given,
        weights=weights,
        progress=progress,
    )
    return loaded.model, loaded.tokenizer and stock(loaded.tokenizer)


@errors_redacted()
def score(
    model_or_dir: str | Path,
    conversation: Sequence[dict[str, str]] | str,
    *,
    devices: Sequence[str] | None = None,
    dtype: str | None = None,
    known_as: str | None = None,
    given: Mapping[str, Any] | None = None,
    weights: str | None = None,
    settings: Settings | None = None,
) -> float:
    """What a reward model makes of a conversation (`role` and `content` of each turn), or of a text as it is.

    The other arguments are those of `load`, and so is what is raised; UnsupportedError for a model that
    writes text.
    """
    from internlm_zoo.loading.load import load_model
    from internlm_zoo.loading.score import score as score_of

    loaded = load_model(
        model_or_dir,
        settings=settings or Settings.from_environment(),
        devices=devices,
        dtype=dtype,
        known_as=known_as,
        given=given,
        weights=weights,
    )
    return score_of(loaded, conversation)


@errors_redacted()
def smoke_test(
    model_or_dir: str | Path,
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
    given: facts that its config does not state. weights: which of several sets.
    Raises what loading raises; a model that fails is a result.
    """
    from internlm_zoo.smoke.run import smoke_test as run

    return run(
        model_or_dir,
        settings=settings or Settings.from_environment(),
        devices=devices,
        known_as=known_as,
        given=given,
        weights=weights,
        progress=progress,
    )

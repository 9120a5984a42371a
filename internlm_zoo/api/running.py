"""Models that run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from converters.redaction import errors_redacted
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from internlm_zoo.loading.answer import Answer
    from internlm_zoo.loading.bench import LoadBench
    from internlm_zoo.loading.directory import MaxMemory
    from internlm_zoo.loading.load import LoadPlan


@errors_redacted()
def plan_load(
    model_or_dir: str | os.PathLike[str],
    *,
    devices: Sequence[str] | None = None,
    parallel: str = "layers",
    pp: int = 1,
    dtype: str | None = None,
    known_as: str | None = None,
    given: Mapping[str, Any] | None = None,
    weights: str | None = None,
    mmap: bool = True,
    context: int | None = None,
    max_memory: MaxMemory = None,
    download: bool = True,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> LoadPlan:
    """Which layers `load` would put on which device, how many bytes, in which dtype; from headers alone. Give
    the plan to `load`, `generate`, `chat` or `score`.

    download: False reads the headers of a model that is not here at a hub; that plan is one to look at.
    model_or_dir, devices, parallel, pp, dtype, known_as, given, weights, mmap, context, max_memory, progress,
    settings: as of `load`.
    Raises what `load` raises before it reads weights.
    """
    how: dict[str, Any] = {"devices": devices, "parallel": parallel, "pp": pp, "dtype": dtype}
    how |= {"known_as": known_as, "given": given, "weights": weights, "mmap": mmap}
    how |= {"context": context, "max_memory": max_memory}
    return _planned(model_or_dir, settings, progress, **how, download=download)


@errors_redacted()
def load(
    model_or_dir: str | os.PathLike[str] | LoadPlan,
    *,
    devices: Sequence[str] | None = None,
    parallel: str = "layers",
    pp: int = 1,
    dtype: str | None = None,
    known_as: str | None = None,
    given: Mapping[str, Any] | None = None,
    weights: str | None = None,
    mmap: bool = True,
    context: int | None = None,
    max_memory: MaxMemory = None,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast | None]:
    """A model that runs, on stock transformers classes, and its tokenizer (None where there is none that
    they can have).

    model_or_dir: a model of the registry, a directory in hf, llama or original format, or a plan, which takes
    the place of the arguments that it was made with. devices: as torch names them; consecutive layers go to
    each, and what fits on none stays on "disk", where that is the last of them. None: the first accelerator,
    all of them if that is too small, the CPU after them if they are, without any the CPU, and after it the
    disk. parallel: how it is split: by layers, or "tensor" for the ranks of a process group,
    each of which calls this, reads its share of every tensor and gets a model that computes with the others';
    devices are then one for each rank of this machine, or a kind for all. pp: stages of equally many of these
    ranks, each with consecutive layers. dtype: float32, bfloat16, ...; None: the checkpoint's. known_as: the
    registry model that a directory holds. given: facts that its config does not state. weights: which of
    several sets: `original`, `hf` or the name of a file. mmap: whether tensors that lie in a file as they are
    needed may stay there; False reads them all, for network disks and files that others write to. context:
    tokens of one text that there has to be room for; None for as many as the model was trained on, or as many
    as there is room for. max_memory: of each device at most, bytes or a size such as "20GB", or these by
    device. progress: is told what happens. settings: instead of the environment's.
    No code that came with a checkpoint is run.
    Raises UnsupportedError for what does not fit or cannot be expressed, IntegrityError, NotFoundError.
    """
    from internlm_zoo.loading.load import execute
    from internlm_zoo.loading.tokenizer import stock

    how: dict[str, Any] = {"devices": devices, "parallel": parallel, "pp": pp, "dtype": dtype}
    how |= {"known_as": known_as, "given": given, "weights": weights, "mmap": mmap}
    how |= {"context": context, "max_memory": max_memory}
    loaded = execute(_planned(model_or_dir, settings, progress, **how))
    return loaded.model, loaded.tokenizer and stock(loaded.tokenizer)


@errors_redacted()
def bench_load(
    model_or_dir: str | os.PathLike[str],
    *,
    runs: int = 3,
    devices: Sequence[str] | None = None,
    parallel: str = "layers",
    pp: int = 1,
    dtype: str | None = None,
    known_as: str | None = None,
    given: Mapping[str, Any] | None = None,
    weights: str | None = None,
    mmap: bool = True,
    context: int | None = None,
    max_memory: MaxMemory = None,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> LoadBench:
    """How long a model takes to its first logits, mapped and not, each run in a process of its own and in
    turn; beside transformers' from_pretrained where the files are in llama format and go to one device.

    runs: of each way, whose medians count. mmap: False leaves the mapped way out.
    model_or_dir, devices, parallel, pp, dtype, known_as, given, weights, context, max_memory, progress,
    settings: as of `load`.
    Raises what `load` raises; UnsupportedError for a run that fails.
    """
    from internlm_zoo.loading.bench import bench_load as run
    from internlm_zoo.loading.directory import LoadRequest

    how: dict[str, Any] = {"devices": devices, "parallel": parallel, "pp": pp, "dtype": dtype}
    how |= {"known_as": known_as, "given": given, "weights": weights, "mmap": mmap}
    how |= {"context": context, "max_memory": max_memory}
    request = LoadRequest(os.fspath(model_or_dir), **how)
    return run(request, runs, Settings.or_environment(settings), progress or Progress())


@errors_redacted()
def generate(
    model_or_dir: str | os.PathLike[str] | LoadPlan,
    prompt: str,
    *,
    max_new_tokens: int = 64,
    raw: bool = False,
    devices: Sequence[str] | None = None,
    parallel: str = "layers",
    pp: int = 1,
    dtype: str | None = None,
    known_as: str | None = None,
    given: Mapping[str, Any] | None = None,
    weights: str | None = None,
    mmap: bool = True,
    context: int | None = None,
    max_memory: MaxMemory = None,
    stream: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> Answer:
    """What a model says to a prompt, always the most likely token: its `text`, and how fast that came.

    prompt: of a chat model a user's turn, in its chat template. max_new_tokens: of the longest answer. raw:
    leave the template out. stream: gets each piece of the text as it is written, whole characters.
    model_or_dir, devices, parallel, pp, dtype, known_as, given, weights, mmap, context, max_memory,
    progress, settings: as of `load`; of several ranks each says the same, and is streamed the same.
    Raises what `load` raises; UnsupportedError for a reward model and for a prompt longer than the model
    serves, NotFoundError without a tokenizer.
    """
    from internlm_zoo.loading.answer import answer
    from internlm_zoo.loading.generate import prompt_note, require_writing
    from internlm_zoo.loading.load import execute

    how: dict[str, Any] = {"devices": devices, "parallel": parallel, "pp": pp, "dtype": dtype}
    how |= {"known_as": known_as, "given": given, "weights": weights, "mmap": mmap}
    how |= {"context": context, "max_memory": max_memory}
    plan = _planned(model_or_dir, settings, progress, **how)
    require_writing(plan.directory)
    warn = (progress or Progress()).note
    if (note := prompt_note(plan.directory)) and not raw:
        warn(note)
    text: dict[str, Any] = {"max_new_tokens": max_new_tokens, "raw": raw}
    return answer(execute(plan), prompt, **text, tell=stream or (lambda piece: None), warn=warn)


@errors_redacted()
def score(
    model_or_dir: str | os.PathLike[str] | LoadPlan,
    conversation: Sequence[dict[str, str]] | str,
    *,
    devices: Sequence[str] | None = None,
    parallel: str = "layers",
    pp: int = 1,
    dtype: str | None = None,
    known_as: str | None = None,
    given: Mapping[str, Any] | None = None,
    weights: str | None = None,
    mmap: bool = True,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> float:
    """What a reward model makes of a conversation: the higher, the better it finds the last answer.

    conversation: `role` and `content` of each turn, or a text, which is taken as it is.
    model_or_dir, devices, parallel, pp, dtype, known_as, given, weights, mmap, progress, settings: as of
    `load`.
    Raises what `load` raises; UnsupportedError for a model that writes text.
    """
    how: dict[str, Any] = {"devices": devices, "parallel": parallel, "pp": pp, "dtype": dtype}
    how |= {"known_as": known_as, "given": given, "weights": weights, "mmap": mmap}
    return scores(_planned(model_or_dir, settings, progress, **how), [conversation])[0]


@errors_redacted()
def scores(
    model_or_dir: str | os.PathLike[str] | LoadPlan,
    conversations: Iterable[Sequence[dict[str, str]] | str],
    *,
    devices: Sequence[str] | None = None,
    parallel: str = "layers",
    pp: int = 1,
    dtype: str | None = None,
    known_as: str | None = None,
    given: Mapping[str, Any] | None = None,
    weights: str | None = None,
    mmap: bool = True,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> list[float]:
    """`score` of several conversations by a model that is loaded once.

    conversations: each as of `score`.
    model_or_dir, devices, parallel, pp, dtype, known_as, given, weights, mmap, progress, settings: as of
    `load`.
    """
    from internlm_zoo.loading.load import execute
    from internlm_zoo.loading.score import require_scoring
    from internlm_zoo.loading.score import score as score_of

    how: dict[str, Any] = {"devices": devices, "parallel": parallel, "pp": pp, "dtype": dtype}
    how |= {"known_as": known_as, "given": given, "weights": weights, "mmap": mmap}
    plan = _planned(model_or_dir, settings, progress, **how)
    require_scoring(plan.directory)
    loaded = execute(plan)
    return [score_of(loaded, conversation) for conversation in conversations]


def _planned(
    model: str | os.PathLike[str] | LoadPlan, settings: Settings | None, progress: Progress | None, **how: Any
) -> LoadPlan:
    """how: the other fields of a LoadRequest, and whether a model is downloaded."""
    from internlm_zoo.loading.directory import LoadRequest
    from internlm_zoo.loading.load import LoadPlan
    from internlm_zoo.loading.load import plan_load as plan

    if isinstance(model, LoadPlan):
        return model
    download = how.pop("download", True)
    request = LoadRequest(os.fspath(model), **how)
    return plan(request, settings=Settings.or_environment(settings), progress=progress, fetch=download)

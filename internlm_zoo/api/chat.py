"""Models that are talked with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from converters.formats.access import is_directory
from converters.redaction import errors_redacted
from internlm_zoo.api.running import plan_load
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    from internlm_zoo.loading.chat import Chat
    from internlm_zoo.loading.directory import MaxMemory
    from internlm_zoo.loading.load import LoadPlan


@errors_redacted()
def chat(
    model_or_dir: str | os.PathLike[str] | LoadPlan,
    *,
    system: str | None = None,
    max_new_tokens: int = 512,
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
) -> Chat:
    """A conversation with a model: `ask(text)` gives its answer as `generate` does, always the most likely
    token, and remembers what was said; `messages` has it, `reset()` begins anew.

    system: what the model is told before all turns. max_new_tokens: of the longest answer.
    model_or_dir, devices, parallel, pp, dtype, known_as, given, weights, mmap, context, max_memory, progress,
    settings: as of `load`; of several ranks each asks the same.
    Raises what `load` raises; UnsupportedError for a model that takes no turns, and for a system's turn that
    its chat template leaves out, NotFoundError without a tokenizer.
    """
    from internlm_zoo.loading.chat import Chat, require_turns, require_turns_of, template_note
    from internlm_zoo.loading.load import LoadPlan, execute
    from internlm_zoo.registry import load_registry

    how: dict[str, Any] = {"devices": devices, "parallel": parallel, "pp": pp, "dtype": dtype}
    how |= {"known_as": known_as, "given": given, "weights": weights, "mmap": mmap}
    how |= {"context": context, "max_memory": max_memory, "progress": progress, "settings": settings}
    if isinstance(model_or_dir, LoadPlan):
        plan = model_or_dir
    else:
        if not is_directory(model_or_dir):
            registry = load_registry(Settings.or_environment(settings))
            require_turns_of(registry.model(os.fspath(model_or_dir)))
        plan = plan_load(model_or_dir, **how)
    require_turns(plan.directory)
    warn = (progress or Progress()).note
    if note := template_note(plan.directory):
        warn(note)
    return Chat(execute(plan), system=system, max_new_tokens=max_new_tokens, warn=warn)

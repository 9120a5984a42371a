"""What the registry lists, and what its hubs say of it now."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from converters.redaction import errors_redacted
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    from internlm_zoo.registry import Model, Registry
    from internlm_zoo.registry.schema import Kind
    from internlm_zoo.sources.lock_update import Resolved
    from internlm_zoo.sources.status import ReleaseComparison


@errors_redacted()
def list_models(
    *, family: str | None = None, kind: Kind | None = None, settings: Settings | None = None
) -> list[Model]:
    """The models of the registry, its overlays included, in its order.

    family, kind: of this one only. settings: instead of the environment's.
    """
    from internlm_zoo.registry import load_registry
    from internlm_zoo.registry.query import select

    return list(select(load_registry(Settings.or_environment(settings)), family=family, kind=kind))


@errors_redacted()
def get_model(name: str, *, settings: Settings | None = None) -> Model:
    """One model of the registry.

    name: as the registry writes it. settings: instead of the environment's.
    Raises NotFoundError that suggests the names nearest to a misspelt one.
    """
    from internlm_zoo.registry import load_registry

    return load_registry(Settings.or_environment(settings)).model(name)


@errors_redacted()
def lock(
    models: Iterable[str] = (),
    *,
    check: bool = False,
    file: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
) -> list[Resolved]:
    """Ask the hubs for revisions, sizes and digests of the models' releases, and record what they say.

    models: names; none means all. check: record nothing. file: a lock file in place of the user's own.
    settings: instead of the environment's.
    A release that could not be asked for has its `error`; what could be is recorded. Raises NotFoundError for
    a model that is none, UsageError for a lock file that cannot be read.
    """
    from internlm_zoo.fs.disk import disk
    from internlm_zoo.registry import load_registry
    from internlm_zoo.registry.lock import Lock, read, record_in, user_lock
    from internlm_zoo.sources.lock_update import resolve_all

    settings = Settings.or_environment(settings)
    registry, target = load_registry(settings), Path(file) if file else user_lock(settings)
    known = read(target) if file else Lock.load(settings)
    resolved = resolve_all(_chosen(models, registry), registry, known, settings)
    found = [item.now for item in resolved if item.now]
    if found and not check:
        with disk(target.absolute().parent, "name another lock file with `file`"):
            record_in(target, *found)
    return resolved


@errors_redacted()
def status(models: Iterable[str] = (), *, settings: Settings | None = None) -> list[ReleaseComparison]:
    """Hold the releases of a model on all hubs against one another: same, older, newer, different, gone.

    models: names; none means all. settings: instead of the environment's.
    A hub that cannot be asked is in the result, with its `error`.
    """
    from internlm_zoo.registry import load_registry
    from internlm_zoo.registry.lock import Lock
    from internlm_zoo.sources.status import status as ask

    settings = Settings.or_environment(settings)
    registry = load_registry(settings)
    return ask(_chosen(models, registry), registry, Lock.load(settings), settings)


def _chosen(models: Iterable[str], registry: Registry) -> list[Model]:
    return [registry.model(name) for name in models] or list(registry.models.values())

"""Conversion with what the registry knows: names instead of directories, chat tokens, facts a checkpoint
omits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import converters
from converters import Checkpoint, ConversionOptions, Execution, Plan, Report, TokenizerFacts
from converters.auxiliary.prepare import prepare_auxiliary
from converters.formats.access import is_directory, no_directory
from converters.formats.folder import Folder, LocalFolder
from internlm_zoo.checkpoints.facts import known_facts, naming_models
from internlm_zoo.checkpoints.identity import identity_of, recorded_model
from internlm_zoo.checkpoints.quantised import refuse_quantised
from internlm_zoo.checkpoints.tokens import tokenizer_facts
from internlm_zoo.errors import NotFoundError, UsageError
from internlm_zoo.progress import Progress
from internlm_zoo.registry import Family, Model, Registry, load_registry
from internlm_zoo.settings import Settings
from internlm_zoo.store.record import verified_digests

if TYPE_CHECKING:
    from internlm_zoo.downloads.on_demand import LocatedFolder
    from internlm_zoo.remote.folder import RemoteFolder


@dataclass(frozen=True)
class ConversionSource:
    """src: a directory, or a model of the registry, downloaded if it is not in the store. known_as: the
    registry model that a directory holds. from_hub: src is a registry name or `hub:repo[@revision]`, whose
    weights are read where they are and not stored."""

    src: str | Path
    known_as: str | None = None
    from_hub: bool = False


@dataclass(frozen=True)
class _Opened:
    """known: facts that stand in where the checkpoint is silent. model: which one it is, by whoever says it.
    named: the same where it is more than the folder's own record of a conversion that says it."""

    folder: Folder
    known: Mapping[str, Any]
    model: Model | None
    named: Model | None
    registry: Registry


def convert(
    source: ConversionSource,
    dst: Path,
    options: ConversionOptions,
    execution: Execution,
    *,
    settings: Settings,
    progress: Progress | None = None,
) -> Report:
    """`converters.carry_out` with what the registry knows. Raises what downloading and converting raise."""
    with _opened(source, options, settings, progress) as opened:
        return converters.carry_out(
            opened.folder,
            dst,
            options,
            execution,
            known=opened.known,
            tokenizer_facts=partial(_tokenizer_facts, opened),
            identity=identity_of(opened.named),
            progress=progress,
        )


def plan(
    source: ConversionSource,
    options: ConversionOptions,
    *,
    settings: Settings,
    progress: Progress | None = None,
) -> Plan:
    """What `convert` would write. Raises what it raises before it writes."""
    with _opened(source, options, settings, progress) as opened:
        checkpoint = converters.open_checkpoint(opened.folder, options.given, opened.known, options.weights)
        beside = prepare_auxiliary(checkpoint, options, _tokenizer_facts(opened, checkpoint))
        return converters.plan_conversion(beside.source, options, beside.held)


@contextmanager
def _opened(
    source: ConversionSource, options: ConversionOptions, settings: Settings, progress: Progress | None
) -> Iterator[_Opened]:
    registry = load_registry(settings)
    given = registry.model(source.known_as) if source.known_as else None
    with ExitStack() as stack:
        found: LocatedFolder | RemoteFolder
        if source.from_hub:
            folder: Folder = (
                found := stack.enter_context(
                    _remote(str(source.src), options.to, registry, settings, progress)
                )
            )
        else:
            found = _found(source.src, options.to, registry, settings, progress)
            folder = LocalFolder(found.path, partial(verified_digests, found.path))
        refuse_quantised(found.release, registry)
        named = given or found.model
        model = named or recorded_model(folder, registry)
        known = known_facts(model, registry)
        reopened = partial(converters.open_checkpoint, folder, options.given, known, options.weights)
        stack.enter_context(naming_models(registry, model, reopened))
        yield _Opened(folder, known, model, named, registry)


def _remote(
    name: str, to: str, registry: Registry, settings: Settings, progress: Progress | None
) -> RemoteFolder:
    from internlm_zoo.remote.folder import open_remote

    if is_directory(name) and name not in registry.models:
        raise UsageError(f"{name} is a directory", "`from_hub`", "leave it out, or name hub:owner/repository")
    tell = (progress or Progress()).note
    return open_remote(name, settings, format=_source_format(name, to, registry), tell=tell)


def _found(
    src: str | Path, to: str, registry: Registry, settings: Settings, progress: Progress | None
) -> LocatedFolder:
    from internlm_zoo.downloads.on_demand import find_model

    if not is_directory(src) and str(src) not in registry.models and len(Path(src).parts) > 1:
        if ":" not in str(src):
            raise no_directory(src)
        raise NotFoundError(
            "there is no such directory", str(src), "`from_hub=True` reads hub:owner/repository"
        )
    return find_model(
        src, settings=settings, format=_source_format(str(src), to, registry), progress=progress
    )


def _source_format(name: str, to: str, registry: Registry) -> str | None:
    """Of the formats a model is published in, the one that `to` has to be made from."""
    other = "hf" if to == "original" else "original"
    published = (
        {release.format for release in registry.models[name].releases} if name in registry.models else ()
    )
    return other if other in published else None


def _tokenizer_facts(source: _Opened, checkpoint: Checkpoint) -> TokenizerFacts:
    registry, model = source.registry, source.model
    if model is None:
        if checkpoint.family is None:
            return TokenizerFacts()
        family = family_with_layout(registry, checkpoint.family)
        return tokenizer_facts(family.chat_template, family.special_tokens, family.ends)
    tokens, stops = registry.special_tokens_of(model), registry.stop_tokens_of(model)
    return tokenizer_facts(registry.chat_template_of(model), tokens, stops)


def family_with_layout(registry: Registry, layout: str) -> Family:
    """The first family of the registry whose checkpoints follow a layout. Raises NotFoundError."""
    for family in registry.families.values():
        if family.layout == layout:
            return family
    raise NotFoundError(f"no family of the registry has the layout {layout}")

"""Reads registry.yaml, and an overlay on top of it, into a Registry, or says in which line what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from yaml.nodes import MappingNode, Node

from converters.errors import LINES
from converters.redaction import keep_secret_of
from internlm_zoo.registry import document, overlay, overlay_rules
from internlm_zoo.registry.consistency import contradictions
from internlm_zoo.registry.document import Finding, Problem, RegistryError
from internlm_zoo.registry.explain import dangling, explain
from internlm_zoo.registry.query import Registry
from internlm_zoo.registry.schema import Hub, RegistryFile
from internlm_zoo.settings import Settings


def load_registry(settings: Settings) -> Registry:
    """The shipped registry with the user's overlay on top. Raises RegistryError: file, line, field."""
    return read_registry(settings.registry)


def read_registry(extra: Path | None = None) -> Registry:
    """The shipped registry with the overlay `extra` on top, if any; read again only if a file changed."""
    base = shipped("registry.yaml")
    return _read(base, extra, _state(base), extra and _state(extra))


@lru_cache(maxsize=8)
def _read(
    base: Path, extra: Path | None, state: tuple[int, ...] | None, _: tuple[int, ...] | None
) -> Registry:
    tree = _tree(base, state)
    if extra is not None and not (extra.exists() and base.exists() and extra.samefile(base)):
        return _validated(overlay.merge(tree, document.read(extra)), base, read_registry().hubs)
    return _validated(tree, base)


@lru_cache(maxsize=1)
def _tree(base: Path, _: tuple[int, ...] | None) -> MappingNode:
    """What every overlay is merged onto."""
    return document.read(base)


def shipped(name: str) -> Path:
    """A data file of the package: inside it in a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / name
    return inside if inside.exists() else package.parent / name


def _validated(tree: Node, base: Path, shipped_hubs: Mapping[str, Hub] | None = None) -> Registry:
    """shipped_hubs: where an overlay is on top."""
    plain: Any = document.data(tree)
    try:
        file = RegistryFile.model_validate(plain)
    except ValidationError as error:
        raise _invalid([*explain(error, tree), *_elsewhere(error, plain, tree, base)]) from error
    registry = _registry(file, tree, base)
    problems = _inconsistent(file, registry, tree)
    if shipped_hubs is not None:
        problems += _placed(overlay_rules.overreach(file.hubs, shipped_hubs), tree)
        registry = replace(registry, hubs=overlay_rules.marked(file.hubs, shipped_hubs, tree))
    if problems:
        raise _invalid(problems)
    return registry


def _registry(file: RegistryFile, tree: Node, base: Path) -> Registry:
    for hub in file.hubs.values():
        keep_secret_of(hub.endpoint or "")
    return Registry(**dict(file), origins=document.places_outside(tree, str(base)))


def _inconsistent(file: RegistryFile, registry: Registry, tree: Node) -> list[Problem]:
    """What is well formed and cannot be."""
    return _placed(chain(dangling(file), contradictions(registry)), tree)


def _placed(findings: Iterable[Finding], tree: Node) -> list[Problem]:
    """As many as are told; each is looked for in the tree."""
    return [Problem(document.place(tree, path), message) for path, message in islice(findings, LINES)]


def _elsewhere(error: ValidationError, plain: Any, tree: Node, base: Path) -> list[Problem]:
    """What is inconsistent in models that are well formed, so that one reading names every mistake."""
    broken = {tuple(found["loc"][:2]) for found in error.errors()}
    if any(loc[:1] != ("models",) or len(loc) < 2 for loc in broken):
        return []
    models = {name: entry for name, entry in plain["models"].items() if ("models", name) not in broken}
    file = RegistryFile.model_validate({**plain, "models": models})
    return _inconsistent(file, _registry(file, tree, base), tree)


def _invalid(problems: list[Problem]) -> RegistryError:
    ordered = sorted(problems, key=lambda problem: (problem.place.file, problem.place.line))
    fix = f"`internlm-zoo registry validate {ordered[0].place.file}` lists all of them"
    return RegistryError(ordered, fix=fix if len(ordered) > 1 else None)


def _state(path: Path) -> tuple[int, ...] | None:
    """What changes when the file does; None if it cannot be seen."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino

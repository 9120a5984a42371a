"""The pages of the Python reference: a package's public names, then the values that these return and hold.

What returns what is read from the code, so that nothing heavy is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path

import griffe

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("internlm_zoo", "converters")


def pages() -> dict[str, str]:
    """Markdown by page; mkdocstrings writes out what follows `:::`. Everything stands on one page alone, that
    of the package whose public name it is, or else that defines it."""
    loader = griffe.GriffeLoader(search_paths=[ROOT])
    for package in PACKAGES:
        loader.load(package)
    loader.resolve_aliases(implicit=True, external=False)
    modules = loader.modules_collection
    public: dict[str, str] = {}
    for package in PACKAGES:  # what both make public stands with the last
        public |= {modules[package][name].canonical_path: package for name in import_module(package).__all__}
    values = set(_returned(list(public), modules)) - set(public)
    return {f"reference/{one}.md": _page(modules[one], public, values) for one in PACKAGES}


def _page(package: griffe.Module, public: Mapping[str, str], values: Iterable[str]) -> str:
    told = package.docstring.value if package.docstring else ""
    ours = [path for path, home in public.items() if home == package.path]
    returned = [path for path in values if path.startswith(f"{package.path}.")]
    return "\n\n".join([f"# {package.name}", told, *_shown(ours), "## What they return", *_shown(returned)])


def _shown(paths: Iterable[str]) -> list[str]:
    by_name = sorted(paths, key=lambda path: path.rpartition(".")[2].lower())
    return [f"::: {path}" for path in by_name]


def _returned(paths: list[str], modules: griffe.ModulesCollection) -> Iterator[str]:
    """The classes of these packages that the values of those paths lead to."""
    waiting, seen = list(paths), set(paths)
    while waiting:
        for path in _led_to(modules[waiting.pop()]):
            if path not in seen and path.startswith(PACKAGES) and _is_class(path, modules):
                seen.add(path)
                waiting.append(path)
                yield path


def _led_to(shown: griffe.Object) -> Iterator[str]:
    if shown.is_function:
        yield from _names(shown.returns)
    for name, member in shown.members.items() if shown.is_class else ():
        if not name.startswith("_"):
            yield from _names(getattr(member, "annotation", None))


def _names(annotation: str | griffe.Expr | None) -> Iterator[str]:
    if isinstance(annotation, griffe.Expr):
        yield from (
            part.canonical_path for part in annotation.iterate(flat=True) if isinstance(part, griffe.ExprName)
        )


def _is_class(path: str, modules: griffe.ModulesCollection) -> bool:
    try:
        return bool(modules[path].is_class)
    except (KeyError, griffe.AliasResolutionError):
        return False

"""The shape of the code: one name for one thing, small functions and modules, few parameters."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("internlm_zoo", "converters")
Function = ast.FunctionDef | ast.AsyncFunctionDef
TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def functions() -> Iterator[tuple[str, Function]]:
    for path, tree in TREES.items():
        yield from ((path, node) for node in ast.walk(tree) if isinstance(node, Function))


def length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def parameters(function: Function) -> int:
    named = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return len([arg for arg in named if arg.arg not in ("self", "cls")])


def is_public(path: str) -> bool:
    """Whether its functions are what users call: of the Python API, or a command of the command line."""
    return path.startswith(("internlm_zoo/api/", "internlm_zoo/cli/"))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_class_name_stands_twice(package: str) -> None:
    trees = [tree for path, tree in TREES.items() if path.startswith(f"{package}/")]
    names = Counter(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert [name for name, count in names.items() if count > 1] == []


def test_functions_are_small() -> None:
    assert median(length(function) for _, function in functions()) <= 8
    assert [
        f"{path}: {one.name}" for path, one in functions() if length(one) > 60 and not is_public(path)
    ] == []


def test_modules_are_small() -> None:
    lines = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in TREES}
    assert [path for path, count in lines.items() if count > 350] == []


def test_few_functions_have_many_parameters() -> None:
    many = [f"{path}: {one.name}" for path, one in functions() if parameters(one) > 6 and not is_public(path)]
    assert len(many) < 10, many

"""docs/glossary.md has every noun of the Python API and of the command line."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from typer.main import get_command

import converters
import internlm_zoo
from internlm_zoo import cli
from internlm_zoo.cli.shell import app

GLOSSARY = Path(__file__).parents[2] / "docs" / "glossary.md"
# Verbs, adjectives and particles of those names, and words that nobody looks up.
NO_NOUNS = """
accept all apply cached cancel carry check compare convert debug deep diff download dry exclude export
first fix force from generate get given held include inspect install iter json kept known list llama load
local lossy max multiple nbytes new no normalised one open or order other out p pad pull q quick quiet
raw read repair reverse rm run set show sort special status stop test to unchanged v validate verbose
verify vocab zoo completion mlp dir hf
"""


def words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def of_python() -> Iterator[str]:
    for package in (internlm_zoo, converters):
        for name in package.__all__:
            yield name
            value = getattr(package, name)
            if is_dataclass(value):
                yield from (field.name for field in fields(value))
            elif inspect.isfunction(value):
                yield from inspect.signature(value).parameters


def of_commands(command: Any) -> Iterator[str]:
    """command: one of click's, or of the copy of click that typer has or not, by its version."""
    yield from (option.lstrip("-") for one in command.params for option in one.opts)
    for name, below in getattr(command, "commands", {}).items():
        yield name
        yield from of_commands(below)


def test_every_noun_of_the_api_and_the_command_line_is_in_the_glossary() -> None:
    for module in pkgutil.iter_modules(cli.__path__):
        importlib.import_module(f"internlm_zoo.cli.{module.name}")
    terms = re.findall(r"^\| ([^|]+) \||[*`]([^*`]+)[*`]", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
    said = {word for term in terms for word in words(" ".join(term))}
    said |= {f"{word}s" for word in said} | {word.removesuffix("s") for word in said}
    names = {word for name in (*of_python(), *of_commands(get_command(app))) for word in words(name)}
    assert sorted(names - said - set(NO_NOUNS.split())) == []

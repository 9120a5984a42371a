"""What the pages for users and contributors say of the code holds for the code."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

ROOT = Path(__file__).parents[2]


def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def verbs(command: Any, above: tuple[str, ...] = ()) -> Iterator[str]:
    """The names of the commands that do something, as `cache list`; aliases are hidden."""
    for name, below in command.commands.items():
        if hasattr(below, "commands"):
            yield from verbs(below, (*above, name))
        elif not below.hidden:
            yield " ".join((*above, name))


def test_the_table_of_commands_has_each_of_them_once():
    import internlm_zoo.cli
    from internlm_zoo.cli.shell import app

    for module in internlm_zoo.cli._MODULES:
        importlib.import_module(f"internlm_zoo.cli.{module}")
    table = text_of("docs/cli.md").partition("## Every command\n")[2].partition("\n## ")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")][1:]
    named = re.findall(r"`([^`]+)`", " ".join(first_cells))
    assert sorted(named) == sorted(verbs(get_command(app)))

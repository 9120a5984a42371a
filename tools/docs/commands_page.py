"""The reference of the command line, made of the commands themselves: what `--help` says, on one page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from internlm_zoo.cli import load_commands
from internlm_zoo.cli.shell import app

_PROGRAM = "internlm-zoo"
_COMMON = "Common options"
_TOP = """# Commands

What `--help` says of each. [Command line](../cli.md) says what they have in common: output, exit codes,
environment."""


def page() -> str:
    load_commands()
    commands = list(_commands(get_command(app), _PROGRAM))
    *_, (_, last) = commands
    common = [_row(option, last) for option in _options(last) if option.rich_help_panel == _COMMON]
    parts = [_TOP, f"## {_COMMON}", _table("option", common)]
    return "\n\n".join([*parts, *(_section(name, context) for name, context in commands)])


def _commands(group: Any, above: str) -> Iterator[tuple[str, Any]]:
    """Each command by its full name, with the context that its help is written in; aliases are hidden."""
    for name, command in group.commands.items():
        full = f"{above} {name}"
        if hasattr(command, "commands"):
            yield from _commands(command, full)
        elif not command.hidden:
            yield full, command.make_context(full, [], resilient_parsing=True)


def _options(context: Any) -> list[Any]:
    return [option for option in context.command.get_params(context) if option.name != "help"]


def _section(name: str, context: Any) -> str:
    example, _, text = context.command.help.partition("\n\n")
    usage = " ".join([name, *context.command.collect_usage_pieces(context)])
    own = [option for option in _options(context) if option.rich_help_panel != _COMMON]
    arguments = [_row(one, context) for one in own if one.param_type_name == "argument"]
    options = [_row(one, context) for one in own if one.param_type_name == "option"]
    asks_hubs = any("--token-file" in option.opts for option in _options(context))
    parts = [
        f"## {name.removeprefix(_PROGRAM).strip()}",
        _prose(text),
        f"```console\n$ {example.removeprefix('Example: ')}\n```\n\n```text\n{usage}\n```",
        _table("argument", arguments),
        _table("option", options),
        "It asks hubs, and takes `--token-file [HUB=]FILE`." if asks_hubs else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _row(option: Any, context: Any) -> tuple[str, str]:
    shown, meaning = option.get_help_record(context)
    return shown, meaning


def _table(kind: str, rows: list[tuple[str, str]]) -> str:
    lines = [f"| `{shown}` | {_prose(meaning)} |" for shown, meaning in rows]
    return "\n".join([f"| {kind} | meaning |", "|---|---|", *lines]) if rows else ""


def _prose(text: str) -> str:
    """A help text as Markdown: what is between backticks is code already."""
    parts = text.split("`")
    parts[::2] = [part.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*") for part in parts[::2]]
    return "`".join(parts)

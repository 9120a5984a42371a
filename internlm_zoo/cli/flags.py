"""What messages call by the names of Python's parameters, in the words of the command line.

Below this room a message names what a caller gives between backticks, as Python writes it: `to`,
`accept_lossy=True`, `given={'rope_theta': VALUE}`, or a call, `inspect(fix_index=True)`. Here it becomes what
typer declares of the command that runs, or of another if that has no such option.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import MappingProxyType
from typing import Any

# What others wrote may stand between backticks, too: what is longer is no call of ours, and is not parsed.
_QUOTED = re.compile(r"`([^`\n]{1,300})`")
_running: ContextVar[Mapping[str, Any]] = ContextVar("_running", default=MappingProxyType({}))


@contextmanager
def options_of(parameters: Sequence[Any]) -> Iterator[None]:
    """Meanwhile a command with these options runs."""
    before = _running.set(_by_name(parameters))
    try:
        yield
    finally:
        _running.reset(before)


def as_flags(text: str) -> str:
    """The same with flags in the place of parameters; what is between backticks otherwise stays as it is."""
    return _QUOTED.sub(_translated, text) if "`" in text else text


def _translated(quoted: re.Match[str]) -> str:
    try:
        return _flags(quoted[1]) or quoted[0]
    except (SyntaxError, ValueError, LookupError):  # no Python, or no parameter of this command: prose
        return quoted[0]


def _flags(code: str) -> str:
    """Raises SyntaxError, ValueError or LookupError for what is no parameter, or has no such flag."""
    if code.isidentifier():
        return _flag(_option(code))
    verb, call = _call(code)
    if verb is None:
        return " ".join(_option_text(_option, one) for one in call.keywords)
    command = commands()[verb]
    named = _by_name(command.params)
    words = [*map(_shell_word, call.args), *(_option_text(named.__getitem__, one) for one in call.keywords)]
    return f"`{' '.join(['internlm-zoo', verb, *words])}`"


def _call(code: str) -> tuple[str | None, ast.Call]:
    """`verb(...)`; None for keywords without one."""
    bare = re.match(r"\w+ *=", code) is not None
    with warnings.catch_warnings():  # of escapes in what is no code of ours
        warnings.simplefilter("ignore")
        call = ast.parse(f"_({code})" if bare else code, mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise ValueError(code)
    return None if bare else call.func.id, call


def _option(name: str) -> Any:
    for options in (_running.get(), *(_by_name(command.params) for command in commands().values())):
        if name in options:
            return options[name]
    raise KeyError(name)


@cache
def commands() -> Mapping[str, Any]:
    """By name, those of groups too."""
    from typer.main import get_command

    from internlm_zoo.cli import load_commands
    from internlm_zoo.cli.shell import app

    load_commands()
    found: dict[str, Any] = {}
    waiting: list[Any] = [get_command(app)]
    while waiting:
        for name, command in waiting.pop().commands.items():
            if hasattr(command, "commands"):
                waiting.append(command)
            else:
                found.setdefault(name, command)
    return found


def _flag(option: Any) -> str:
    return str(max(option.opts, key=len))


def _by_name(parameters: Sequence[Any]) -> Mapping[str, Any]:
    return {one.name: one for one in parameters if one.param_type_name == "option"}


def _option_text(find: Callable[[str], Any], keyword: ast.keyword) -> str:
    option, value = find(str(keyword.arg)), keyword.value
    flag = _flag(option)
    if isinstance(value, ast.Constant) and isinstance(value.value, bool):
        return flag if value.value else str(option.secondary_opts[0])
    if isinstance(value, ast.Dict):
        pairs = zip(value.keys, value.values, strict=True)
        return " ".join(_fact(flag, _shell_word(key), one) for key, one in pairs if key is not None)
    many = value.elts if isinstance(value, (ast.List, ast.Tuple)) else [value]
    return " ".join(f"{flag} {_shell_word(one)}" for one in many)


def _fact(flag: str, name: str, value: ast.expr) -> str:
    """By an option of its own, where the command has one for this fact."""
    if name in _running.get():
        return f"{_flag(_running.get()[name])} {_shell_word(value)}"
    if not isinstance(value, ast.Constant):
        return f"{flag} {name}={ast.unparse(value)}"
    text = value.value if isinstance(value.value, str) else json.dumps(value.value)
    return f"{flag} {name}={shlex.quote(text)}"


def _shell_word(value: ast.expr) -> str:
    """As a shell takes it; a name in capitals stands for what the user knows."""
    return shlex.quote(str(value.value)) if isinstance(value, ast.Constant) else ast.unparse(value)

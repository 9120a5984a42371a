"""What every command shares: the common options, one way to answer, one way to fail.

A command is a function that takes a `Shell` first and returns a `CommandResult`; `verb` gives it `--json`,
`--quiet`, `--offline`, `--registry`, turns errors into a sentence (or a JSON document) and an exit code, and
a signal into its own.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from internlm_zoo.cli.answers import CommandResult, print_error, print_note, print_parse_error, print_result
from internlm_zoo.cli.flags import options_of
from internlm_zoo.cli.option_groups import Options, collected, expanded
from internlm_zoo.cli.signals import code_of, message_of
from internlm_zoo.cli.streams import ReaderGone, guarded_streams, unescaped
from internlm_zoo.errors import AccessError, InternalError, UsageError, ZooError
from internlm_zoo.fs.homes import require_here
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    from internlm_zoo.progress import Progress

T = TypeVar("T")
CLOSED_PIPE = 141  # 128 and SIGPIPE, as of any program in front of `head`
# Seconds: torchrun ends all ranks once one has failed, and the one that says why may be slower.
_OTHERS_SPEAK = 3
_NULLS = ("embedded null byte", "embedded null character")
# click's UsageError, wherever this typer keeps its click.
_ParseError: Any = typer.BadParameter.__bases__[0]


class _OurHelp:
    """Its help is ours, and may have colours."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        with unescaped():
            super().format_help(ctx, formatter)  # type: ignore[misc]


class _Command(_OurHelp, TyperCommand):
    def invoke(self, ctx: Any) -> Any:
        with options_of(self.params):
            return super().invoke(ctx)


class _Group(_OurHelp, TyperGroup):
    pass


def _common(*flags: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(*flags, help=help, metavar=metavar, rich_help_panel="Common options")


@dataclass(frozen=True)
class CommonOptions(Options):
    """Of every command."""

    as_json: Annotated[bool, _common("--json", help="Print one JSON document on stdout.")] = False
    quiet: Annotated[bool, _common("--quiet", "-q", help="No notes, no progress.")] = False
    offline: Annotated[bool, _common("--offline", help="Open no connection.")] = False
    debug: Annotated[bool, _common("--debug", help="Print the traceback of what went wrong.")] = False
    registry: Annotated[Path | None, _common("--registry", help="Overlay file with models and hubs.")] = None

    def settings(self, source: str) -> Settings:
        """source: the hub that `--source` names."""
        return Settings.from_environment().with_options(offline=self.offline, registry=self.registry)


@dataclass(frozen=True)
class HubOptions(CommonOptions):
    """And of those that ask hubs."""

    token_files: Annotated[
        list[str] | None,
        _common(
            "--token-file",
            metavar="[HUB=]FILE",
            help="Holds the token for --source, or with HUB=FILE for that hub.",
        ),
    ] = None

    def settings(self, source: str) -> Settings:
        settings = super().settings(source)
        if not self.token_files:
            return settings
        from internlm_zoo.sources.credentials import with_token_files

        return with_token_files(settings, self.token_files, source)


app = typer.Typer(
    cls=_Group,
    help="Get InternLM models from any hub, know they are intact, convert, load and try them.",
    epilog="Example: internlm-zoo download internlm-chat-7b --source auto",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(lambda: None)  # for typer to ask for a command's name also where only one is imported
_groups: dict[str, typer.Typer] = {}


@dataclass(frozen=True)
class Shell:
    """How this command was asked to talk, and the settings it runs under. answers, errors: whether it prints
    them: of several processes that share a model the first answers, on each machine one says what failed."""

    settings: Settings
    json: bool = False
    quiet: bool = False
    debug: bool = False
    answers: bool = True
    errors: bool = True

    def note(self, *texts: str) -> None:
        """Tell a person something on stderr, unless they asked for quiet."""
        for text in () if self.quiet else texts:
            print_note(text)

    def answer(self, answer: CommandResult) -> None:
        """Answer now: a command that goes on afterwards does, and returns nothing more."""
        if self.answers:
            print_result(answer, as_json=self.json)
            sys.stdout.flush()

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Bars where stderr is a terminal, quiet lines elsewhere, nothing with -q."""
        from internlm_zoo.cli.console import stderr
        from internlm_zoo.cli.progress import open_progress

        with open_progress(stderr(), quiet=self.quiet) as progress:
            yield progress

    def call(self, function: Callable[..., T], *args: Any, **keywords: Any) -> T:
        """What a function of the Python API returns, under these settings and with progress shown."""
        with self.progress() as progress:
            return function(*args, **keywords, settings=self.settings, progress=progress)


def group(name: str, help: str) -> None:
    """Declare a family of verbs, like `cache list` and `cache path`."""
    if name not in _groups:
        _groups[name] = typer.Typer(cls=_Group, help=help, no_args_is_help=True)
        app.add_typer(_groups[name], name=name)


def verb(
    name: str, *, example: str, group: str | None = None, alias: str | None = None, asks_hubs: bool = False
) -> Callable[[Callable[..., CommandResult | None]], Callable[..., None]]:
    """Register a command. example: the line its help starts with. alias: a second, hidden name. asks_hubs:
    whether it takes credentials, with `--token-file`."""

    def register(function: Callable[..., CommandResult | None]) -> Callable[..., None]:
        home = app if group is None else _groups[group]
        command = _command(function, HubOptions if asks_hubs else CommonOptions)
        text = inspect.getdoc(function) or ""
        help_text, summary = f"Example: {example}\n\n{text}", text.partition("\n\n")[0]
        home.command(name, cls=_Command, help=help_text, short_help=summary)(command)
        if alias:
            home.command(alias, cls=_Command, help=help_text, hidden=True)(command)
        return command

    return register


def run(args: list[str]) -> int:
    """Run the command line and return its exit code. `--local_dir` is accepted for `--local-dir`."""
    args = [_with_dashes(arg) for arg in args]
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it warns of odd headers, with a traceback
    with guarded_streams():
        try:
            code = _run(args)
            sys.stdout.flush()
        except ZooError as error:  # stdout takes no more, of a help text say
            _fail(error, _shell_of_flags(args))
            return error.exit_code
        except ReaderGone:
            return CLOSED_PIPE
    return code


def _run(args: list[str]) -> int:
    try:
        return int(app(args, prog_name="internlm-zoo", standalone_mode=False) or 0)
    except (ZooError, ReaderGone):
        raise
    except _ParseError as error:
        if "--json" in args:
            _fail(UsageError(error.format_message(), fix="internlm-zoo --help"), _shell_of_flags(args))
        else:
            print_parse_error(error)
        return UsageError.exit_code
    except (KeyboardInterrupt, typer.Abort) as error:
        return code_of(error)
    except Exception as error:  # noqa: BLE001  # what nobody foresaw is said in one sentence, here alone
        _fail(_unforeseen(error), _shell_of_flags(args))
        return InternalError.exit_code


def _shell_of_flags(args: list[str]) -> Shell:
    """How to talk where the options could not be, or are not any more, read."""
    return Shell(Settings(Path()), json="--json" in args, debug="--debug" in args)


def _unforeseen(error: Exception) -> InternalError:
    last = traceback.extract_tb(error.__traceback__)[-1]
    fault = InternalError(
        f"this is a fault of internlm-zoo, not of yours: {type(error).__name__}: {error}",
        f"{Path(last.filename).name}, line {last.lineno}",
        "please open an issue of the project, with the command and what it prints with --debug",
    )
    fault.__cause__ = error
    return fault


def _with_dashes(arg: str) -> str:
    name, equals, value = arg.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else arg


def _command(
    function: Callable[..., CommandResult | None], common: type[CommonOptions]
) -> Callable[..., None]:
    # Not typing.get_type_hints: Python 3.10's wraps what defaults to None in Optional, out of typer's sight.
    signature = inspect.signature(function, eval_str=True)
    _, *own = signature.parameters.values()
    groups = [*own, inspect.Parameter("common", inspect.Parameter.KEYWORD_ONLY, annotation=common)]
    parameters = list(expanded(groups))

    @functools.wraps(function)
    def command(**options: Any) -> None:
        arguments = collected(groups, options)
        asked: CommonOptions = arguments.pop("common")
        with _refusals_named():
            settings = asked.settings(options.get("source", ""))
        shell = _shell(asked, settings, options.get("parallel"))
        try:
            with _refusals_named():
                answer = function(shell, **arguments)
            if answer is not None:
                shell.answer(answer)
        except ZooError as error:
            _fail(error, shell)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            shell.note(message_of(error))
            raise typer.Exit(code_of(error)) from None
        if answer is not None and answer.exit_code and shell.answers:
            raise typer.Exit(answer.exit_code)

    # typer reads the signature to build the options, and takes annotations from __annotations__ first.
    command.__signature__ = signature.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del command.__wrapped__
    return command


def _shell(asked: CommonOptions, settings: Settings, parallel: str | None) -> Shell:
    if parallel is None:  # a command that loads nothing, and imports no more than it needs
        return Shell(settings, asked.as_json, asked.quiet, asked.debug)
    from internlm_zoo.loading.ranks import is_first

    answers, errors = (is_first(settings.environ, parallel, among) for among in ("RANK", "LOCAL_RANK"))
    return Shell(settings, asked.as_json, asked.quiet or not answers, asked.debug, answers, errors)


@contextmanager
def _refusals_named() -> Iterator[None]:
    """What the system refuses of a file, or cannot name, is no fault of the program, whoever touched it."""
    try:
        yield
    except UnicodeEncodeError as error:
        coding = sys.getfilesystemencoding()
        if coding == "utf-8" or error.encoding != coding:
            raise
        what = f"the locale cannot write the name of a file, its characters are {coding}"
        raise UsageError(what, str(error.object), "set PYTHONUTF8=1, or LC_ALL=C.UTF-8") from error
    except ValueError as error:
        if str(error) not in _NULLS:
            raise
        raise UsageError("a name holds a zero byte", fix="name another file") from error
    except OSError as error:
        if error.filename is None:  # a closed pipe, what a library calls an OSError, or no place to begin at
            require_here()
            raise
        raise AccessError(f"the system refuses it: {error.strerror}", str(error.filename)) from error


def _fail(error: ZooError, shell: Shell) -> None:
    if shell.errors:
        print_error(error, as_json=shell.json, debug=shell.debug)
    else:
        time.sleep(_OTHERS_SPEAK)

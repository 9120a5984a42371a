"""Whatever is typed, and wherever: a documented exit code and a sentence, never a traceback."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

import internlm_zoo.cli as cli
from internlm_zoo.cli.shell import app, run
from tests.timing import PATIENCE

for _module in cli._MODULES:
    __import__(f"internlm_zoo.cli.{_module}")

DOCUMENTED = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 130}
DEMO = Path(cli.__file__).parents[1] / "demo" / "models" / "demo-internlm2-chat"
VALUES = (
    "", "\n", "\x1b[31m", "\udcff", "\0x", "a" * 300, "a/" * 2500, "/" + "x" * 5000, "-1", "0", "1e999",
    "nan", "99999999999999999999", "1" + "0" * 700, "1e400", "٣", "²", "..", "/dev/null", "file:///x", "http://[",
    "x=1e999", "x=" + "9" * 5000, "x=" + "[" * 100_000, "{", "%", "[", "~nosuch/x", "huggingface=",
)  # fmt: skip
PLACES = {
    "file": "mirror.yaml",
    "dst": "out",
    "model": "demo-internlm2-chat",
    "models": "demo-internlm2-chat",
}
"""What a required argument gets by its name; any other is the checkpoint."""
BUSY = {"demo", "smoke", "load", "generate", "chat", "score"}
"""Verbs that run a model where an option does not stop them: looked at with few values."""


def verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if hasattr(command, "commands"):
        for name, sub in command.commands.items():
            yield from verbs(sub, (*path, name))
    else:
        yield path, command


VERBS = {" ".join(path): command for path, command in verbs(typer.main.get_command(app))}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a checkpoint and a mirror file, where no hub answers, `serve` is interrupted and `demo`
    has nothing to show, for of its options its steps know nothing."""
    shutil.copytree(DEMO, tmp_path / "ckpt")
    (tmp_path / "mirror.yaml").write_text("destination: ./mirror\nmodels: [demo-internlm2-chat]\n")
    monkeypatch.chdir(tmp_path)
    for name in ("HF_ENDPOINT", "MODELSCOPE_ENDPOINT", "INTERNLM_ZOO_MODELERS_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("INTERNLM_ZOO_OPENXLAB_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("INTERNLM_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("INTERNLM_ZOO_TIMEOUT", str(PATIENCE))
    monkeypatch.setenv("INTERNLM_ZOO_TRIES", "1")
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hello\n"))
    monkeypatch.setattr("internlm_zoo.cli.serve.time", SimpleNamespace(sleep=_interrupt))
    monkeypatch.setattr("internlm_zoo.demo.steps.run_steps", lambda *_: [])
    return tmp_path


def _interrupt(_: float) -> None:
    raise KeyboardInterrupt


def lines(path: str, values: tuple[str, ...]) -> Iterator[list[str]]:
    """The command lines that give each option and argument of a verb each value, the others as they should
    be. A new option is among them by itself."""
    command = VERBS[path]
    needed = [it for it in command.params if it.required]
    for parameter in command.params:
        if parameter.name == "help" or getattr(parameter, "is_flag", False):
            continue
        for value in values:
            given = {it: PLACES.get(it.name, "ckpt") for it in needed} | {parameter: value}
            options = [f"{it.opts[0]}={text}" for it, text in given.items() if it.param_type_name == "option"]
            arguments = [text for it, text in given.items() if it.param_type_name == "argument"]
            yield [*path.split(), *options, "--", *arguments]


@pytest.mark.slow
@pytest.mark.parametrize("path", VERBS)
def test_no_value_of_any_option_is_a_fault_of_the_program(path, place, capsys):
    for args in lines(path, VALUES[:12] if path in BUSY else VALUES):
        capsys.readouterr()
        code = run(args)
        told = capsys.readouterr().err
        assert code in DOCUMENTED and "Traceback" not in told, (args, told)


@pytest.mark.parametrize("name", ["a" * 300, "a/" * 2500, "\0x", "x=" + "9" * 5000])
def test_a_name_that_no_system_takes_is_a_sentence(name, place, capsys):
    for args in (
        ["verify", name],
        ["verify", "demo-internlm2-chat", "--token-file", name],
        ["list", "--registry", name],
        ["cache", "adopt", name],
        ["mirror", "plan", name],
    ):
        code = run(args)
        told = capsys.readouterr().err
        assert code in (0, 2, 4) and "Traceback" not in told, (args, told)


def test_a_directory_that_was_removed_under_the_command_is_said(place, capsys, monkeypatch):
    # Python 3.13 fails to import by a path that is the working directory. The installed program has no such.
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    "localhost".encode("idna")
    gone = place / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    for args in (
        ["download", "demo-internlm2-chat", "--local-dir", "here"],
        ["convert", str(DEMO), "out", "--to", "hf"],
        ["cache", "adopt", "."],
        ["serve", "."],
        ["lock", "demo-internlm2-chat", "--file", "x.lock"],
        ["load", "x", "--plan"],
    ):
        assert run(args) == 2
        assert "the directory that this runs in does not exist any more" in capsys.readouterr().err
    assert run(["list"]) == run(["inspect", str(DEMO)]) == 0


@pytest.mark.parametrize("option", ["--include", "--exclude"])
def test_a_glob_that_would_take_hours_is_refused(place, capsys, option):
    for verb in (["download", "demo-internlm2-chat"], ["mirror", "plan", "mirror.yaml"]):
        assert run([*verb, option, "[" * 100_000]) == 2
        assert "a glob has 100000 characters, more than 1024" in capsys.readouterr().err
    assert run(["download", "demo-internlm2-chat", "[" * 100_000]) == 4
    (place / "mirror.yaml").write_text(f"destination: x\nmodels: ['{'[' * 100_000}']\n")
    assert run(["mirror", "plan", "mirror.yaml"]) == 2
    assert "mirror.yaml:2: models[0]" in capsys.readouterr().err


def test_values_and_urls_that_are_half_of_one_are_sentences(place, capsys):
    (place / "half.yaml").write_text("destination: 'http://['\nmodels: [demo-internlm2-chat]\n")
    (place / "nobody.yaml").write_text("destination: ~nosuch/x\nmodels: [demo-internlm2-chat]\n")
    for args in (
        ["inspect", "http://["],
        ["serve", "ckpt", "--host", "\udcff"],
        ["serve", "ckpt", "--host", "a" * 300],
        ["inspect", "ckpt", "--set", "x=" + "[" * 100_000],
        ["mirror", "plan", "half.yaml"],
    ):
        code = run(args)
        assert code in (0, 2, 7) and "a fault of internlm-zoo" not in capsys.readouterr().err
    assert run(["mirror", "plan", "nobody.yaml"]) in (0, 1)

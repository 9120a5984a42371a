"""Output reaches whatever stdout and stderr are: other encodings, names that are no text, full disks."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import internlm_zoo.cli as cli
from internlm_zoo.cli.shell import run
from tests.timing import PATIENCE

for _module in cli._MODULES:
    __import__(f"internlm_zoo.cli.{_module}")

ENCODINGS = ("ascii", pytest.param("cp1252", marks=pytest.mark.slow), "gbk")
COMMANDS = [
    ["list"],
    ["list", "--json"],
    ["show", "internlm-7b"],
    ["show", "internlm2-7b", "--json"],
    ["evals"],
    ["--help"],
    ["download", "--help"],
    ["no-such-verb-模型"],
    ["inspect", "模型/✓ ✗ € ö"],
    ["inspect", "模型/✓ ✗ € ö", "--json"],
    ["inspect", "bad\udcff", "--debug"],
]


class Terminal:
    """What a command wrote to streams of an encoding."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, encoding: str, errors: str = "strict") -> None:
        self.encoding = encoding
        self.streams = [io.TextIOWrapper(io.BytesIO(), encoding, errors) for _ in "12"]
        monkeypatch.setattr(sys, "stdout", self.streams[0])
        monkeypatch.setattr(sys, "stderr", self.streams[1])

    def text(self) -> tuple[str, str]:
        for stream in self.streams:
            stream.flush()
        out, err = (stream.buffer.getvalue().decode(self.encoding) for stream in self.streams)
        return out, err


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_fails_for_the_encoding_of_its_streams(monkeypatch, command, encoding):
    wanted = Terminal(monkeypatch, "utf-8")
    code = run(command)
    good, _ = wanted.text()
    found = Terminal(monkeypatch, encoding)
    assert run(command) == code != 70
    out, err = found.text()
    if "--json" in command:
        assert json.loads(out) == json.loads(good) and out.isascii()
    assert len(out.splitlines()) == len(good.splitlines()) and (out or err)


def test_tables_draw_their_signs_with_those_that_there_are(monkeypatch):
    terminal = Terminal(monkeypatch, "ascii")
    assert run(["evals", "internlm-7b"]) == 0
    out, _ = terminal.text()
    assert "\\u" not in out and "\\x" not in out and " - " in out


def test_what_has_no_sign_is_escaped(monkeypatch):
    terminal = Terminal(monkeypatch, "gbk")
    assert run(["inspect", "模型/ö✓"]) == 4
    assert "(模型/\\xf6+)" in terminal.text()[1]


def test_a_name_that_is_no_text_is_told_and_read_back_from_json(monkeypatch, tmp_path):
    path = str(tmp_path / os.fsdecode("模型\N{BROKEN BAR}".encode() + b"\xff"))
    terminal = Terminal(monkeypatch, "utf-8")
    assert run(["inspect", path]) == 4
    assert "模型¦\\xff" in terminal.text()[1]
    terminal = Terminal(monkeypatch, "utf-8")
    assert run(["inspect", path, "--json"]) == 4
    out, _ = terminal.text()
    assert json.loads(out)["error"]["where"] == path and out.isascii()


def test_a_name_that_the_locale_cannot_read_is_text_in_json(monkeypatch):
    """As Python hands over `模型` where the locale is C."""
    terminal = Terminal(monkeypatch, "ascii", "surrogateescape")
    assert run(["inspect", "模型/x".encode().decode("ascii", "surrogateescape"), "--json"]) == 4
    assert json.loads(terminal.text()[0])["error"]["where"] == "模型/x"


def full(monkeypatch: pytest.MonkeyPatch, *names: str) -> Terminal:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full on this system")
    terminal = Terminal(monkeypatch, "utf-8")
    for name in names:
        monkeypatch.setattr(sys, name, open("/dev/full", "w"))  # noqa: SIM115
    return terminal


@pytest.mark.parametrize(
    "command",
    [["list"], ["list", "--json"], ["--help"], ["list", "--help"], ["registry", "export"]],
    ids=" ".join,
)
def test_a_full_disk_under_stdout_is_a_sentence_and_8(monkeypatch, command):
    terminal = full(monkeypatch, "stdout")
    assert run(command) == 8
    err = terminal.text()[1] if hasattr(sys.stdout, "flush") else ""
    assert "cannot be written to stdout: No space left on device" in err
    assert "Traceback" not in err and err.count("error: ") == 1


def test_an_error_that_stdout_does_not_take_as_json_is_told_on_stderr(monkeypatch):
    terminal = full(monkeypatch, "stdout")
    assert run(["show", "internlm-chat-20", "--json"]) == 4
    assert "there is no model 'internlm-chat-20'" in terminal.text()[1]


@pytest.mark.parametrize(
    ("command", "code"), [(["list"], 0), (["show", "internlm-chat-20"], 4), (["list", "--no"], 2)]
)
def test_a_full_disk_under_stderr_changes_nothing(monkeypatch, command, code):
    full(monkeypatch, "stderr")
    assert run(command) == code


@pytest.mark.parametrize(
    ("command", "closed", "code"),
    [
        (["list"], ["stdout"], 4),
        (["list", "--json"], ["stdout", "stderr"], 4),
        (["list"], ["stderr"], 0),
        (["show", "internlm-chat-20", "--debug"], ["stdout", "stderr"], 4),
    ],
    ids=str,
)
def test_closed_streams_are_no_fault_of_the_program(monkeypatch, command, closed, code):
    terminal = Terminal(monkeypatch, "utf-8")
    for name in closed:
        monkeypatch.setattr(sys, name, None)
    assert run(command) == code
    assert ("stdout: it is closed" in terminal.text()[1]) == (closed == ["stdout"])


def process(script: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    zoo = f"{sys.executable} -c 'import internlm_zoo.cli as cli; cli.main()'"
    return subprocess.run(
        ["bash", "-c", f'zoo() {{ {zoo[:-1]}\' "$@"; }}; {script}'],
        capture_output=True,
        timeout=PATIENCE,
        env={**os.environ, **environ},
    )


def test_the_interpreter_has_nothing_to_add_at_its_end():
    """What is left in a buffer is written again when Python ends, and would make 120 of the exit code."""
    done = process(
        "zoo list >/dev/full; echo $?; zoo list 2>/dev/full >&-; echo $?; zoo no >&- 2>&-; echo $?"
    )
    assert done.stdout == b"8\n4\n2\n"
    assert done.stderr.count(b"\n") == 2 and b"Exception ignored" not in done.stderr


def test_names_go_out_as_they_came_in_the_c_locale(tmp_path):
    folder = os.fsencode(tmp_path) + "/模型\N{BROKEN BAR}".encode() + b"\xff"
    script = 'zoo cache path; zoo inspect "$INTERNLM_ZOO_HOME"'
    os.mkdir(folder)
    done = process(
        script,
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
        INTERNLM_ZOO_HOME=os.fsdecode(folder),
        HOME=str(tmp_path),
    )
    assert folder in done.stdout and b"Traceback" not in done.stderr, done.stderr
    assert rb"\xe6\xa8\xa1" in done.stderr


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    """Libraries write to the descriptors 1 and 2, whoever holds them."""
    program = (
        "import os, sys; from internlm_zoo.cli.streams import reserve_descriptors as own; own();"
        f"file = open({str(tmp_path / 'weights')!r}, 'wb'); os.write(2, b'words'); sys.exit(file.fileno())"
    )
    script = f'{sys.executable} -c "$PROGRAM" <&- >&- 2>&-'
    done = subprocess.run(["bash", "-c", script], env={**os.environ, "PROGRAM": program}, timeout=PATIENCE)
    assert done.returncode > 2 and (tmp_path / "weights").read_bytes() == b""

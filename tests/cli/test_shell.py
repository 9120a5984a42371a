"""What every command promises: one JSON document, documented exit codes, a start that loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.timing import PATIENCE

HEAVY = ("torch", "transformers", "huggingface_hub", "modelscope", "aiohttp")


def zoo(*args: str, **options) -> subprocess.CompletedProcess[str]:
    code = "import sys; from internlm_zoo.cli import main; main(sys.argv[1:])"
    return subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=PATIENCE, **options
    )


def test_a_command_is_registered_by_the_module_that_is_imported_for_it():
    code = (
        "from typer.main import get_command\n"
        "from internlm_zoo import cli\n"
        "from internlm_zoo.cli.shell import app\n"
        "for module, names in cli._MODULES.items():\n"
        "    before = set(get_command(app).commands)\n"
        "    cli.load_commands(names[0])\n"
        "    assert set(get_command(app).commands) - before == set(names), module\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr[-500:]


@pytest.mark.parametrize(
    "args", [["--help"], ["list"], ["show", "internlm-chat-20b"], ["evals"]], ids=lambda args: args[0]
)
def test_the_first_commands_load_nothing_heavy(args):
    code = (
        "import sys\n"
        "from internlm_zoo.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        f"print('\\nLOADED', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=PATIENCE
    )
    assert result.stdout.endswith("LOADED []\n"), result.stdout[-500:] + result.stderr


@pytest.mark.parametrize("package", ["internlm_zoo", "converters"])
def test_importing_a_package_loads_nothing_heavy(package):
    code = f"import sys, {package}; print(sorted(set({(*HEAVY, 'numpy', 'typer')!r}) & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert result.stdout == "[]\n", result.stderr


def test_converters_knows_nothing_of_the_product():
    code = (
        "import sys, pkgutil, importlib, converters\n"
        "for module in pkgutil.walk_packages(converters.__path__, 'converters.'):\n"
        "    try: importlib.import_module(module.name)\n"
        "    except ModuleNotFoundError as error: assert error.name == 'ray', error\n"  # an extra
        "print([name for name in sys.modules if name.startswith(('internlm_zoo', 'torch', 'transformers'))])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert result.stdout == "[]\n", result.stderr


def test_an_error_with_json_is_one_document_on_stdout():
    result = zoo("show", "internlm-chat-20", "--json")
    error = json.loads(result.stdout)["error"]
    assert result.returncode == error["exit_code"] == 4
    assert error["name"] == "NotFoundError" and "internlm-chat-20b" in error["fix"]
    assert "Traceback" not in result.stderr


def test_a_wrong_option_with_json_is_one_document_too():
    result = zoo("list", "--no-such-option", "--json")
    assert result.returncode == 2
    assert json.loads(result.stdout)["error"]["name"] == "UsageError"


def test_an_error_for_a_person_says_what_and_the_way_out_on_stderr():
    result = zoo("show", "internlm-chat-20")
    assert result.stdout == ""
    assert "error: " in result.stderr and "fix: " in result.stderr


def test_underscores_in_option_names_are_accepted(tmp_path):
    result = zoo("download", "no-such-model", "--local_dir", str(tmp_path / "here"), "--dry_run", "--json")
    assert json.loads(result.stdout)["error"]["name"] == "NotFoundError"


@pytest.mark.parametrize(
    "command", ["list", "show", "evals", "download", "verify", "convert", "compare", "load"]
)
def test_help_starts_with_an_example(command):
    result = zoo(command, "-h")
    assert result.returncode == 0
    assert f"Example: internlm-zoo {command}" in result.stdout


def test_every_command_has_the_common_options():
    from typer.main import get_command

    import internlm_zoo.cli as cli
    from internlm_zoo.cli.shell import app

    for module in cli._MODULES:
        __import__(f"internlm_zoo.cli.{module}")

    def leaves(command, name):
        if hasattr(command, "commands"):
            for child_name, child in command.commands.items():
                yield from leaves(child, f"{name} {child_name}")
        else:
            yield name, {option for parameter in command.params for option in parameter.opts}

    found = dict(leaves(get_command(app), "internlm-zoo"))
    assert len(found) > 15
    for name, options in found.items():
        assert {"--json", "--quiet", "-q", "--offline"} <= options, name


def test_the_registry_option_adds_an_overlay(tmp_path: Path):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("models:\n  internlm-7b:\n    display_name: My 7B\n", encoding="utf-8")
    result = zoo("show", "internlm-7b", "--registry", str(overlay), "--json")
    assert "My 7B" in result.stdout, result.stderr


FAULT = """
import sys
import internlm_zoo.cli as cli
import internlm_zoo.registry

def fail(*_, **__):
    raise KeyError("architectures")

internlm_zoo.registry.load_registry = fail
cli.main(sys.argv[1:])
"""


def faulty(*args):
    command = [sys.executable, "-c", FAULT, "list", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


def test_a_fault_of_the_program_is_a_sentence_with_a_code_of_its_own():
    result = faulty()
    assert (result.returncode, result.stdout) == (70, "")
    assert "fault of internlm-zoo, not of yours: KeyError: 'architectures'" in result.stderr
    assert "--debug" in result.stderr and "Traceback" not in result.stderr


def test_a_fault_of_the_program_is_one_document_with_json():
    result = faulty("--json")
    error = json.loads(result.stdout)["error"]
    assert result.returncode == error["exit_code"] == 70
    assert error["name"] == "InternalError"


def test_debug_shows_the_traceback_of_faults_and_of_refusals():
    assert "Traceback" in (found := faulty("--debug")).stderr and "in fail" in found.stderr
    result = zoo("show", "internlm-chat-20", "--debug")
    assert result.returncode == 4 and "Traceback" in result.stderr and "fix: " in result.stderr


def test_a_closed_pipe_is_no_fault():
    code = f"{sys.executable} -c 'import internlm_zoo.cli as cli; cli.main()' registry export"
    script = f"set -o pipefail; {code} | true; echo code $?"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=PATIENCE)
    assert (result.stdout, result.stderr) == ("code 141\n", "")

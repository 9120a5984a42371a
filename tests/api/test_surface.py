"""What the Python API promises of itself: every argument is documented and typed, a request is spelled once,
and messages name arguments, which the command line calls by its flags."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import internlm_zoo as package
from converters.conversion.convert import Execution
from converters.options import ConversionOptions
from internlm_zoo.cli.checkpoint_options import CheckpointOptions, DeviceOptions, GivenOptions, ModelOptions
from internlm_zoo.cli.convert import ExecutionOptions, OriginOptions, TargetOptions
from internlm_zoo.cli.download import DownloadOptions
from internlm_zoo.cli.fit import FitOptions
from internlm_zoo.cli.mirror import ApplyOptions, DiffOptions, PlanOptions
from internlm_zoo.downloads.request import DownloadRequest
from internlm_zoo.downloads.selection import Selection
from internlm_zoo.loading.directory import LoadRequest
from internlm_zoo.settings import Settings

_OF_GENERATE = {"model_or_dir", "prompt", "max_new_tokens", "raw", "context", "max_memory", "stream"}

ROOT = Path(__file__).parents[2]
FUNCTIONS = sorted(name for name in package.__all__ if inspect.isfunction(getattr(package, name)))
# What says how a call is carried out, and not what is asked for.
CONTEXT = {"settings", "progress", "cancel", "token_file"}


def keywords(name: str) -> set[str]:
    return set(inspect.signature(getattr(package, name)).parameters)


def names(group: type) -> set[str]:
    return {field.name for field in fields(group)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_of_a_public_function_is_in_its_docstring_and_typed(name):
    function = getattr(package, name)
    told = " ".join(part.rpartition(". ")[2] for part in re.findall(r"([^:]*):", inspect.getdoc(function)))
    missing = [argument for argument in keywords(name) if not re.search(rf"\b{argument}\b", told)]
    assert not missing
    hints = inspect.get_annotations(function)
    assert hints.keys() == keywords(name) | {"return"}
    assert "Any" not in hints["return"].split(",")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_guide_names_every_public_function(name):
    assert re.search(rf"\b{name}\b", (ROOT / "docs/python-api.md").read_text(encoding="utf-8"))


def test_every_public_name_is_on_one_reference_page():
    pytest.importorskip("griffe", reason="make docs has an environment of its own")
    from tools.docs.api_pages import pages

    shown = re.findall(r"^::: (.*)$", "\n".join(pages().values()), re.M)
    assert len(shown) == len(set(shown))
    assert set(package.__all__) <= {path.rpartition(".")[2] for path in shown}


def test_a_keyword_of_download_is_a_field_of_its_request_and_an_option():
    asked = keywords("download") - CONTEXT
    request = (names(DownloadRequest) - {"selection"}) | names(Selection)
    assert asked == request == names(DownloadOptions) | {"model"}
    assert keywords("plan_download") - CONTEXT == asked - {"max_workers", "max_rate"}


def test_a_keyword_of_convert_is_a_field_of_what_it_makes_and_an_option():
    asked = keywords("convert") - CONTEXT - {"src", "dst"}
    how = names(Execution) - {"cluster"}  # which the environment names
    assert asked == names(ConversionOptions) | how | names(OriginOptions)
    assert names(TargetOptions) == names(ConversionOptions) | {"mlp_order"}  # one of the facts
    assert names(ExecutionOptions) == how


@pytest.mark.parametrize(
    ("name", "options", "own"),
    [
        ("load", ModelOptions, {"model_or_dir", "context", "max_memory"}),
        (
            "generate",
            ModelOptions,
            {"model_or_dir", "prompt", "max_new_tokens", "raw", "context", "max_memory", "stream"},
        ),
        ("chat", ModelOptions, {"model_or_dir", "system", "max_new_tokens", "context", "max_memory"}),
        ("score", ModelOptions, {"model_or_dir", "conversation"}),
        ("scores", ModelOptions, {"model_or_dir", "conversations"}),
        ("smoke_test", DeviceOptions, {"model_or_dir", "miniature", "record", "strict"}),
        ("fit", FitOptions, {"model_or_dir"}),
        ("inspect", CheckpointOptions, {"target", "deep", "fix_index", "workers"}),
        ("compare", GivenOptions, {"one", "other", "weights", "workers"}),
        ("plan_mirror", PlanOptions, {"file"}),
        ("apply_mirror", ApplyOptions, {"file"}),
        ("diff_mirror", DiffOptions, {"file"}),
    ],
)
def test_options_have_the_names_of_keywords(name, options, own):
    assert keywords(name) - CONTEXT == names(options) | own


def test_what_is_loaded_is_asked_for_by_the_keywords_of_load():
    assert names(LoadRequest) - {"model"} == keywords("load") - CONTEXT - {"model_or_dir"}
    assert keywords("plan_load") - {"download"} == keywords("bench_load") - {"runs"} == keywords("load")


def sources(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            yield file.relative_to(ROOT).as_posix(), ast.parse(file.read_text(encoding="utf-8"))


def imported(folder: str) -> set[tuple[str | None, str]]:
    return {
        (node.module, alias.name)
        for _, tree in sources(folder)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_commands_call_the_api_and_nothing_that_it_calls():
    """What both need of registry, disks and credentials is no verb."""
    rooms = (
        "checkpoints",
        "downloads",
        "integrity",
        "loading",
        "mirror",
        "smoke",
        "sources.lock",
        "sources.status",
    )
    verbs = {
        (module, name)
        for module, name in imported("internlm_zoo/api")
        if module and module.startswith(tuple(f"internlm_zoo.{room}" for room in rooms))
        if name[0].islower() or name.endswith(("Request", "Options"))
    }
    assert len(verbs) > 20
    assert not verbs & imported("internlm_zoo/cli")


def test_nothing_below_the_command_line_speaks_of_flags():
    """`ray start --head` is a command of Ray's; the demo shows the commands that it stands for."""
    said = [
        (path, node.value)
        for path, tree in sources("converters", "internlm_zoo")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.search(r"(?<![\w-])--[a-z]", node.value)
        and not path.startswith(("internlm_zoo/cli/", "internlm_zoo/demo/"))
    ]
    assert [path for path, _ in said] == ["converters/engines/ray.py"]
    assert "ray start --head" in said[0][1]


def test_nothing_but_settings_looks_at_the_environment():
    looks = {
        path
        for path, tree in sources("converters", "internlm_zoo")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "putenv")
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    assert looks == {"internlm_zoo/settings.py"}


def test_python_is_told_of_keywords_and_the_command_line_of_flags(zoo, tmp_path):
    settings = Settings(home=tmp_path / "home", offline=True)
    with pytest.raises(package.ZooError) as raised:
        package.convert("demo-internlm2-chat", tmp_path / "out", to="hf", tp=2, settings=settings)
    assert (raised.value.where, raised.value.fix) == ("`tp`, `pp`", "both are for `to='original'`")
    code, _, err = zoo("convert", "demo-internlm2-chat", tmp_path / "out", "--to", "hf", "--tp", "2")
    assert code == 2
    assert "(--tp, --pp)" in err and "fix: both are for --to original" in err and "`" not in err


@pytest.mark.parametrize(
    ("said", "spoken"),
    [
        ("`accept_lossy=True` writes it", "--accept-lossy writes it"),
        ("with `evidence=False`", "with --no-evidence"),
        ("`known_as=MODEL`, or `given={'rope_theta': VALUE}`", "--as MODEL, or --set rope_theta=VALUE"),
        ("`given={'mlp_order': 'up_down', 'a b': None}`", "--mlp-order up_down --set 'a b'=null"),
        ("`weights='it is here'`", "--weights 'it is here'"),
        ("choose with `include`", "choose with --include"),  # of another command
        ("`inspect(fix_index=True)` does", "`internlm-zoo inspect --fix-index` does"),
        ("`download('m', format='hf')`", "`internlm-zoo download m --format hf`"),
        ("`ray start`, `x=1`, `hf`, `force=False`, `a(b`", "`ray start`, `x=1`, `hf`, `force=False`, `a(b`"),
    ],
)
def test_parameters_are_said_as_the_flags_that_are_declared(said, spoken):
    from internlm_zoo.cli.flags import as_flags, commands, options_of

    with options_of(commands()["convert"].params):
        assert as_flags(said) == spoken


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "said",
    [
        "-" * 200_000 + "1",
        "(" * 299,
        r"convert('C:\Users\d')",
        "a" + ".b" * 140,
        "f'{" * 60,
        "\0",
        "x=*a",
        "**k",
        "given={**a}",
    ],
)
def test_what_others_wrote_between_backticks_stays_as_it_is(said):
    from internlm_zoo.cli.flags import as_flags

    assert as_flags(f"`{said}`") == f"`{said}`"

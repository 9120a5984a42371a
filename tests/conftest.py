"""The command line in this process, hubs that are asked again at once, and the count of official client calls
in the closing summary."""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer.main
from hypothesis import settings

from tests.environment import open_folder
from tests.timing import soon

if TYPE_CHECKING:
    from tests.world import World

OFFICIAL_CALL = "official client call"

# Some machines ask every Python to keep no bytecode; here hundreds of processes would compile the same.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# What takes longest goes first, for with two workers the last file is one's alone.
LONGEST = (
    "environment/test_verbs.py",
    "downloads/test_fault_table.py",
    "downloads/test_kills.py",
    "net/test_hostile_servers.py",
    "converters/layouts/test_grid_properties.py",
    "loading/test_ranks.py",
    "smoke/test_golden.py",
    "smoke/test_mistakes.py",
    "converters/conversion/test_crash.py",
    "converters/formats/test_torchzip.py",
    "converters/engines/test_ray.py",
    "downloads/test_containers.py",
    "loading/test_dcp.py",
    "smoke/test_miniature.py",
    "loading/test_mapping.py",
    "serve/test_official_clients.py",
)

# An example may take as long as a loaded machine needs for it.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def pytest_collection_finish() -> None:
    """What was collected stays: looking through it for garbage takes a fifth of what the tests take."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                counts.update(value for name, value in report.user_properties if name == OFFICIAL_CALL)
    if counts:
        parts = ", ".join(f"{package} {count}" for package, count in counts.most_common())
        terminalreporter.write_line(f"conformance: {counts.total()} official client calls ({parts})")


@pytest.fixture(autouse=True)
def asked_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub is asked again almost without a pause, unless it asks for one."""
    monkeypatch.setattr("internlm_zoo.net.retry_policy.RetryPolicy.pause", soon)


@pytest.fixture(autouse=True, scope="session")
def one_parser() -> Iterator[None]:
    """Typer builds that of every command anew for every line, which costs more than most lines do."""
    build = typer.main.get_command
    built: dict[tuple[typer.Typer, int], Any] = {}

    def once(app: typer.Typer) -> Any:
        groups = [group.typer_instance for group in app.registered_groups]
        commands = sum(len(part.registered_commands) for part in (app, *groups) if part)
        if (app, commands) not in built:
            built[app, commands] = build(app)
        return built[app, commands]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", once)
        yield


@pytest.fixture
def zoo(capsys, monkeypatch, tmp_path):
    """Run the command line in this process; gives (exit code, stdout, stderr)."""
    import internlm_zoo.cli.checkpoints
    import internlm_zoo.cli.convert
    import internlm_zoo.cli.download
    import internlm_zoo.cli.fit
    import internlm_zoo.cli.models
    import internlm_zoo.cli.smoke
    from internlm_zoo.cli.shell import run

    monkeypatch.setenv("INTERNLM_ZOO_HOME", str(tmp_path / "home"))

    def call(*args):
        capsys.readouterr()
        code = run([str(arg) for arg in args])
        out = capsys.readouterr()
        return code, out.out, out.err

    cli = internlm_zoo.cli
    assert all((cli.checkpoints, cli.convert, cli.download, cli.fit, cli.models, cli.smoke))
    return call


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    from tests.world import open_world

    with ExitStack() as stack:
        yield open_world(tmp_path, stack)


@pytest.fixture
def everybodys():
    """A folder that every account may enter and write to; pytest's own are the owner's alone."""
    with open_folder() as folder:
        yield folder

"""What the pages for users and contributors say of the code holds for the code."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from internlm_zoo.cli import load_commands
from internlm_zoo.cli.shell import app
from tools.every_python import VERSIONS

ROOT = Path(__file__).parents[2]
PACKAGES = ("converters", "internlm_zoo")
MKDOCS = ROOT / ".cache/docs/bin/mkdocs"


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
    load_commands()
    table = text_of("docs/cli.md").partition("## Every command\n")[2].partition("\n## ")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")][1:]
    named = re.findall(r"`([^`]+)`", " ".join(first_cells))
    assert sorted(named) == sorted(verbs(get_command(app)))


def test_pre_commit_runs_what_make_lint_runs():
    recipe = text_of("Makefile").partition("\nlint: $(STAMP)\n")[2].partition("\n\n")[0]
    lint = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]
    (repository,) = yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"]
    assert [hook["entry"] for hook in repository["hooks"]] == lint


def test_the_workflow_runs_every_python_that_is_declared_on_every_system():
    matrix = yaml.safe_load(text_of(".github/workflows/ci.yml"))["jobs"]["tests"]["strategy"]["matrix"]
    declared = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text_of("pyproject.toml"))
    assert matrix == {"os": ["ubuntu", "macos", "windows"], "python": declared}
    assert f'requires-python = ">={declared[0]}"' in text_of("pyproject.toml")
    assert tuple(declared) == VERSIONS


def test_the_workflow_calls_targets_that_the_makefile_has():
    jobs = yaml.safe_load(text_of(".github/workflows/ci.yml"))["jobs"]
    runs = " ".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    called = {"coverage", "test", *re.findall(r"make (\w+)", runs)}
    assert called > {"lint", "docs", "demo", "wheel"}
    assert called <= set(re.findall(r"^([\w-]+):", text_of("Makefile"), re.MULTILINE))


def test_the_projects_address_is_one():
    home = re.search(r'^Homepage = "(.+)"$', text_of("pyproject.toml"), re.MULTILINE)[1]
    owner = home.rpartition("/")[0]
    for place in ("pyproject.toml", "mkdocs.yml", "CHANGELOG.md", ".github/ISSUE_TEMPLATE/config.yml"):
        named = re.findall(
            rf"https://github\.com/[\w-]+/internlm-zoo|{re.escape(owner)}/[\w-]+", text_of(place)
        )
        assert set(named) == {home}, place


def test_every_release_of_the_changelog_has_its_date_and_its_link():
    text = text_of("CHANGELOG.md")
    first, *releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert first == "[Unreleased]"
    assert releases and all(
        re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", release) for release in releases
    )
    linked = re.findall(r"^(\[.+\]): https://", text, re.MULTILINE)
    assert linked == [first, *(release.partition(" ")[0] for release in releases)]
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds


@pytest.mark.slow
@pytest.mark.skipif(not MKDOCS.exists(), reason="make docs has not run here")
@pytest.mark.parametrize("link", ["downloads.md#nowhere", "nowhere.md", "/cli.md"])
def test_a_link_that_leads_nowhere_stops_the_site(tmp_path, link):
    pages = tmp_path / "pages"
    shutil.copytree(ROOT / "docs", pages, ignore=lambda folder, names: [n for n in names if n == "examples"])
    (pages / "cli.md").write_text(f"[more]({link})\n", encoding="utf-8")
    config = {"INHERIT": str(ROOT / "mkdocs.yml"), "docs_dir": str(pages), "site_dir": str(tmp_path / "site")}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    built = subprocess.run([MKDOCS, "build", "--strict"], cwd=tmp_path, capture_output=True, text=True)
    assert built.returncode == 1
    assert f"'cli.md' contains {'an absolute' if link[0] == '/' else 'a'} link '{link}'" in built.stderr


@pytest.mark.slow
@pytest.mark.skipif(not MKDOCS.exists(), reason="make docs has not run here")
def test_a_link_to_a_file_that_is_not_there_stops_the_gathering_of_pages(tmp_path):
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"):
        (tmp_path / name).write_text("# Page\n", encoding="utf-8")
    shutil.copytree(ROOT / "tools/docs", tmp_path / "tools/docs")
    for package in PACKAGES:
        (tmp_path / package).symlink_to(ROOT / package)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/cli.md").write_text("[one](../converters/none.py) [two](../converters/__init__.py)\n")
    command = [MKDOCS.with_name("python"), "tools/docs", "pages"]
    gathered = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert gathered.returncode == 1
    assert gathered.stderr.strip() == "docs/cli.md links to converters/none.py, which is not there"


PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md"]
PAGES += sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))
# Of these pages `plan.py` and `store/publish.py` are of the two packages, too; others quote other projects.
OURS = ("CONTRIBUTING.md", "docs/architecture.md", "docs/adding-a-family.md")
PLACES = re.compile(r"(?:\.github|benchmarks|converters|docs|internlm_zoo|tests|tools)/[\w./-]*")


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_is_there(page):
    prose = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"`([^`\s]+)`", prose):
        if PLACES.fullmatch(span):
            assert (ROOT / span).exists(), span
        elif page in OURS and re.fullmatch(r"(?:\w+/)*\w+\.py|(?:\w+/)+", span):
            assert any(next((ROOT / package).rglob(span), None) for package in PACKAGES), span


def test_every_page_of_the_docs_is_in_the_sites_menu():
    menu = set(re.findall(r"^ +- ([\w/-]+\.md)$", text_of("mkdocs.yml"), re.MULTILINE))
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert pages <= menu

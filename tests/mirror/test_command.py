"""`internlm-zoo mirror`, as a person and a CI job meet it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import internlm_zoo.cli.mirror  # noqa: F401 - importing registers the commands
from converters.progress import byte_count
from internlm_zoo.cli.shell import run
from tests.mirror.world import CHAT, World

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def shell(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    settings = world.settings
    for name, value in settings.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("INTERNLM_ZOO_HOME", str(settings.home))
    monkeypatch.setenv("INTERNLM_ZOO_REGISTRY", str(settings.registry))
    return world


def mirror(verb: str, world: World, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = run(["mirror", verb, str(world.file), "--json", *options])
    return code, json.loads(capsys.readouterr().out)


def test_exit_codes_and_words_of_a_life(shell: World, capsys: pytest.CaptureFixture[str]) -> None:
    def told(verb: str, *options: str) -> tuple[int, str]:
        code, answer = mirror(verb, shell, capsys, *options)
        assert answer["exit_code"] == code
        return code, answer["result"]

    assert told("plan") == (1, "changes")
    assert told("apply", "--exit-code") == (1, "changed")
    assert told("apply", "--exit-code") == (0, "no change")
    assert told("plan") == told("diff") == (0, "no change")
    shell.put("huggingface", "acme/tiny-base", "config.json", b"[]\n")
    assert told("diff") == (1, "drift")
    assert told("apply") == (0, "changed")
    shell.ask(models=["tiny-*"])
    assert told("apply") == told("plan") == told("diff") == (3, "partly")


def test_a_person_sees_releases_files_and_one_sentence(
    shell: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["mirror", "plan", str(shell.file)]) == 1
    out = capsys.readouterr().out
    assert "acme/tiny-chat" in out
    assert "5 to copy" in out
    assert "sub/tokenizer.model" in out
    assert run(["mirror", "apply", str(shell.file)]) == 0
    out = capsys.readouterr().out
    assert "5 copied" in out
    assert "The mirror is now what it should be. 2.0 MB fetched." in out


def test_the_summary_is_markdown_that_names_what_matters(
    shell: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shell.ask(models=["tiny-*"])
    code, _ = mirror("apply", shell, capsys, "--summary", str(tmp_path / "ci" / "summary.md"))
    assert code == 3
    text = (tmp_path / "ci" / "summary.md").read_text()
    assert text.startswith("## Mirror apply: partly done\n")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == 4
    assert all(row.count("|") == 13 for row in rows)
    chat = next(row for row in rows if "tiny-chat" in row)
    assert f"| 5: {byte_count(sum(map(len, CHAT.values())))} |" in chat
    assert "**failed**" in text
    assert "tiny-listed" in text
    assert "- copied: `model.safetensors` (absent)" in text


def test_a_summary_names_what_is_no_text(
    shell: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / os.fsdecode(b"bad\xff")
    folder.mkdir()
    (folder / "mirror.yaml").write_bytes(shell.file.read_bytes())
    summary = tmp_path / "summary.md"
    assert run(["mirror", "plan", str(folder / "mirror.yaml"), "--summary", str(summary)]) == 1
    assert "bad\\xff" in summary.read_text(encoding="utf-8")


def test_a_summary_that_cannot_be_written_is_a_sentence(
    shell: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, answer = mirror("plan", shell, capsys, "--summary", str(tmp_path))
    assert code == 2
    assert "summary" in answer["error"]["what"]


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"models": ["tiny-bse"]}, 2, ("tiny-bse", "tiny-base")),
        ({"models": ["tyni-*"]}, 2, ("tyni-*",)),
        ({"models": []}, 2, ("models",)),
        ({"prun": True}, 2, ("prun", "prune")),
        ({"formats": ["ggml"]}, 2, ("formats", "hf", "original")),
        ({"hubs": ["hugingface"]}, 2, ("hugingface", "huggingface")),
        ({"hubs": ["elsewhere"]}, 2, ("elsewhere",)),
        ({"destination": ""}, 2, ("destination",)),
        ({"destination": "s3://bucket/mirror"}, 7, ("destination", "s3://")),
        ({"models": ["tiny-listed"]}, 2, ("tiny-listed", ":1")),
    ],
)
def test_a_mistake_in_the_mirror_file_is_named(
    shell: World,
    capsys: pytest.CaptureFixture[str],
    fields: dict[str, Any],
    code: int,
    words: tuple[str, ...],
) -> None:
    shell.ask(**fields)
    found, answer = mirror("plan", shell, capsys)
    assert found == code
    told = " ".join(str(value) for value in answer["error"].values())
    for word in words:
        assert word in told
    assert shell.sent == 0


def test_a_mirror_file_that_is_not_there_is_named(shell: World, capsys: pytest.CaptureFixture[str]) -> None:
    shell.file.unlink()
    code, answer = mirror("apply", shell, capsys)
    assert code == 4
    assert "mirror.yaml" in answer["error"]["where"]


def test_the_example_mirror_file_is_one_that_works(tmp_path: Path) -> None:
    from internlm_zoo.mirror.reading import read_mirror_file
    from internlm_zoo.registry import load_registry
    from internlm_zoo.settings import Settings

    settings = Settings(home=tmp_path)
    _, found = read_mirror_file(DOCS / "examples" / "mirror.yaml", load_registry(settings), settings)
    assert found.entries


@pytest.mark.parametrize("name", ["mirror.yml", "mirror-check.yml"])
def test_the_example_workflow_runs_commands_that_there_are(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow = yaml.safe_load((DOCS / "examples" / name).read_text())
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    lines = [line.strip() for step in steps for line in step.splitlines() if "internlm-zoo mirror" in line]
    assert lines
    for line in lines:
        verb, options = line.split()[2], set(re.findall(r"--[a-z-]+", line))
        assert run(["mirror", verb, "--help"]) == 0
        assert options <= {word for word in capsys.readouterr().out.split() if word.startswith("--")}


@pytest.mark.parametrize("name", ["mirror.yml", "mirror-check.yml"])
def test_the_example_workflow_gives_strangers_nothing(name: str) -> None:
    workflow = yaml.safe_load((DOCS / "examples" / name).read_text())
    triggers = workflow[True]  # what YAML 1.1 makes of `on`
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    assert "pull_request_target" not in triggers
    for job in workflow["jobs"].values():
        assert not any("${{" in step.get("run", "") for step in job["steps"]), "text of others in a script"
        assert any(step.get("with", {}).get("persist-credentials") is False for step in job["steps"])
        if "self-hosted" in job["runs-on"]:
            assert "pull_request" not in triggers
            assert "github.repository ==" in job["if"]
        else:
            assert "secrets." not in str(job)


def test_the_example_mirror_lies_outside_the_checkout() -> None:
    example = yaml.safe_load((DOCS / "examples" / "mirror.yaml").read_text())
    assert example["destination"].startswith("/")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_summary_for_which_there_is_no_room_is_a_full_disk(
    shell: World, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = mirror("plan", shell, capsys, "--summary", "/dev/full")
    assert code == 8
    assert "summary" in answer["error"]["what"]

"""Mirrors where this account may not write, removals cut short, and the steps of the example workflows."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.environment.places import COMMAND, run_in
from tests.environment.table import ENVIRONMENTS, ROOT, Environment
from tests.mirror.test_plan_is_done import OVERLAY, contents, write

pytestmark = pytest.mark.slow
FILES = {"config.json": "one", "model.safetensors": "weights"}


@pytest.fixture
def place() -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder that every account may enter, with a mirror file, and the environment that goes with it."""
    root = Path(tempfile.mkdtemp(prefix="everybodys-"))
    root.chmod(0o755)
    (root / "overlay.yaml").write_text(OVERLAY.format(place=root / "hub"))
    write(root / "hub", {"acme/a": FILES, "acme/b": FILES})
    wanted = {"destination": "mirror", "models": ["tiny-a", "tiny-b"], "formats": ["hf"], "prune": True}
    (root / "mirror.yaml").write_text(json.dumps(wanted))
    (root / "mirror").mkdir()
    overlay = str(root / "overlay.yaml")
    yield root, {"INTERNLM_ZOO_HOME": str(root / "home"), "INTERNLM_ZOO_REGISTRY": overlay}
    shutil.rmtree(root)


@pytest.mark.parametrize("name", ["read-only", "not ours"])
def test_a_mirror_that_cannot_be_written_to(place: tuple[Path, dict[str, str]], name: str) -> None:
    root, homes = place
    mirror, file = root / "mirror", root / "mirror.yaml"
    assert run_in(ENVIRONMENTS["plain"], ["mirror", "apply", file, "-q"], homes, mirror).code == 0
    before = contents(mirror)
    for verb in ("plan", "diff", "apply"):
        done = run_in(ENVIRONMENTS[name], ["mirror", verb, file, "-q"], homes, mirror)
        assert (done.code, done.err) == (0, ""), verb
    (root / "hub" / "acme" / "a" / "README.md").write_text("new")
    done = run_in(ENVIRONMENTS[name], ["mirror", "plan", file, "-q"], homes, mirror)
    assert (done.code, done.err) == (1, "")
    done = run_in(ENVIRONMENTS[name], ["mirror", "apply", file, "-q"], homes, mirror)
    assert done.code == 2
    assert "cannot write there" in done.err
    assert str(mirror) in done.err
    assert contents(mirror) == before


def test_a_removal_that_fails_half_way_is_gone_on_with(place: tuple[Path, dict[str, str]]) -> None:
    root, homes = place
    mirror, file = root / "mirror", root / "mirror.yaml"
    command = ["mirror", "apply", file, "-q", "--max-delete", "100%"]
    assert run_in(ENVIRONMENTS["plain"], command, homes, mirror).code == 0
    file.write_text(file.read_text().replace('"tiny-a", ', ""))
    stuck = Environment("stuck", "one file can be removed, and no other", "unlink@2=EACCES")
    done = run_in(stuck, command, homes, mirror)
    assert done.code == 2
    assert "acme/a/model.safetensors" in done.err
    assert len(contents(mirror)) == 3
    assert run_in(ENVIRONMENTS["plain"], command, homes, mirror).code == 0
    assert sorted(contents(mirror)) == ["acme/b/config.json", "acme/b/model.safetensors"]


@pytest.mark.parametrize(
    ("name", "max_delete"), [("mirror.yml", ""), ("mirror.yml", "100%"), ("mirror-check.yml", "")]
)
def test_the_steps_of_the_example_workflows_run(
    place: tuple[Path, dict[str, str]], name: str, max_delete: str
) -> None:
    root, homes = place
    workflow = yaml.safe_load((ROOT / "docs" / "examples" / name).read_text())
    (job,) = workflow["jobs"].values()
    lines = [step["run"] for step in job["steps"] if "internlm-zoo mirror" in step.get("run", "")]
    summary = root / "summary.md"
    env = {**os.environ, **homes, "GITHUB_STEP_SUMMARY": str(summary), "MAX_DELETE": max_delete}
    env["PYTHONPATH"] = str(ROOT)
    program = f'internlm-zoo() {{ {shlex.quote(sys.executable)} -c {shlex.quote(COMMAND[1])} "$@"; }}\n'
    for line in lines:
        done = subprocess.run(["bash", "-e", "-c", program + line], env=env, cwd=root, capture_output=True)
        assert done.returncode == 0, done.stderr
        assert summary.read_text().startswith("## Mirror ")
    assert len(contents(root / "mirror")) == (0 if name == "mirror-check.yml" else 4)

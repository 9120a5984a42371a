"""The same converted demo models that the tests of loading use, and the command line in this process."""

from __future__ import annotations

import json

import pytest

from tests.loading.conftest import directories, one_thread

__all__ = ["directories", "one_thread"]


@pytest.fixture
def no_search(monkeypatch):
    """For tests of what a failure is, not of the mistake that explains it: test_mistakes.py."""
    monkeypatch.setattr("internlm_zoo.smoke.optimum.MISTAKES", ())


@pytest.fixture
def smoke(capsys, monkeypatch, tmp_path):
    """`internlm-zoo smoke ARGS --json`: gives (exit code, the one result or the error)."""
    import internlm_zoo.cli.smoke
    from internlm_zoo.cli.shell import run

    monkeypatch.setenv("INTERNLM_ZOO_HOME", str(tmp_path / "home"))

    def call(*args):
        capsys.readouterr()
        code = run(["smoke", *map(str, args), "--json", "-q"])
        document = json.loads(capsys.readouterr().out)
        return code, document["results"][0] if "results" in document else document["error"]

    assert internlm_zoo.cli.smoke
    return call

"""`download`, `verify`, `cache` and `list --cached` as a person or a script meets them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

import internlm_zoo.cli.cache
import internlm_zoo.cli.catalogue
import internlm_zoo.cli.download  # noqa: F401 - importing registers the commands
from internlm_zoo.cli.shell import run
from internlm_zoo.downloads.on_demand import find_model
from tests.world import FILES, ORIGINAL_FILES, WEIGHTS, World, content_below


class Terminal:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: str | Path) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        code = run([str(arg) for arg in args])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def json(self, *args: str | Path) -> tuple[int, Any]:
        code, out, _ = self(*args, "--json")
        return code, json.loads(out)


@pytest.fixture
def zoo(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    return Terminal(capsys)


def test_download_prints_one_path_and_all_else_on_stderr(zoo: Terminal, world: World) -> None:
    code, out, err = zoo("download", "tiny")
    assert code == 0
    assert content_below(Path(out.rstrip("\n"))) == FILES
    assert "5 files of huggingface:acme/tiny" in err
    assert zoo("pull", "tiny", "--quiet") == (0, out, "")


def test_a_download_takes_as_long_as_its_rate_says(zoo: Terminal, world: World) -> None:
    """Every byte arrives, checked, and not before its time."""
    size = sum(map(len, FILES.values()))
    start = time.monotonic()
    code, out, _ = zoo("download", "tiny", "--max-rate", f"{size / 2000:.0f}KB")
    assert code == 0
    assert content_below(Path(out.rstrip("\n"))) == FILES
    assert time.monotonic() - start > 1.9


def test_a_rate_that_is_none_is_a_usage_error(zoo: Terminal, world: World) -> None:
    assert zoo("download", "tiny", "--max-rate", "fast")[0] == 2
    assert world.requests == 0


def test_failover_is_told_as_it_happens(zoo: Terminal, world: World) -> None:
    world.fault("flip", WEIGHTS, "huggingface")
    code, _, err = zoo("download", "tiny")
    assert code == 0
    assert f"{WEIGHTS} from huggingface is wrong: expected sha256" in err
    assert "from modelscope" in err


def test_a_refusal_has_the_exit_code_of_its_kind(zoo: Terminal, world: World) -> None:
    assert zoo("download", "tinny")[0] == 4
    assert zoo("download", "tiny", "--source", "nowhere")[0] == 4
    assert zoo("download", "tiny", "--offline")[0] == 5
    world.fault("flip", WEIGHTS)
    code, answer = zoo.json("download", "tiny", "--format", "hf")
    assert code == answer["error"]["exit_code"] == 6
    assert answer["error"]["name"] == "IntegrityError"


def test_a_dry_run_says_what_and_from_where(zoo: Terminal, world: World) -> None:
    code, out, _ = zoo("download", "tiny", "--dry-run", "--include", "*.json")
    assert code == 0
    assert ["config.json", "27", "B", "huggingface"] in [line.split() for line in out.splitlines()]
    code, plan = zoo.json("download", "tiny", "--dry-run")
    assert (plan["dry_run"], plan["to_fetch"]) == (True, sum(map(len, FILES.values())))
    assert not world.home.exists()


def test_cache_shows_what_is_there_once(zoo: Terminal, world: World) -> None:
    assert zoo("cache", "list")[:2] == (0, "the store is empty\n")
    assert zoo("list", "--cached", "--json")[1].strip() == "[]"
    assert zoo("cache", "path", "tiny")[0] == 4
    zoo("download", "tiny")
    _, original, _ = zoo("download", "tiny", "--format", "original")
    zoo("download", "tiny", "config.json", "--source", "modelscope")
    code, answer = zoo.json("cache", "list")
    held = {
        (item["hub"], item["format"]): (item["files"], item["files_in_release"])
        for item in answer["releases"]
    }
    assert code == 0
    assert held == {
        ("huggingface", "hf"): (5, 5),
        ("modelscope", "hf"): (1, 5),
        ("openxlab", "original"): (3, 3),
    }
    distinct = {*FILES.values(), *ORIGINAL_FILES.values()}
    assert (answer["blob_bytes"], answer["partial_bytes"]) == (sum(map(len, distinct)), 0)
    assert [item["name"] for item in zoo.json("list", "--cached")[1]] == ["tiny"]
    assert zoo("cache", "path")[1] == f"{world.home}\n"
    assert "huggingface" in zoo("cache", "path", "tiny")[1]
    assert find_model("tiny", settings=world.settings, format="original").path == Path(original.strip())


def test_part_of_a_release_is_not_a_cached_model(zoo: Terminal, world: World) -> None:
    zoo("download", "tiny", "config.json")
    assert zoo("list", "--cached", "--json")[1].strip() == "[]"


def test_verify_names_every_wrong_missing_and_extra_file(zoo: Terminal, world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    zoo("download", "tiny", "--local-dir", out)
    code, told, _ = zoo("verify", out)
    assert (code, told) == (0, f"5 files checked, 670.0 kB, all as they should be: {out}\n")
    (out / WEIGHTS).write_bytes(FILES[WEIGHTS][:-1] + b"?")
    (out / "tokenizer.model").unlink()
    (out / "sub" / "more.bin").write_bytes(b"")
    code, answer = zoo.json("verify", out)
    (folder,) = answer["folders"]
    assert (code, answer["ok"]) == (1, False)
    assert [item["path"] for item in folder["wrong"]] == [WEIGHTS]
    assert (folder["missing"], folder["extra"]) == (["tokenizer.model"], ["sub/more.bin"])
    code, told, _ = zoo("verify", out)
    assert code == 1
    assert [line.split()[:2] for line in told.splitlines()[1:]] == [
        [WEIGHTS, "wrong"],
        ["tokenizer.model", "missing"],
        ["sub/more.bin", "extra"],
    ]


def test_verify_of_a_name_looks_at_all_that_the_store_has_of_it(zoo: Terminal, world: World) -> None:
    zoo("download", "tiny")
    zoo("download", "tiny", "--format", "original")
    code, answer = zoo.json("verify", "tiny")
    assert (code, [folder["checked"] for folder in answer["folders"]]) == (0, [5, 3])
    blob = next(world.home.glob("releases/*/*/*/tokenizer.model")).resolve()
    blob.chmod(0o644)
    blob.write_bytes(b"x" * blob.stat().st_size)
    code, answer = zoo.json("verify", "tiny")
    assert (code, [len(folder["wrong"]) for folder in answer["folders"]]) == (1, [1, 1])
    assert zoo("verify", "tiny", "--quick")[0] == 0
    assert zoo("download", "tiny", "--force")[0] == 0
    assert zoo("verify", "tiny")[0] == 0


def test_verify_of_what_was_not_downloaded_says_so(zoo: Terminal, world: World, tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    code, _, err = zoo("verify", tmp_path / "some")
    assert (code, "nothing says what should be in this folder" in err) == (4, True)
    assert zoo("verify", "tiny")[0] == 4

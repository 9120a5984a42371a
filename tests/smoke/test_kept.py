"""What a smoke test said is kept beside the model, and is of no other files than those that were tested."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.loading.demo import MODELS
from tests.mounts import run_after

BASE, CHAT = MODELS
REWARD = "internlm2-20b-reward"  # which the demo models contradict, so that nothing is loaded


@pytest.fixture
def stored(zoo):
    """Of the chat model, as `list --cached` has it."""
    import internlm_zoo.cli.cache
    import internlm_zoo.cli.catalogue

    assert internlm_zoo.cli.cache and internlm_zoo.cli.catalogue
    assert zoo("download", CHAT, "--source", "bundled", "--offline")[0] == 0

    def look():
        (model,) = json.loads(zoo("list", "--cached", "--json")[1])
        assert model["name"] == CHAT
        (release,) = model["stored"]
        return release

    return look


@pytest.fixture
def folder(directories, tmp_path):
    return shutil.copytree(
        directories[BASE, "llama"], tmp_path / "model", ignore=lambda *_: {".internlm-zoo"}
    )


def kept(folder: Path):
    return json.loads((folder / ".internlm-zoo" / "smoke.json").read_text())


def test_the_store_shows_the_result_until_its_files_change(zoo, stored):
    assert (stored()["smoke"], stored()["format"], stored()["hub"]) == (None, "original", "bundled")
    assert zoo("smoke", CHAT, "--offline")[0] == 0
    release = stored()
    smoke = release["smoke"]
    assert (smoke["outcome"], smoke["current"]) == ("passed", True)
    assert {"name": "tokens", "outcome": "passed"} in smoke["checks"]
    told = f"passed {smoke['when'][:10]}"
    assert told in zoo("list", "--cached")[1] and told in zoo("show", CHAT)[1]
    assert zoo("verify", CHAT)[0] == 0 == zoo("cache", "verify")[0]
    weights = (Path(release["path"]) / "model_tp0_pp0.pt").resolve()
    before = weights.stat()
    weights.chmod(0o644)
    with weights.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not stored()["smoke"]["current"]
    assert "of other files" in zoo("list", "--cached")[1]
    assert zoo("cache", "rm", CHAT)[0] == 0 and not Path(release["path"]).exists()


def test_a_folder_of_ones_own_keeps_it_and_counts_as_untouched(zoo, folder, tmp_path):
    assert zoo("smoke", folder, "--as", REWARD)[0] == 1
    assert kept(folder)["outcome"] == "failed" and kept(folder)["schema"] == 1
    assert json.loads(zoo("inspect", folder, "--json")[1])["smoke"]["outcome"] == "failed"
    assert "failed 20" in zoo("inspect", folder)[1]
    report = json.loads(zoo("verify", folder, "--quick", "--json")[1])["folders"][0]
    assert (report["extra"], report["added"], report["wrong"]) == ([], [], [])
    assert zoo("convert", folder, tmp_path / "hf", "--to", "hf")[0] == 0
    assert not (tmp_path / "hf" / ".internlm-zoo").exists()
    assert zoo("compare", folder, tmp_path / "hf")[0] == 0


@pytest.mark.parametrize("way", ["file", "link", "newer"])
def test_what_is_in_the_way_stays_and_is_no_failure_of_the_test(zoo, folder, tmp_path, way):
    place = folder / ".internlm-zoo"
    if way == "link":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    elif way == "newer":
        place.mkdir()
        (place / "smoke.json").write_text('{"schema": 99}')
    else:
        place.write_text("mine")
    code, out, err = zoo("smoke", folder, "--as", REWARD)
    assert code == 1 and "FAIL" in out
    assert err.count("the result is not kept beside the model") == 1 and "Traceback" not in err
    if way == "newer":
        assert kept(folder) == {"schema": 99}
    assert not (tmp_path / "elsewhere").exists() or not any((tmp_path / "elsewhere").iterdir())


def test_a_damaged_record_is_written_anew(zoo, folder):
    (folder / ".internlm-zoo").mkdir()
    (folder / ".internlm-zoo" / "smoke.json").write_text('{"schema": 1, "outc')
    assert zoo("smoke", folder, "--as", REWARD)[0] == 1
    assert kept(folder)["outcome"] == "failed"


def test_a_record_that_cannot_be_read_costs_no_more_than_itself(zoo, stored):
    place = Path(stored()["path"]) / ".internlm-zoo" / "smoke.json"
    for text in ('{"schema": 1, "outc', '{"schema": 99}'):
        place.write_text(text)
        assert "error" in stored()["smoke"]
        assert "unreadable" in zoo("list", "--cached")[1]


@pytest.mark.slow
@pytest.mark.parametrize("options", ["size=4m", "ro"])
def test_a_full_or_read_only_disk_is_no_failure_of_the_test(folder, tmp_path, options):
    """The disk of 4 MB is filled to its last byte."""
    run = f"{sys.executable} -m internlm_zoo smoke {folder} --as {REWARD}"
    if options == "ro":
        mount, fill = f"--bind -o ro {folder} {folder}", "true"
    else:
        aside = shutil.copytree(folder, tmp_path / "aside")
        mount, fill = f"-t tmpfs -o {options} tmpfs {folder}", f"cp -r {aside}/. {folder}"
        fill += f"; cat /dev/zero > {folder}/filler 2>/dev/null"
    done = run_after(mount, "sh", "-c", f"{fill}; {run}")
    assert done.returncode == 1 and "FAIL" in done.stdout
    assert "the result is not kept beside the model" in done.stderr and "Traceback" not in done.stderr

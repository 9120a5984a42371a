"""What a mirror removes: named and counted before, held against a limit, and never what was not its own."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from internlm_zoo.errors import UsageError
from internlm_zoo.mirror import Report, RunOptions, apply, diff, plan
from internlm_zoo.progress import Progress
from tests.mirror.conftest import Shell
from tests.mirror.world import BASE, CHAT, World, weights

CHAT_AT, BASE_AT = "acme/tiny-chat", "acme/tiny-base"
HF = {"formats": ["hf"], "hubs": ["huggingface"]}


def tree(world: World) -> dict[str, tuple[int, int]]:
    """Size and time of every file of the releases, by a walk."""
    files = (path for org in world.mirror.glob("[!.]*/*") for path in org.rglob("*") if path.is_file())
    return {
        path.relative_to(world.mirror).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in files
    }


def applied(world: World, progress: Progress | None = None, **options: Any) -> Report:
    return apply(world.file, settings=world.settings, options=RunOptions(**options), progress=progress)


def planned(world: World) -> Report:
    return plan(world.file, settings=world.settings)


def removed(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> tuple[int, int]:
    gone = before.keys() - after.keys()
    return len(gone), sum(before[path][0] for path in gone)


def test_a_plan_counts_what_prune_deletes_and_the_apply_deletes_that(world: World, shell: Shell) -> None:
    applied(world)
    (world.mirror / CHAT_AT / "notes.txt").write_text("came later")
    world.ask(models=["tiny-base"], prune=True, max_delete="100%")
    code, out = shell("plan", "--json")
    answer = json.loads(out)
    before = tree(world)
    assert applied(world).result == "changed"
    files, size = removed(before, tree(world))
    assert files == len(CHAT) + 1 + 2
    assert code == 1
    assert (answer["files"]["delete"]["files"], answer["files"]["delete"]["bytes"]) == (files, size)
    named = {
        f"{release['path']}/{action['path']}"
        for release in answer["releases"]
        for action in release["actions"]
        if action["kind"] == "delete"
    }
    assert named == before.keys() - tree(world).keys()


def test_tables_and_the_summary_say_how_much_goes(world: World, shell: Shell, tmp_path: Path) -> None:
    world.ask(**HF)
    applied(world)
    world.ask(models=["tiny-base"], prune=True, **HF)
    _, out = shell("plan", "--summary", str(tmp_path / "plan.md"))
    assert "5 to delete, 1.2 MB" in out
    assert "In all: 5 to delete, 1.2 MB; 2 kept, 300.0 kB." in out
    assert "model.safetensors" in out
    summary = (tmp_path / "plan.md").read_text()
    assert "5: 1.2 MB" in next(line for line in summary.splitlines() if line.startswith("| **in all**"))
    assert "- to delete: `sub/tokenizer.model` (unwanted)" in summary
    assert "--max-delete 5" in summary


def test_without_prune_nothing_is_drift_and_what_is_unwanted_is_kept(world: World, shell: Shell) -> None:
    applied(world)
    (world.mirror / BASE_AT / "stray.txt").write_text("mine")
    world.ask(models=["tiny-base"])
    before = tree(world)
    for verb in ("plan", "diff", "apply"):
        code, out = shell(verb, "--json")
        answer = json.loads(out)
        assert (code, answer["result"], answer["files"]["delete"]["files"]) == (0, "no change", 0)
        by_path = {release["path"]: release for release in answer["releases"]}
        assert by_path[CHAT_AT]["state"] == "unwanted"
        assert {(it["kind"], it["why"]) for it in by_path[CHAT_AT]["actions"]} == {("keep", "unwanted")}
        assert [(it["kind"], it["path"], it["why"]) for it in by_path[BASE_AT]["actions"]] == [
            ("keep", "stray.txt", "extra")
        ]
        assert answer["files"]["keep"]["files"] == len(before)
    assert tree(world) == before


def test_diff_and_plan_agree_on_what_prune_removes(world: World) -> None:
    applied(world)
    (world.mirror / BASE_AT / "stray.txt").write_text("mine")
    world.ask(models=["tiny-base"], prune=True)
    found, there = planned(world), diff(world.file, settings=world.settings)
    assert (found.result, there.result) == ("changes", "drift")
    assert found.exit_code == there.exit_code == 1
    assert found.files == there.files
    assert [it.actions for it in found.releases] == [it.actions for it in there.releases]
    assert applied(world, max_delete="100%").result == "changed"
    assert diff(world.file, settings=world.settings).result == "no change"
    assert {path.name for path in world.mirror.iterdir()} == {"acme", "mirror.json"}
    assert world.held(BASE_AT) == BASE


def test_more_than_max_delete_stops_before_anything_is_done(world: World, shell: Shell) -> None:
    world.ask(**HF)
    applied(world)
    world.put("huggingface", BASE_AT, "README.md", b"new")
    before, index = tree(world), (world.mirror / "mirror.json").read_bytes()
    # 5 of 7 files are to go: 71.4 % of the files, 80.5 % of the bytes.
    for limit, option in [(None, None), (4, None), ("71%", None), ("75%", None), (0, None), (5, "0")]:
        fields = {} if limit is None else {"max_delete": limit}
        world.ask(models=["tiny-base"], prune=True, **HF, **fields)
        code, out = shell("apply", "--json", *(("--max-delete", option) if option else ()))
        answer = json.loads(out)
        assert (code, answer["result"], answer["exit_code"]) == (9, "stopped", 9), limit
        assert "5 of the 7 files" in answer["excess"]
        assert (tree(world), (world.mirror / "mirror.json").read_bytes()) == (before, index)
        assert not (world.mirror / ".incoming").exists()
    assert "`--max-delete 5`" in shell("apply", "--max-delete", "4")[1]


@pytest.mark.parametrize(("limit", "option"), [(5, None), ("80.6%", None), (None, "5"), (0, "100%")], ids=str)
def test_as_much_as_max_delete_may_go(
    world: World, shell: Shell, limit: str | int | None, option: str | None
) -> None:
    world.ask(**HF)
    applied(world)
    world.ask(models=["tiny-base"], prune=True, **HF, **({} if limit is None else {"max_delete": limit}))
    before = tree(world)
    assert shell("apply", *(("--max-delete", option) if option else ()))[0] == 0
    assert removed(before, tree(world))[0] == 5


def test_a_max_delete_that_is_none_is_refused(world: World, shell: Shell) -> None:
    for text in ("-1", "many", "101%", "2.5", "%", "1e3", "true", "\u0663"):
        world.ask()
        assert shell("apply", "--max-delete", text)[0] == 2, text
        world.ask(max_delete=text)
        assert shell("plan")[0] == 2, text
    for value in (True, 2.5, None, [5]):
        world.ask(max_delete=value)
        assert shell("plan")[0] == 2, value
    assert world.sent == 0


def test_a_hub_that_lists_half_of_one_release_of_many_is_stopped(world: World) -> None:
    world.ask(**HF)
    applied(world)
    for path in ("README.md", "config.json", "sub/tokenizer.model"):
        world.put("huggingface", CHAT_AT, path, None)
    world.put("huggingface", BASE_AT, "config.json", b"[]\n")
    before = tree(world)
    report = applied(world, max_delete="50%")  # 3 of 7 files are less than half of the mirror
    assert (report.result, tree(world)) == ("stopped", before)
    assert report.excess is not None
    assert f"3 of the 5 files of {CHAT_AT}" in report.excess


def test_a_hub_that_lists_nothing_removes_nothing(world: World) -> None:
    world.ask(models=["tiny-chat"], prune=True, **HF)
    applied(world)
    before = tree(world)
    for path in CHAT:
        world.put("huggingface", CHAT_AT, path, None)
    assert applied(world, max_delete="100%").exit_code == 4
    assert tree(world) == before


def test_a_model_that_left_the_registry_goes_only_within_the_limit(world: World) -> None:
    world.ask(models=["tiny-[bc]*"], prune=True, **HF)
    applied(world)
    overlay = world.root / "overlay.yaml"
    overlay.write_text(re.sub(r"  tiny-chat:.*?(?=  tiny-base:)", "", overlay.read_text(), flags=re.S))
    before = tree(world)
    assert (applied(world).result, tree(world)) == ("stopped", before)
    world.ask(models=["tiny-chat", "tiny-base"], prune=True, **HF)
    with pytest.raises(UsageError, match="no model is called 'tiny-chat'"):
        applied(world)
    assert tree(world) == before


def test_a_replaced_file_is_no_deletion(world: World) -> None:
    world.ask(**HF)
    applied(world)
    world.put("huggingface", CHAT_AT, "model.safetensors", weights(8, 700_000))
    report = applied(world, max_delete=0)
    assert (report.result, report.files.update.files, report.files.update.bytes) == ("changed", 1, 700_000)


def test_what_lay_there_before_the_mirror_is_never_replaced_or_removed(world: World) -> None:
    mine = world.mirror / BASE_AT
    mine.mkdir(parents=True)
    (mine / "model.safetensors").write_bytes(b"trained for weeks")
    (mine / "log.txt").write_text("epoch 3")
    (world.mirror / "photos").mkdir()
    (world.mirror / "photos" / "cat.jpg").write_text("cat")
    upload = world.mirror / ".incoming" / "somebody"
    upload.mkdir(parents=True)
    (upload / "file").write_text("theirs")
    world.ask(prune=True, **HF)
    before = tree(world)
    report = applied(world, max_delete="100%")
    assert (report.result, report.exit_code) == ("partly", 3)
    base = next(release for release in report.releases if release.path == BASE_AT)
    assert "model.safetensors is in the way" in str(base.problem)
    assert before.items() <= tree(world).items()
    (mine / "model.safetensors").rename(world.root / "mine")
    assert applied(world, max_delete="100%").result == "changed"
    world.ask(models=["tiny-chat"], prune=True, **HF)
    for _ in range(2):
        applied(world, max_delete="100%")
        assert (mine / "log.txt").read_text() == "epoch 3"
        assert (upload / "file").read_text() == "theirs"
        assert (world.mirror / "photos" / "cat.jpg").exists()
    assert not (mine / "model.safetensors").exists()


def test_what_systems_and_tools_leave_is_neither_counted_nor_removed(world: World) -> None:
    world.ask(models=["tiny-chat"], prune=True, **HF)
    applied(world)
    left = [".git/HEAD", ".cache/huggingface/x.lock", "sub/.DS_Store", "lost+found/1"]
    for path in left:
        (world.mirror / CHAT_AT / path).parent.mkdir(parents=True, exist_ok=True)
        (world.mirror / CHAT_AT / path).write_text("x")
    report = planned(world)
    assert (report.result, report.files.here.files) == ("no change", len(CHAT))
    world.ask(models=["tiny-base"], prune=True, **HF)
    applied(world, max_delete="100%")
    assert sorted(world.held(CHAT_AT)) == sorted(left)


def test_a_file_written_to_after_it_was_planned_to_go_stays(world: World) -> None:
    world.ask(**HF)
    applied(world)
    stray = world.mirror / BASE_AT / "stray.txt"
    stray.write_text("old")
    os.utime(stray, (1, 1))
    world.put("huggingface", CHAT_AT, "README.md", b"# longer on its way\n")
    world.ask(prune=True, **HF)

    class Writes(Progress):
        def start(self, name: str, size: int | None, done: int = 0) -> None:
            if name == "README.md":
                stray.write_text("new")

    report = applied(world, progress=Writes(), max_delete="100%")
    assert stray.read_text() == "new"
    assert report.files.delete.files == 0
    base = next(release for release in report.releases if release.path == BASE_AT)
    assert [(it.kind, it.why) for it in base.actions] == [("keep", "touched")]


def test_a_next_hub_that_has_less_than_the_planned_one_removes_nothing(world: World) -> None:
    world.ask(models=["tiny-base"], formats=["hf"], hubs=["modelscope"])
    applied(world)
    world.put("huggingface", BASE_AT, "config.json", b'{"newer": 1}\n')
    world.put("modelscope", "Acme_Lab/tiny-base", "config.json", None)
    world.hubs["huggingface"].fault("flip", "config.json", after=1)
    world.ask(models=["tiny-base"], formats=["hf"], hubs=["huggingface", "modelscope"])
    report = applied(world, max_delete="100%")
    assert report.exit_code != 0
    assert world.held(BASE_AT) == BASE


def test_unfinished_downloads_of_other_releases_are_in_the_plan(world: World) -> None:
    world.ask(**HF)
    applied(world)
    stage = world.mirror / ".incoming" / "acme--tiny-lost" / ".internlm-zoo" / "partial"
    stage.mkdir(parents=True)
    (stage / "x.part").write_bytes(bytes(3000))
    report = planned(world)
    assert (report.result, report.unfinished.files, report.unfinished.bytes) == ("no change", 1, 3000)
    applied(world)
    assert not (world.mirror / ".incoming").exists()


def test_a_mirror_inside_a_git_work_tree_is_warned_about(world: World, shell: Shell) -> None:
    (world.root / ".git").mkdir()
    for verb in ("plan", "apply"):
        _, out = shell(verb, "--json")
        assert any("git work tree" in note for note in json.loads(out)["notes"])
    outside = world.root / "checkout"
    outside.mkdir()
    (world.root / ".git").rename(outside / ".git")
    assert planned(world).notes == ()
    (outside / "mirror").symlink_to(world.mirror)
    world.ask(destination=str(outside / "mirror"))
    assert planned(world).notes != ()

"""Plan, apply and diff against three loopback hubs, by report, bytes moved and what lies there."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from internlm_zoo.errors import IntegrityError, UsageError
from internlm_zoo.mirror import ReleaseReport, Report, RunOptions, apply, diff, plan
from internlm_zoo.progress import Progress
from internlm_zoo.registry.lock import Lock
from tests.mirror.world import BASE, CHAT, ORIGINAL, World

CHAT_AT, BASE_AT, ORIGINAL_AT = "acme/tiny-chat", "acme/tiny-base", "AcmeLab/Tiny-chat-original"


class Heard(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def applied(world: World, progress: Progress | None = None, **options: Any) -> Report:
    return apply(world.file, settings=world.settings, options=RunOptions(**options), progress=progress)


def planned(world: World) -> Report:
    return plan(world.file, settings=world.settings)


def compared(world: World, **options: Any) -> Report:
    return diff(world.file, settings=world.settings, options=RunOptions(**options))


def release(report: Report, path: str) -> ReleaseReport:
    return next(release for release in report.releases if release.path == path)


def why(report: Report, path: str) -> dict[str, str]:
    return {action.path: action.why for action in release(report, path).actions}


def test_a_mirror_holds_what_the_hubs_hold_as_plain_files(world: World) -> None:
    report = applied(world)
    assert (report.result, report.exit_code) == ("changed", 0)
    assert world.held(CHAT_AT) == CHAT
    assert world.held(BASE_AT) == BASE
    assert world.held(ORIGINAL_AT) == ORIGINAL
    assert not any(path.is_symlink() for path in world.mirror.rglob("*"))
    assert not (world.mirror / ".incoming").exists()
    assert (
        report.fetched_bytes
        == world.sent
        == sum(map(len, (*CHAT.values(), *BASE.values(), *ORIGINAL.values())))
    )


def test_the_index_names_every_hubs_repository_and_every_digest(world: World) -> None:
    applied(world)
    held = world.index()[CHAT_AT]
    assert {(name["hub"], name["repo"]) for name in held["names"]} == {
        ("huggingface", "acme/tiny-chat"),
        ("huggingface", "acme/chat-tiny"),
        ("modelscope", "Acme_Lab/tiny-chat"),
        ("modelers", "AcmeOne/tiny_chat"),
        ("openxlab", "AcmeLab/Tiny-chat"),
    }
    for file in held["files"]:
        content = CHAT[file["path"]]
        assert (file["size"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert file["git_sha1"] == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    assert (held["trust"], world.index()[ORIGINAL_AT]["trust"]) == ("hub", "first-use")


def test_a_plan_touches_nothing_and_says_all(world: World) -> None:
    report = planned(world)
    assert (report.result, report.exit_code) == ("changes", 1)
    assert why(report, CHAT_AT) == dict.fromkeys(CHAT, "absent")
    assert release(report, CHAT_AT).to_fetch == sum(map(len, CHAT.values()))
    assert release(report, CHAT_AT).source == "huggingface:acme/tiny-chat"
    assert release(report, ORIGINAL_AT).to_fetch is None
    assert world.sent == 0
    assert not world.mirror.exists()


def test_a_second_apply_moves_no_byte_and_touches_no_file(world: World) -> None:
    applied(world)
    sent, before = (
        world.sent,
        {path: path.stat().st_mtime_ns for path in world.mirror.rglob("*") if path.is_file()},
    )
    for report in (applied(world), planned(world), compared(world), applied(world, deep=True)):
        assert (report.result, report.exit_code, report.fetched_bytes) == ("no change", 0, 0)
    assert world.sent == sent
    after = {path: path.stat().st_mtime_ns for path in world.mirror.rglob("*") if path.is_file()}
    assert {path: time for path, time in after.items() if path.name != ".mirror.guard"} == {
        path: time for path, time in before.items() if path.name != ".mirror.guard"
    }


def test_a_moved_hub_is_drift_and_costs_only_what_changed(world: World) -> None:
    applied(world)
    world.put("huggingface", CHAT_AT, "README.md", b"# tiny, edited\n")
    world.put("huggingface", CHAT_AT, "extra.txt", b"more")
    world.put("huggingface", CHAT_AT, "config.json", None)
    drift = compared(world)
    assert (drift.result, drift.exit_code) == ("drift", 1)
    assert why(drift, CHAT_AT) == {"README.md": "behind", "extra.txt": "absent", "config.json": "gone"}
    sent = world.sent
    report = applied(world)
    assert report.result == "changed"
    assert world.sent - sent == len(b"# tiny, edited\n") + len(b"more")
    expected = {**CHAT, "README.md": b"# tiny, edited\n", "extra.txt": b"more"}
    del expected["config.json"]
    assert world.held(CHAT_AT) == expected
    assert release(report, CHAT_AT).before != release(report, CHAT_AT).revision
    assert world.index()[CHAT_AT]["revision"] == release(report, CHAT_AT).revision
    assert compared(world).result == "no change"


def test_a_damaged_and_a_lost_file_are_drift_and_mended(world: World) -> None:
    applied(world)
    sent = world.sent
    (world.mirror / CHAT_AT / "sub/tokenizer.model").write_bytes(bytes(40_000))
    (world.mirror / CHAT_AT / "README.md").unlink()
    drift = compared(world)
    assert (drift.result, drift.exit_code) == ("drift", 1)
    assert why(drift, CHAT_AT) == {"sub/tokenizer.model": "damaged", "README.md": "missing"}
    assert applied(world).result == "changed"
    assert world.held(CHAT_AT) == CHAT
    assert world.sent - sent == 40_000 + len(CHAT["README.md"])


def test_a_bit_that_rotted_without_a_trace_is_found_by_a_deep_look(world: World) -> None:
    applied(world)
    file = world.mirror / BASE_AT / "model.safetensors"
    times = file.stat()
    with file.open("r+b") as stream:
        stream.write(bytes([BASE["model.safetensors"][0] ^ 1]))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert compared(world).result == "no change"
    assert why(compared(world, deep=True), BASE_AT) == {"model.safetensors": "damaged"}
    applied(world, deep=True)
    assert world.held(BASE_AT) == BASE


def test_a_link_in_place_of_a_file_is_replaced_by_the_file(world: World, tmp_path: Path) -> None:
    applied(world)
    file = world.mirror / BASE_AT / "model.safetensors"
    elsewhere = tmp_path / "elsewhere"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    assert why(compared(world), BASE_AT) == {"model.safetensors": "damaged"}
    applied(world)
    assert not file.is_symlink()
    assert world.held(BASE_AT) == BASE
    assert elsewhere.read_bytes() == BASE["model.safetensors"]


def test_wrong_bytes_from_one_hub_are_taken_from_the_next_and_that_is_said(world: World) -> None:
    world.hubs["huggingface"].fault("flip", "model.safetensors", after=1000)
    heard = Heard()
    report = applied(world, progress=heard)
    assert report.result == "changed"
    assert world.held(CHAT_AT) == CHAT
    assert release(report, CHAT_AT).served["modelscope"] >= len(CHAT["model.safetensors"])
    assert any("huggingface" in note and "wrong" in note for note in release(report, CHAT_AT).notes)
    assert any("wrong" in note for note in heard.notes)


def test_a_hub_that_lies_in_its_listing_is_left_for_the_next(world: World) -> None:
    world.ask(models=["tiny-base"])
    world.hubs["huggingface"].fault("wrong-digest")
    report = applied(world)
    assert report.result == "changed"
    assert release(report, BASE_AT).source == "modelscope:Acme_Lab/tiny-base"
    assert any("huggingface" in note for note in release(report, BASE_AT).notes)
    assert world.held(BASE_AT) == BASE


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "evil/CON", "C:evil"])
def test_hostile_names_in_listings_reach_no_disk(world: World, name: str) -> None:
    world.ask(models=["tiny-base"])
    for hub in world.hubs.values():
        hub.fault("evil-name", path=name)
    report = applied(world)
    assert (report.result, report.exit_code) == ("failed", IntegrityError.exit_code)
    assert "refused the file name" in str(release(report, BASE_AT).problem)
    assert not any("evil" in path.name for path in world.root.rglob("*"))
    assert world.held(BASE_AT) == {}


def test_a_listed_name_that_is_our_own_bookkeeping_is_left_out(world: World) -> None:
    world.ask(models=["tiny-base"])
    world.hubs["huggingface"].fault("evil-name", path=".internlm-zoo/release.json")
    report = applied(world)
    assert (report.result, release(report, BASE_AT).source) == ("changed", "huggingface:acme/tiny-base")
    assert world.held(BASE_AT) == BASE
    assert applied(world).result == "no change"


def test_one_model_missing_everywhere_is_partly(world: World) -> None:
    world.ask(models=["tiny-base", "tiny-lost"])
    assert planned(world).result == "changes"
    report = applied(world)
    assert (report.result, report.exit_code) == ("partly", 3)
    assert world.held(BASE_AT) == BASE
    lost = release(report, "acme/tiny-lost")
    assert lost.state == "failed"
    assert lost.problem is not None
    assert "huggingface" in lost.problem
    assert "modelscope" in lost.problem
    for again in (planned(world), applied(world), compared(world)):
        assert (again.result, again.exit_code, again.fetched_bytes) == ("partly", 3, 0)


def test_all_models_missing_is_a_failure_with_the_code_of_its_kind(world: World) -> None:
    world.ask(models=["tiny-lost"])
    assert (applied(world).result, applied(world).exit_code) == ("failed", 4)
    for hub in world.hubs.values():
        hub.fault("reset", "/*")
    assert (applied(world).result, applied(world).exit_code) == ("failed", 5)


def test_a_release_stays_when_its_hub_is_silent_and_the_next_has_another(world: World) -> None:
    world.ask(models=["tiny-base"])
    applied(world)
    world.put("modelscope", "Acme_Lab/tiny-base", "config.json", b'{"other": true}\n')
    world.hubs["huggingface"].fault("reset", "/*")
    report = applied(world)
    assert (report.result, report.fetched_bytes) == ("failed", 0)
    assert "stays as it is" in str(release(report, BASE_AT).problem)
    assert world.held(BASE_AT) == BASE


def test_the_next_hub_with_the_same_files_is_no_change(world: World) -> None:
    world.ask(models=["tiny-base"])
    applied(world)
    index = world.index()
    world.hubs["huggingface"].fault("reset", "/*")
    report = applied(world)
    assert (report.result, report.exit_code, report.fetched_bytes) == ("no change", 0, 0)
    assert world.index() == index
    assert any("huggingface" in note for note in release(report, BASE_AT).notes)


@pytest.mark.parametrize("lock", ["kept", "lost"])
def test_other_bytes_under_the_same_revision_are_refused(world: World, lock: str) -> None:
    world.ask(models=["tiny-base"])
    applied(world)
    if lock == "lost":
        (world.settings.home / "registry.lock").unlink()
    # The hub says that it is the file of before: the revision stays, git's digest does not.
    changed = world.root / "huggingface" / BASE_AT / "config.json"
    changed.write_bytes(b"[]\n")
    index = world.root / "huggingface" / "mirror.json"
    document = json.loads(index.read_text())
    for held in document["releases"]:
        for file in held["files"]:
            if (held["path"], file["path"]) == (BASE_AT, "config.json"):
                file["stamp"] = str(changed.stat().st_mtime_ns)
    index.write_text(json.dumps(document))
    for report in (planned(world), applied(world)):
        assert (report.result, report.fetched_bytes) == ("no change", 0)
        assert any("under the same revision" in note for note in release(report, BASE_AT).notes)
    assert world.held(BASE_AT) == BASE
    world.hubs["modelscope"].fault("reset", "/*")
    assert (planned(world).result, planned(world).exit_code) == ("failed", 6)


def test_damage_is_found_while_no_hub_answers_and_nothing_is_made_worse(world: World) -> None:
    world.ask(models=["tiny-base"])
    applied(world)
    (world.mirror / BASE_AT / "model.safetensors").write_bytes(b"spoilt")
    for hub in world.hubs.values():
        hub.fault("reset", "/*")
    drift = compared(world)
    assert (drift.result, drift.exit_code) == ("drift", 1)
    assert why(drift, BASE_AT) == {"model.safetensors": "damaged"}
    assert (applied(world).result, applied(world).exit_code) == ("failed", 5)
    assert world.held(BASE_AT) == {**BASE, "model.safetensors": b"spoilt"}
    for hub in world.hubs.values():
        hub.clear()
    applied(world)
    assert world.held(BASE_AT) == BASE


def test_a_new_revision_with_the_same_files_is_recorded_without_a_byte(world: World) -> None:
    world.ask(models=["tiny-base"])
    applied(world)
    index = world.root / "huggingface" / "mirror.json"
    document = json.loads(index.read_text())
    for entry in document["releases"]:
        entry["revision"] = "ab" * 20
    index.write_text(json.dumps(document))
    drift = compared(world)
    assert (drift.result, release(drift, BASE_AT).actions) == ("drift", ())
    assert any("another revision" in note for note in release(drift, BASE_AT).notes)
    report = applied(world)
    assert (report.result, report.fetched_bytes) == ("changed", 0)
    assert world.index()[BASE_AT]["revision"] == "ab" * 20
    assert compared(world).result == "no change"


def test_offline_nothing_is_asked(world: World) -> None:
    report = plan(world.file, settings=world.settings.with_options(offline=True))
    assert (report.result, report.exit_code) == ("failed", 5)
    assert not any(hub.requests for hub in world.hubs.values())


def test_the_order_of_hubs_is_the_mirror_files(world: World) -> None:
    world.ask(models=["tiny-chat"], formats=["hf"], hubs=["modelscope"])
    report = applied(world)
    assert release(report, CHAT_AT).source == "modelscope:Acme_Lab/tiny-chat"
    assert world.hubs["huggingface"].requests == []
    assert world.held(CHAT_AT) == CHAT


def test_right_files_that_no_index_speaks_of_are_adopted(world: World) -> None:
    world.ask(models=["tiny-base", "tiny-chat"], formats=["hf"])
    applied(world)
    (world.mirror / "mirror.json").unlink()
    sent = world.sent
    report = planned(world)
    assert (report.result, report.files.copy.files, report.files.update.files) == ("changes", 0, 0)
    assert why(report, CHAT_AT) == dict.fromkeys(CHAT, "here")
    assert (applied(world).result, world.sent) == ("changed", sent)
    assert world.held(CHAT_AT) == CHAT
    assert world.held(BASE_AT) == BASE
    assert compared(world).result == "no change"


def test_files_in_the_store_are_not_fetched_again(world: World) -> None:
    from internlm_zoo import download

    download("tiny-base", settings=world.settings)
    sent = world.sent
    world.ask(models=["tiny-base"])
    assert (applied(world).result, world.sent - sent) == ("changed", 0)
    assert world.held(BASE_AT) == BASE


def test_the_lock_records_what_came_and_is_held_to(world: World) -> None:
    world.ask(models=["tiny-base"])
    report = applied(world)
    revision = release(report, BASE_AT).revision
    locked = Lock.load(world.settings).find("huggingface", BASE_AT, revision)
    assert locked is not None
    assert {file.path: file.sha256 for file in locked.files} == {
        path: hashlib.sha256(content).hexdigest() for path, content in BASE.items()
    }


def test_two_applies_do_not_meet(world: World) -> None:
    from internlm_zoo.mirror.destinations import open_destination

    with open_destination(str(world.mirror)).guard(), pytest.raises(UsageError, match="at work"):
        applied(world)

"""What a mirror's verbs can be told, as `download` can: sources, files, rate; and what is here already."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from internlm_zoo import download, plan_download
from internlm_zoo.mirror import Report, RunOptions, apply, plan
from tests.mirror.conftest import Shell
from tests.mirror.world import BASE, CHAT, World, weights

CHAT_AT, BASE_AT = "acme/tiny-chat", "acme/tiny-base"
HF = {"formats": ["hf"], "hubs": ["huggingface"]}
BASE_SIZE = sum(map(len, BASE.values()))


def both(world: World, **options: Any) -> tuple[Report, Report]:
    """A plan and the apply after it, held against the bytes that the hubs sent."""
    told = RunOptions(**options)
    sent = world.sent
    said = plan(world.file, settings=world.settings, options=told)
    assert world.sent == sent
    did = apply(world.file, settings=world.settings, options=told)
    assert said.to_fetch == world.sent - sent == did.fetched_bytes
    assert (said.files, said.at_hand) == (did.files, did.at_hand)
    return said, did


def test_a_plan_counts_what_the_store_holds(world: World) -> None:
    download("tiny-base", settings=world.settings)
    world.ask(**HF)
    said, _ = both(world)
    base = next(release for release in said.releases if release.path == BASE_AT)
    assert (base.to_fetch, base.at_hand) == (0, BASE_SIZE)
    assert {Path(str(action.taken_from)).is_file() for action in base.actions} == {True}
    assert world.held(BASE_AT) == BASE


def test_a_dry_run_into_a_folder_counts_what_the_store_holds(world: World) -> None:
    download("tiny-base", settings=world.settings)
    sent = world.sent
    said = plan_download("tiny-base", settings=world.settings, local_dir=world.root / "folder")
    download("tiny-base", settings=world.settings, local_dir=world.root / "folder")
    assert said.to_fetch == world.sent - sent == 0


def test_what_the_hubs_list_by_gits_digest_alone_is_found_in_the_store(world: World) -> None:
    small = b'{"a": 1}\n'
    for path in ("acme/tiny-base", "acme/tiny-chat"):
        world.put("huggingface", path, "same.json", small)
    download("tiny-chat", ["same.json"], settings=world.settings)
    world.ask(models=["tiny-base"], **HF)
    said, _ = both(world)
    assert said.at_hand == len(small)


def test_files_in_other_caches_and_adopted_folders_are_taken(world: World, tmp_path: Path) -> None:
    content = BASE["model.safetensors"]
    blob = tmp_path / "hf" / "models--any--name" / "blobs" / hashlib.sha256(content).hexdigest()
    blob.parent.mkdir(parents=True)
    blob.write_bytes(content)
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    (tmp_path / "mine" / "deep" / "model.safetensors").write_bytes(CHAT["model.safetensors"])
    world.more["HF_HUB_CACHE"] = str(tmp_path / "hf")
    world.ask(**HF)
    said, _ = both(world, adopt=[tmp_path / "mine"])
    assert said.at_hand == len(content) + len(CHAT["model.safetensors"])
    assert (world.held(BASE_AT), world.held(CHAT_AT)) == (BASE, CHAT)


def test_what_another_release_of_the_mirror_has_or_gets_is_fetched_once(world: World) -> None:
    shared = weights(11, 250_000)
    for path in (CHAT_AT, BASE_AT):
        world.put("huggingface", path, "shared.bin", shared)
    world.ask(**HF)
    said, _ = both(world)
    assert said.at_hand == len(shared)
    world.put("huggingface", BASE_AT, "again.bin", shared)
    said, did = both(world)
    assert (said.to_fetch, did.fetched_bytes, said.at_hand) == (0, 0, len(shared))
    assert world.held(BASE_AT)["again.bin"] == shared


def test_a_damaged_file_of_the_mirror_is_no_place_to_take_it_from(world: World) -> None:
    world.ask(models=["tiny-base"], **HF)
    both(world)
    (world.mirror / BASE_AT / "model.safetensors").write_bytes(bytes(300_000))
    said, _ = both(world)
    assert (said.to_fetch, said.at_hand) == (300_000, 0)
    assert world.held(BASE_AT) == BASE


def test_a_run_about_some_files_brings_them_and_removes_nothing(world: World, shell: Shell) -> None:
    world.ask(**HF)
    apply(world.file, settings=world.settings)
    (world.mirror / BASE_AT / "config.json").unlink()
    (world.mirror / BASE_AT / "stray.json").write_text("x")
    world.put("huggingface", CHAT_AT, "sub/new.json", b"{}")
    world.put("huggingface", CHAT_AT, "sub/new.bin", b"binary")
    world.ask(models=["tiny-chat"], prune=True, **HF)
    for options in (["sub/new.json"], ["--include", "*.json"], ["--exclude", "*.bin"]):
        code, out = shell("plan", "--json", *options)
        answer = json.loads(out)
        assert code == 1
        assert [it["path"] for it in answer["releases"][0]["actions"]] == ["sub/new.json"]
        assert (answer["files"]["copy"]["files"], answer["files"]["delete"]["files"]) == (1, 0)
    assert shell("apply", "--include", "*.json")[0] == 0
    assert (world.mirror / CHAT_AT / "sub/new.json").read_bytes() == b"{}"
    assert not (world.mirror / CHAT_AT / "sub/new.bin").exists()
    assert (world.mirror / BASE_AT / "stray.json").exists()
    assert (world.mirror / BASE_AT / "model.safetensors").exists()
    assert shell("apply", "--max-delete", "100%")[0] == 0
    assert (world.mirror / CHAT_AT / "sub/new.bin").exists()


def test_files_of_two_revisions_are_never_mixed(world: World, shell: Shell) -> None:
    world.ask(models=["tiny-chat"], **HF)
    apply(world.file, settings=world.settings)
    before = world.held(CHAT_AT)
    world.put("huggingface", CHAT_AT, "README.md", b"# new\n")
    world.put("huggingface", CHAT_AT, "config.json", b"{}\n")
    code, out = shell("apply", "README.md")
    assert code == 2
    assert "config.json moved on the hub as well" in out
    assert world.held(CHAT_AT) == before
    assert shell("apply", "sub/tokenizer.model")[0] == 0
    assert shell("apply")[0] == 0
    assert world.held(CHAT_AT)["README.md"] == b"# new\n"


def test_a_file_that_no_release_has_is_not_found(world: World, shell: Shell) -> None:
    world.ask(**HF)
    assert shell("plan", "config.jsn")[0] == 4
    assert shell("plan", "--include", "*.gguf")[0] == 4
    assert shell("plan", "sub/tokenizer.model")[0] == 1  # one of two releases has it


def test_the_mirror_file_chooses_files(world: World, shell: Shell) -> None:
    world.ask(include=["*.json", "*.safetensors"], exclude=["sub/*"], **HF)
    apply(world.file, settings=world.settings)
    assert set(world.held(CHAT_AT)) == {"config.json", "model.safetensors"}
    assert shell("diff")[0] == 0
    world.ask(include=["*.json"], **HF)
    code, out = shell("diff", "--json")
    assert code == 0
    actions = {(it["kind"], it["path"], it["why"]) for it in json.loads(out)["releases"][0]["actions"]}
    assert actions == {("keep", "model.safetensors", "unchosen")}
    world.ask(include=["*.json"], prune=True, max_delete="100%", **HF)
    both(world)
    assert set(world.held(CHAT_AT)) == {"config.json"}
    world.ask(include=["README.md"], **HF)
    code, out = shell("plan")
    assert code == 1
    assert "choose none of its files" in out


def test_another_source_is_asked_instead(world: World, shell: Shell) -> None:
    world.ask(models=["tiny-chat"], **HF)
    assert shell("apply", "--source", "modelscope")[0] == 0
    assert world.hubs["huggingface"].requests == []
    assert world.held(CHAT_AT) == CHAT
    (world.mirror / "mirror.json").unlink()
    sent = world.sent
    folder = str(world.root / "huggingface")
    assert json.loads(shell("plan", "--json", "--source", folder)[1])["releases"][0]["state"] == "new"
    (world.mirror / CHAT_AT / "README.md").unlink()
    assert shell("apply", "--source", folder)[0] == 0
    assert (world.held(CHAT_AT), world.sent) == (CHAT, sent)
    assert shell("plan", "--source", "nowhere")[0] == 4


def test_max_rate_holds(world: World, shell: Shell) -> None:
    world.ask(models=["tiny-base"], **HF)
    begun = time.monotonic()
    assert shell("apply", "--max-rate", "500KB")[0] == 0
    assert time.monotonic() - begun > 300_000 / 500_000 - 0.25
    assert shell("apply", "--max-rate", "1KB")[0] == 2
    assert shell("apply", "--max-rate", "fast")[0] == 2


@pytest.mark.parametrize("verb", ["plan", "diff", "apply"])
def test_a_folder_to_adopt_from_that_is_none_is_refused(shell: Shell, verb: str) -> None:
    assert shell(verb, "--adopt", "/no/such/folder")[0] == 2

"""A mirror whose own folder was tampered with: refused by name, and nothing outside it touched."""

from __future__ import annotations

import json
import shutil

import pytest

from internlm_zoo.errors import IntegrityError, UnsupportedError, UsageError
from internlm_zoo.mirror import RunOptions, apply, diff, plan
from internlm_zoo.serve.app import build_app
from tests.mirror.conftest import Shell
from tests.mirror.world import World


@pytest.mark.parametrize("path", ["../outside", "acme/../../outside", "acme", ".incoming/x", "/etc/x"])
def test_an_index_that_was_tampered_with_leads_nowhere_outside(world: World, path: str) -> None:
    world.ask(models=["tiny-base"])
    apply(world.file, settings=world.settings)
    outside = world.root / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    index = world.mirror / "mirror.json"
    index.write_text(index.read_text().replace('"path": "acme/tiny-base"', f'"path": "{path}"'))
    world.ask(models=["tiny-chat"], prune=True)
    for verb in (plan, apply):
        with pytest.raises(IntegrityError):
            verb(world.file, settings=world.settings)
    assert (outside / "precious").exists()


def test_a_folder_that_is_a_link_out_of_the_mirror_is_refused(world: World) -> None:
    outside = world.root / "outside"
    outside.mkdir()
    world.mirror.mkdir()
    (world.mirror / "acme").symlink_to(outside)
    with pytest.raises(IntegrityError):
        apply(world.file, settings=world.settings)
    assert list(outside.iterdir()) == []


def test_a_damaged_index_is_named(world: World) -> None:
    apply(world.file, settings=world.settings)
    (world.mirror / "mirror.json").write_bytes(b"{\xff")
    with pytest.raises(IntegrityError, match="index"):
        plan(world.file, settings=world.settings)


def test_a_destination_that_is_a_file_is_refused(world: World) -> None:
    world.mirror.write_text("")
    for verb in (plan, apply, diff):
        with pytest.raises(UsageError, match="not a directory"):
            verb(world.file, settings=world.settings)


@pytest.mark.parametrize("field", ["sha256", "git_sha1", "path", "size"])
def test_an_index_with_something_else_than_a_digest_or_a_name_is_damaged(world: World, field: str) -> None:
    """It was what `apply` copied and removed by."""
    world.ask(models=["tiny-base"])
    apply(world.file, settings=world.settings)
    index = world.mirror / "mirror.json"
    document = json.loads(index.read_text())
    document["releases"][0]["files"][0][field] = -1 if field == "size" else str(world.root / "outside")
    index.write_text(json.dumps(document))
    for verb in (plan, apply, diff):
        with pytest.raises(IntegrityError, match="index of the mirror"):
            verb(world.file, settings=world.settings)


def test_links_in_a_mirror_lead_no_removal_and_no_copy_outside(world: World) -> None:
    world.ask(models=["tiny-base", "tiny-chat"])
    apply(world.file, settings=world.settings)
    outside = world.root / "outside"
    (outside / ".internlm-zoo" / "partial").mkdir(parents=True)
    (outside / "precious").write_text("x")
    folder = world.mirror / "acme/tiny-base"
    (folder / "linked").symlink_to(outside)
    (folder / "loop").symlink_to("loop")
    (world.mirror / ".mirror.json.new").symlink_to(outside / "precious")
    stage = world.mirror / ".incoming" / "acme--tiny-lost"
    stage.parent.mkdir(exist_ok=True)
    stage.symlink_to(outside)
    world.ask(models=["tiny-chat"], prune=True)
    report = apply(world.file, settings=world.settings, options=RunOptions(max_delete="100%"))
    assert report.result == "changed" and not folder.exists()
    assert (outside / "precious").read_text() == "x" and len(list(outside.rglob("*"))) == 3
    if stage.parent.exists():
        shutil.rmtree(stage.parent)
    stage.parent.symlink_to(outside)
    world.ask(models=["tiny-base"])
    with pytest.raises(UsageError, match="a link is in the way"):
        apply(world.file, settings=world.settings)
    assert len(list(outside.rglob("*"))) == 3


def test_an_index_without_a_number_is_read_and_a_newer_one_is_named_by_mirror_and_server(
    world: World, shell: Shell
) -> None:
    world.ask(models=["tiny-base"])
    apply(world.file, settings=world.settings)
    index = world.mirror / "mirror.json"
    whole = index.read_bytes()
    index.write_bytes(whole.replace(b'"schema": 1,', b""))
    assert shell("plan")[0] == 0
    build_app(world.mirror)
    for told, kind in ((b'"schema": 99,', UnsupportedError), (b'"schema": "x",', IntegrityError)):
        index.write_bytes(changed := whole.replace(b'"schema": 1,', told))
        for verb in ("plan", "apply", "diff"):
            assert shell(verb)[0] == kind.exit_code
        with pytest.raises(kind, match=r"mirror\.json"):
            build_app(world.mirror)
        assert index.read_bytes() == changed

"""A mirror whose own folder was tampered with: refused by name, and nothing outside it touched."""

from __future__ import annotations

import pytest

from internlm_zoo.errors import IntegrityError, UsageError
from internlm_zoo.mirror import apply, diff, plan
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

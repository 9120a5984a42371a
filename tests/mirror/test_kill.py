"""Applies that get SIGKILL: what they leave behind is true, and the next one goes on from there."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

from internlm_zoo.mirror import RunOptions, apply, diff, plan
from tests.mirror.world import BASE, CHAT, ORIGINAL, World, weights

MEGABYTE = 1_000_000
APPLY = (
    "import sys, internlm_zoo.cli.mirror; from internlm_zoo.cli.shell import run; sys.exit(run(sys.argv[1:]))"
)


def kill_an_apply(world: World, when: Callable[[], bool], *options: str) -> None:
    settings = world.settings
    env = {
        **os.environ,
        **settings.environ,
        "INTERNLM_ZOO_HOME": str(settings.home),
        "INTERNLM_ZOO_REGISTRY": str(settings.registry),
    }
    command = [sys.executable, "-c", APPLY, "mirror", "apply", str(world.file), *options]
    child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        next(iter(world.hubs.values())).wait(when)
    finally:
        child.kill()
        child.wait()


def written(world: World) -> int:
    """Bytes of unfinished files, some of which are finished meanwhile."""
    total = 0
    for part in world.mirror.rglob("*.part"):
        with suppress(FileNotFoundError):
            total += part.stat().st_size
    return total


def assert_true(world: World) -> None:
    """Whatever the index says is so, and a release is all there or not at all."""
    if not (world.mirror / "mirror.json").exists():
        return
    for path, release in world.index().items():
        held = world.held(path)
        for file in release["files"]:
            assert hashlib.sha256(held[file["path"]]).hexdigest() == file["sha256"], file["path"]


def test_a_killed_apply_goes_on_in_the_middle_of_a_file(world: World) -> None:
    hub = world.hubs["huggingface"]
    large = weights(9, 24 * MEGABYTE)
    world.put("huggingface", "acme/tiny-base", "model.safetensors", large)
    world.ask(models=["tiny-base"], hubs=["huggingface"])
    hub.fault("stall", "model.safetensors", after=20 * MEGABYTE)
    kill_an_apply(world, lambda: written(world) >= 19 * MEGABYTE)
    assert world.held("acme/tiny-base") == {}, "a release that is not complete is not shown"
    hub.clear()
    sent, said = hub.sent, plan(world.file, settings=world.settings)
    report = apply(world.file, settings=world.settings)
    assert report.result == "changed"
    assert said.to_fetch is not None
    assert abs(said.to_fetch - (hub.sent - sent)) <= 8 * (1 << 20), "a plan counts what a killed run left"
    assert hub.sent - sent <= 24 * MEGABYTE - 2 * 8 * (1 << 20), "what was there was fetched again"
    assert world.held("acme/tiny-base") == {**BASE, "model.safetensors": large}
    assert diff(world.file, settings=world.settings, options=RunOptions(deep=True)).result == "no change"


def test_a_killed_apply_keeps_finished_files_of_a_hub_without_digests(world: World) -> None:
    hub = world.hubs["openxlab"]
    world.put("openxlab", "AcmeLab/Tiny-chat-original", "z_last.pt", weights(6, 200_000))
    world.ask(models=["tiny-chat"], formats=["original"])
    hub.fault("stall", "z_last.pt", after=1000)
    kill_an_apply(world, lambda: bool(hub.downloads("z_last.pt")), "--max-workers", "1")
    hub.clear()
    sent = hub.sent
    assert apply(world.file, settings=world.settings).result == "changed"
    assert 200_000 <= hub.sent - sent <= 201_000, "what the stall let through may be counted late"
    assert world.held("AcmeLab/Tiny-chat-original") == {**ORIGINAL, "z_last.pt": weights(6, 200_000)}


def test_whenever_it_is_killed_the_index_is_true_and_the_end_is_the_same(world: World) -> None:
    apply(world.file, settings=world.settings)
    for name in ("acme/tiny-chat", "acme/tiny-base"):
        world.put("huggingface", name, "config.json", b'{"second": 1}')
        world.put("huggingface", name, "model.safetensors", weights(7, 900_000))
    hub = world.hubs["huggingface"]
    hub.fault("delay", seconds=0.1)
    for more in (1, 2):
        seen = len(hub.downloads()) + more
        kill_an_apply(world, lambda seen=seen: len(hub.downloads()) >= seen)  # type: ignore[misc]
        assert_true(world)
    apply(world.file, settings=world.settings)
    assert_true(world)
    second = {"config.json": b'{"second": 1}', "model.safetensors": weights(7, 900_000)}
    assert world.held("acme/tiny-chat") == {**CHAT, **second}
    assert world.held("acme/tiny-base") == {**BASE, **second}
    assert apply(world.file, settings=world.settings).result == "no change"

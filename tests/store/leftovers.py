"""What a killed download left in a store, or beside a mirror."""

from __future__ import annotations

import json

from tests.world import WEIGHTS, World


def noted(world: World) -> int:
    """Bytes of the weights that the next run can count on, by the journals there."""
    blocks: dict[int, int] = {}
    for path in world.folder.rglob("partial/*.journal"):
        try:
            lines = path.read_text().split("\n")[:-1]
        except FileNotFoundError:  # it has another name by now
            continue
        if lines and json.loads(lines[0])["wanted"]["path"] == WEIGHTS:
            for line in map(json.loads, lines[1:]):
                if "block" in line:
                    blocks[line["block"]] = line["filled"]
    return sum(blocks.values())


def on_disk(world: World) -> int:
    """Bytes that unfinished files take."""
    return sum(path.stat().st_blocks * 512 for path in world.home.glob("partial/*"))

"""A hub whose listing cannot be used costs a note: the next one is asked, and every verb says what it is."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import internlm_zoo.cli.lock
import internlm_zoo.cli.mirror
import internlm_zoo.cli.status
from internlm_zoo.downloads.selection import Selection
from internlm_zoo.files import File
from internlm_zoo.registry.lock import LockedRelease
from internlm_zoo.remote.folder import open_remote
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Snapshot
from internlm_zoo.sources.lock_update import changes
from internlm_zoo.sources.paths import LARGEST_FILE
from tests.fuzz.variation import HOSTILE
from tests.hubs import FaultyHub
from tests.sources.contract import REPO
from tests.sources.teller import FILES, Teller, changed, fact, places, record, telling
from tests.world import ENDPOINTS, content_below

SHA256 = "a" * 64

OVERLAY = f"""
models:
  tiny:
    display_name: Tiny
    family: internlm
    size: 1m
    kind: base
    releases:
      - {{hub: huggingface, repo: {REPO}, format: hf}}
      - {{hub: modelscope, repo: {REPO}, format: hf}}
      - {{hub: modelers, repo: {REPO}, format: hf}}
      - {{hub: openxlab, repo: {REPO}, format: hf}}
"""
NEXT = {"huggingface": "modelscope", "modelscope": "modelers", "modelers": "huggingface"}

# name -> what the first hub says in place of what fact, and the exit code where there is no other hub
LIES: Mapping[str, tuple[str, Any, int]] = {
    "size of 10^15": ("size", 10**15, 6),
    "size beyond the disk": ("size", LARGEST_FILE, 8),
    "size as text": ("size", "2000", 5),
    "size as a fraction": ("size", 0.5, 5),
    "nothing, by another digest": ("size", 0, 6),
    "path of 6,000 letters": ("path", "x/" * 3000 + "x", 6),
    "name of 256 letters": ("path", "x" * 256, 6),
    "name that moves the cursor": ("path", "\x1b[2J", 6),
    "digest that is a path": ("sha256", "../" * 9, 6),
    "digest of another form": ("sha256", [SHA256], 5),
    "thousand levels": ("path", "@", 5),
}


def lying(protocol: str, true: Any, lie: str) -> bytes:
    name, value, _ = LIES[lie]
    text = json.dumps(changed(true, fact(protocol, name), value))
    return text.replace('"@"', "[" * 1000 + "]" * 1000).encode()


VERBS = {"status": 3, "lock": 3, "mirror plan": 1, "mirror apply": 0}


class World:
    """The first hub tells what it is told to, the second is true."""

    def __init__(self, folder: Path, teller: Teller, recorded: Mapping[str, Any], first: str, hub: FaultyHub):
        self.folder, self.teller, self.true, self.first = folder, teller, recorded[first], first
        self.environ = {
            "HOME": str(folder),
            "INTERNLM_ZOO_HOME": str(folder / "store"),
            "INTERNLM_ZOO_REGISTRY": str(folder / "overlay.yaml"),
            "INTERNLM_ZOO_SOURCES": f"{first},{NEXT[first]}",
            "INTERNLM_ZOO_TRIES": "1",
        }
        self.environ |= dict.fromkeys(ENDPOINTS.values(), hub.url)
        self.environ[ENDPOINTS[first]] = teller.url
        (folder / "overlay.yaml").write_text(OVERLAY)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Teller, FaultyHub, Mapping[str, Any]]]:
    root = tmp_path_factory.mktemp("hub")
    recorded = record(root)
    with telling() as teller, FaultyHub(root) as hub:
        yield teller, hub, recorded


@pytest.fixture
def world(request, there, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    assert internlm_zoo.cli.lock and internlm_zoo.cli.mirror and internlm_zoo.cli.status
    teller, hub, recorded = there
    found = World(tmp_path, teller, recorded, getattr(request, "param", "huggingface"), hub)
    for name, value in found.environ.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.mark.parametrize(("world", "lie"), list(zip(cycle(NEXT), LIES, strict=False)), indirect=["world"])
def test_the_next_hub_is_asked_where_a_listing_cannot_be_used(world: World, zoo, lie: str) -> None:
    alone = LIES[lie][2]
    if alone == 8 and shutil.disk_usage(world.folder).free > LARGEST_FILE:
        pytest.skip("there is room for it")
    world.teller.tells(lying(world.first, world.true, lie))
    code, _, err = zoo("download", "tiny", "--source", world.first)
    assert code == alone and world.first in err and "Traceback" not in err
    code, out, err = zoo("download", "tiny")
    assert code == 0
    assert f"{world.first}:{REPO}: " in err and "going on to the next source" in err
    assert content_below(Path(out.strip())) == FILES


@pytest.mark.parametrize("lie", ["size as text", "path of 6,000 letters"])
def test_every_verb_that_asks_hubs_names_the_one_and_goes_on(world: World, zoo, lie: str) -> None:
    world.teller.tells(lying(world.first, world.true, lie))
    mirror = world.folder / "mirror.yaml"
    mirror.write_text("destination: ./mirror\nmodels: [tiny]\n")
    for words, expected in VERBS.items():
        code, out, err = zoo(*words.split(), mirror if "mirror" in words else "tiny")
        assert code == expected, (words, out, err)
        assert world.first in out + err and "Traceback" not in err


def test_a_listing_that_makes_no_sense_says_nothing_of_the_hubs_others(world: World, zoo) -> None:
    """The hub is asked for each of its releases, and not left as one that is silent."""
    overlay = OVERLAY + OVERLAY.partition("models:")[2].replace("tiny", "other").replace(
        "internlm/other-chat", REPO
    )
    (world.folder / "overlay.yaml").write_text(overlay)
    world.teller.tells(changed(world.true, fact(world.first, "size"), "2000"))
    world.teller.asked = 0
    zoo("status", "tiny", "other")
    assert world.teller.asked == 4  # twice each


def test_a_hub_that_is_left_is_told_where_weights_stay_at_theirs(world: World) -> None:
    world.teller.tells(lying(world.first, world.true, "path of 6,000 letters"))
    told: list[str] = []
    with open_remote("tiny", Settings.from_environment(world.environ), tell=told.append) as folder:
        assert sorted(folder.names()) == sorted(FILES)
    assert len(told) == 1 and told[0].startswith(f"{world.first}:{REPO}: refused the file name")


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_value_in_any_place_of_one_listing_stops_no_download(world: World, zoo, data) -> None:
    place = data.draw(st.sampled_from(list(places(world.true))))
    value = data.draw(st.sampled_from(HOSTILE))
    world.teller.tells(changed(world.true, place, value))
    with tempfile.TemporaryDirectory() as folder:
        code, _, err = zoo("download", "tiny", "--local-dir", folder, "--force")
    assert code == 0, err


class Compared(str):
    """A path that counts how often it is held against another."""

    times = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return str.__eq__(self, other)


def test_listings_are_compared_without_going_through_one_for_each_file_of_the_other() -> None:
    number, paths = 400, [Compared(number) for number in range(400)]
    snapshot = Snapshot("hub", "org/name", "1", None, tuple(map(File, paths)))
    files = tuple(File(path, 1) for path in paths)
    release = LockedRelease("hub", "org/name", "1", None, "hf", "hub", files)
    Compared.times = 0
    assert all(snapshot.file(Compared(path)) for path in paths)
    assert changes(release, release) == []
    assert len(Selection(files=tuple(map(Compared, paths))).of(release)) == number
    assert Compared.times < 20 * number

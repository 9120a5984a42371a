"""A directory as a hub, damaged after its release was locked: what `download` makes of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from internlm_zoo import download
from internlm_zoo.errors import ZooError
from internlm_zoo.settings import Settings
from tests.downloads.fault_table import Outcome, is_sound, said, shown
from tests.hubs import FaultyHub
from tests.world import FILES, REPO, WEIGHTS, content_below, write

OVERLAY = """
hubs:
  disk: {{title: Disk, protocol: directory, endpoint: {place}}}
models:
  tiny:
    display_name: Tiny
    family: internlm
    size: 1m
    kind: base
    releases:
      - {{hub: disk, repo: acme/tiny, format: hf}}
      - {{hub: huggingface, repo: acme/tiny, format: hf}}
"""


def _flip(folder: Path) -> None:
    data = bytearray(FILES[WEIGHTS])
    data[1000] ^= 0xFF
    (folder / WEIGHTS).write_bytes(data)


def _cut(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(FILES[WEIGHTS][:1000])


def _as_folder(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()


@dataclass(frozen=True)
class Damage:
    """said: what the refusal must say of it."""

    do: Callable[[Path], None]
    said: str


DAMAGES = {
    "one byte flipped": Damage(_flip, "sha256"),
    "cut short": Damage(_cut, "size"),
    "file gone": Damage(lambda folder: (folder / WEIGHTS).unlink(), f"has no {WEIGHTS}"),
    "folder in the file's place": Damage(_as_folder, f"has no {WEIGHTS}"),
    "a name that is a device": Damage(lambda folder: (folder / "nul.txt").touch(), "'nul.txt'"),
    "release gone": Damage(shutil.rmtree, "has no acme/tiny"),
}


def outcomes(folder: Path) -> Mapping[tuple[str, bool], Outcome]:
    """By damage, and whether the directory is the only source. folder: an empty one to work in."""
    write(folder / "sound" / REPO, FILES)
    (folder / "overlay.yaml").write_text(OVERLAY.format(place=folder / "disk"))
    with FaultyHub(folder / "sound") as hub:
        settings = _settings(folder, hub, folder / "first")
        shutil.copytree(folder / "sound", folder / "disk")
        download("tiny", settings=settings, source="disk")
        return {(name, alone): _try(name, alone, folder, hub) for name in DAMAGES for alone in (True, False)}


def table(got: Mapping[tuple[str, bool], Outcome]) -> str:
    return "\n".join(_lines(got))


def _lines(got: Mapping[tuple[str, bool], Outcome]) -> Iterator[str]:
    yield from ("## In a directory, after its release was locked", "")
    yield from ("| fault | alone | with a next source | refused with the words |", "|---|---|---|---|")
    for name in DAMAGES:
        alone, following = got[name, True], got[name, False]
        yield f"| {name} | {alone.in_short} | {following.in_short} | {said(alone)} |"
    yield ""


def _try(name: str, alone: bool, folder: Path, hub: FaultyHub) -> Outcome:
    shutil.rmtree(folder / "disk")
    shutil.copytree(folder / "sound", folder / "disk")
    DAMAGES[name].do(folder / "disk" / REPO)
    home = folder / f"{name} {alone}"
    home.mkdir()
    shutil.copy(folder / "first" / "registry.lock", home)
    try:
        done = download("tiny", settings=_settings(folder, hub, home), source="disk" if alone else "auto")
    except ZooError as error:
        return Outcome(None, error, len(shown(home)), is_sound(home))
    return Outcome(content_below(done.path), None, len(shown(home)), is_sound(home))


def _settings(folder: Path, hub: FaultyHub, home: Path) -> Settings:
    environ = {
        "HOME": str(folder),
        "INTERNLM_ZOO_HOME": str(home),
        "INTERNLM_ZOO_REGISTRY": str(folder / "overlay.yaml"),
        "INTERNLM_ZOO_SOURCES": "disk,huggingface",
        "HF_ENDPOINT": hub.url,
    }
    return Settings.from_environment(environ)

"""Whatever the hub, the mirror file and the mirror hold: a plan says what an apply then does, to the byte."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from internlm_zoo.mirror import Report, RunOptions, apply, diff, plan
from internlm_zoo.mirror.values import FileCounts
from internlm_zoo.settings import Settings

OVERLAY = """
hubs:
  disk: {{title: Disk, protocol: directory, endpoint: {place}}}
models:
  tiny-a: &a
    display_name: Tiny
    family: internlm
    size: 1m
    kind: base
    releases: [{{hub: disk, repo: acme/a, format: hf}}]
  tiny-b:
    <<: *a
    releases: [{{hub: disk, repo: acme/b, format: hf}}]
"""
# Without shrinking: it takes minutes here, and a case is small as it is.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
NAMES = ("config.json", "weights/1", "weights/2", "weights", "README.md")
Tree = Mapping[str, str]


def _is_possible(tree: Tree) -> bool:
    """A file system cannot hold a file and a folder of one name."""
    return not any(other.startswith(f"{path}/") for path in tree for other in tree)


trees = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["", "one", "other!"]), max_size=4).filter(
    _is_possible
)
hubs = st.fixed_dictionaries({"acme/a": trees, "acme/b": trees})


@settings(max_examples=12, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(
    hubs, hubs, hubs, st.booleans(), st.booleans(), st.sets(st.sampled_from(["tiny-a", "tiny-b"]), min_size=1)
)
@example(
    {"acme/a": {"config.json": "one"}, "acme/b": {"config.json": "one"}},
    {"acme/a": {"config.json": "one", "README.md": "mine"}, "acme/b": {"config.json": "other!"}},
    {"acme/a": {"weights/1": "one"}, "acme/b": {}},
    False,
    True,
    {"tiny-a"},
)
@example(
    {"acme/a": {"config.json": ""}, "acme/b": {}},
    {"acme/a": {"config.json": "one"}, "acme/b": {}},
    {"acme/a": {"config.json": "one", "README.md": ""}, "acme/b": {}},
    False,
    False,
    {"tiny-a"},
)
def test_what_the_plan_says_is_what_the_apply_does(
    first: Mapping[str, Tree],
    meddled: Mapping[str, Tree],
    later: Mapping[str, Tree],
    early: bool,
    prune: bool,
    models: set[str],
) -> None:
    """first: what the hub has and the mirror gets. meddled: what somebody makes of the mirror, early: before
    it is one. later: what the hub has then."""
    root = Path(tempfile.mkdtemp())
    try:
        file, mirror = root / "mirror.yaml", root / "mirror"
        (root / "overlay.yaml").write_text(OVERLAY.format(place=root / "hub"))
        zoo = Settings(home=root / "home", registry=root / "overlay.yaml")
        write(root / "hub", first)
        theirs = meddle(mirror, meddled) if early else {}
        ask(file, ["tiny-a", "tiny-b"], prune)
        apply(file, settings=zoo, options=RunOptions(max_delete="100%"))
        if not early:
            meddle(mirror, meddled)
        write(root / "hub", later)
        ask(file, sorted(models), prune)
        before = contents(mirror)
        said = plan(file, settings=zoo)
        assert contents(mirror) == before
        did = apply(file, settings=zoo, options=RunOptions(max_delete="100%"))
        assert_done(said, did, before, contents(mirror))
        failed = any(release.problem for release in did.releases)
        assert failed or diff(file, settings=zoo).result == "no change"
        served = {f"{release}/{path}": text for release, tree in first.items() for path, text in tree.items()}
        for path, content in theirs.items():
            assert content.decode() == served.get(path) or contents(mirror)[path] == content
    finally:
        shutil.rmtree(root)


def assert_done(said: Report, did: Report, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> None:
    assert asdict(said.files) == asdict(did.files)
    for release in did.releases:
        mine = {p: c for p, c in before.items() if p.startswith(f"{release.path}/")}
        now = {p: c for p, c in after.items() if p.startswith(f"{release.path}/")}
        files = release.files
        assert tally(now, now.keys() - mine.keys()) == (files.copy.files, files.copy.bytes)
        assert tally(mine, mine.keys() - now.keys()) == (files.delete.files, files.delete.bytes)
        differ = {path for path in mine.keys() & now.keys() if mine[path] != now[path]}
        assert tally(now, differ) == (files.update.files, files.update.bytes)
        assert tally(mine, (mine.keys() & now.keys()) - differ) == (files.keep.files, files.keep.bytes)
        assert len(mine) == files.here.files
    assert asdict(did.files) == asdict(sum((release.files for release in did.releases), FileCounts()))


def tally(tree: Mapping[str, bytes], paths: set[str]) -> tuple[int, int]:
    return len(paths), sum(len(tree[path]) for path in paths)


def contents(mirror: Path) -> dict[str, bytes]:
    files = (path for path in mirror.glob("acme/**/*") if path.is_file())
    return {path.relative_to(mirror).as_posix(): path.read_bytes() for path in files}


def write(hub: Path, releases: Mapping[str, Tree]) -> None:
    shutil.rmtree(hub, ignore_errors=True)
    for release, tree in releases.items():
        for path, text in tree.items():
            (hub / release / path).parent.mkdir(parents=True, exist_ok=True)
            (hub / release / path).write_text(text)


def meddle(mirror: Path, releases: Mapping[str, Tree]) -> dict[str, bytes]:
    """Files that are written over, added or, where their text is empty, removed. Returns what lies there."""
    for target, text in (
        (mirror / name / path, text) for name, tree in releases.items() for path, text in tree.items()
    ):
        if target.is_dir() or any(parent.is_file() for parent in target.parents):
            continue
        if text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        else:
            target.unlink(missing_ok=True)
    return contents(mirror)


def ask(file: Path, models: list[str], prune: bool) -> None:
    file.write_text(
        json.dumps({"destination": "mirror", "models": models, "formats": ["hf"], "prune": prune})
    )

"""A store, a lock or a folder that a stranger made: nothing outside of it is removed, written or shown."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import internlm_zoo.cli.cache
import internlm_zoo.cli.lock
from internlm_zoo.errors import IntegrityError
from internlm_zoo.fs import contained
from internlm_zoo.store.layout import Store
from tests.world import FILES, REPO, WEIGHTS, World, content_below, sha256

RECORD = ".internlm-zoo/release.json"
SECRET = "the-canary-sings"
NO_DIGESTS = (
    "{outside}",
    "{outside}/precious",
    "../../../../outside",
    "ab/../../../outside",
    "0" * 63,
    "0" * 65,
    "A" * 64,
    "0" * 63 + "\n",
    "0" * 300,
    "",
    ".",
)
NO_NAMES = (
    "{outside}/precious",
    "../../../../outside/precious",
    "a/../../b",
    "nul\0",
    "x" * 256,
    "com1",
    "git~1/x",
    "a:b",
    "a*",
    "",
)


@pytest.fixture
def canary(world: World) -> Iterator[Path]:
    """A tree outside of the store, as it is afterwards; none of it is to be seen in what is written."""
    outside = world.folder / "outside"
    (outside / "deep" / "er").mkdir(parents=True)
    for name in ("precious", "deep/er/precious", "a.part", "x.journal", sha256(b"x")):
        (outside / name).write_text(SECRET)
    before = {path: path.lstat() for path in outside.rglob("*")}
    yield outside
    after = {path: path.lstat() for path in outside.rglob("*")}
    assert after.keys() == before.keys()
    assert all(after[path].st_mtime_ns == before[path].st_mtime_ns for path in before)


@pytest.fixture
def verbs(world: World, canary: Path, zoo, monkeypatch) -> Callable[..., dict[str, int]]:
    """Every verb that reads the store, and then those that remove: their exit codes, by name."""
    assert internlm_zoo.cli.cache and internlm_zoo.cli.lock
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)

    def run(folder: Path | None = None) -> dict[str, int]:
        named = [("verify", folder), ("cache", "rm", folder)] if folder else []
        commands = [
            ("cache", "list"),
            ("cache", "verify"),
            ("verify", "tiny"),
            ("cache", "path", "tiny"),
            ("cache", "adopt", canary),
            ("download", "tiny", "--dry-run"),
            ("cache", "prune"),
            ("cache", "rm", "tiny"),
            *named,
        ]
        codes = {}
        for command in commands:
            code, out, err = zoo(*command)
            assert SECRET not in out + err and "Traceback" not in err, command
            assert code in (0, 1, 2, 4, 6), (command, err)
            codes[" ".join(map(str, command[:2]))] = code
        return codes

    return run


def altered(record: Path, **fields: object) -> None:
    told = json.loads(record.read_text())
    told["release"]["files"][0].update(fields)
    record.write_text(json.dumps(told))


@pytest.mark.parametrize("value", NO_DIGESTS[:2])
def test_a_record_with_a_path_for_a_digest_removes_nothing_there(
    world: World, verbs, canary: Path, value: str
) -> None:
    folder = world.download().path
    altered(folder / RECORD, sha256=value.format(outside=canary))
    codes = verbs(folder)
    assert codes["verify tiny"] == 6 and codes["cache rm"] == 0
    assert not folder.exists()


@pytest.mark.parametrize(("field", "values"), [("sha256", NO_DIGESTS), ("path", NO_NAMES)])
def test_a_record_with_no_digest_or_a_name_that_leads_elsewhere_is_a_damaged_one(
    world: World, zoo, monkeypatch, field: str, values: tuple[str, ...]
):
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    folder = world.download().path
    whole = (folder / RECORD).read_text()
    for value in values:
        altered(folder / RECORD, **{field: value.format(outside=world.folder / "outside")})
        code, _, err = zoo("verify", "tiny")
        assert code == 6 and "the record of the download is damaged" in err, value
        (folder / RECORD).write_text(whole)


@pytest.mark.parametrize("field", ["sha256", "git_sha1", "path", "size"])
def test_a_lock_with_something_else_than_a_digest_names_the_line(world: World, zoo, monkeypatch, field: str):
    """It showed any file that can be read as the model's."""
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    secret = world.folder / "secret"
    secret.write_text(SECRET)
    world.download(source="huggingface")
    lock = world.home / "registry.lock"
    wrong = {"sha256": str(secret), "git_sha1": str(secret), "path": f"../../{secret}", "size": "-1"}[field]
    lines = lock.read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if "config.json" in line)
    facts = {"path": "config.json", "size": str(len(FILES["config.json"])), "sha256": "0" * 64}
    entry = ", ".join(f"{name}: {value}" for name, value in {**facts, field: wrong}.items())
    lines[at] = f"  - {{{entry}}}"
    lock.write_text("\n".join(lines) + "\n")
    for command in (("download", "tiny"), ("download", "tiny", "--hf-cache"), ("lock",)):
        code, out, err = zoo(*command)
        assert code == 2 and f"registry.lock:{at + 1}" in err and SECRET not in out + err, command
    assert not any(SECRET.encode() in path.read_bytes() for path in world.published())


def test_links_out_of_the_store_are_not_followed(world: World, verbs, canary: Path) -> None:
    """Wherever one may stand: nothing behind it is removed, and the link in place of a blob is no blob."""
    folder = world.download().path
    home = world.home
    shelf = f"blobs/sha256/{sha256(b'x')[:2]}"
    for place in ("blobs/sha256/zz", "git/zz", shelf, "partial/left.free-00.part"):
        (home / place).parent.mkdir(exist_ok=True)
        if not (home / place).exists():
            (home / place).symlink_to(canary)
    shown = (folder / WEIGHTS).resolve()
    shown.unlink()
    shown.symlink_to(canary / "precious")
    (folder / "sub").rename(folder / "before")
    (folder / "sub").symlink_to(canary / "deep")
    (folder / "extra").symlink_to(canary)
    codes = verbs(folder)
    assert codes["cache prune"] == 0 and codes["verify tiny"] == 1
    assert not (home / "partial" / "left.free-00.part").is_symlink()
    assert not folder.exists()


def test_a_blob_that_is_a_link_is_fetched_again(world: World, canary: Path) -> None:
    folder = world.download().path
    blob = (folder / WEIGHTS).resolve()
    blob.unlink()
    blob.symlink_to(canary / "precious")
    assert content_below(world.download().path) == FILES
    assert not blob.is_symlink()


def test_parts_of_the_store_that_are_links_lose_what_is_of_the_store_alone(
    world: World, verbs, canary: Path
) -> None:
    """Somebody's disk for big files, or a stranger's idea of where to prune: the names decide."""
    world.download()
    for part in ("partial", "git"):
        whole = world.home / part
        if whole.exists():
            whole.rename(world.home / f"{part}-before")
        whole.symlink_to(canary)
    ours = canary.parent / "partial-elsewhere"
    ours.mkdir()
    (ours / "cafe.free-00aa.part").write_bytes(bytes(9))
    (ours / "letter.part").write_bytes(bytes(9))
    verbs()
    (world.home / "partial").unlink()
    (world.home / "partial").symlink_to(ours)
    verbs()
    assert [path.name for path in ours.iterdir()] == ["letter.part"]


def test_a_folder_whose_books_are_a_link_takes_no_download(world: World, zoo, monkeypatch, canary: Path):
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    for number, place in enumerate((".internlm-zoo", ".internlm-zoo/partial", ".internlm-zoo/release.json")):
        out = world.folder / f"out-{number}"
        (out / place).parent.mkdir(parents=True)
        (out / place).symlink_to(canary)
        code, _, err = zoo("download", "tiny", "--local-dir", out)
        assert code == 2 and "a link is in the way" in err and str(out / place) in err


def test_pipes_among_our_books_are_waited_for_by_nobody(world: World, verbs) -> None:
    world.download()
    home = world.home
    left = ("0123456789abcdef.life", "x.free-00.part", "x.lock")
    for place in ("adopted.jsonl", *(f"partial/{name}" for name in left)):
        (home / place).parent.mkdir(exist_ok=True)
        (home / place).unlink(missing_ok=True)
        os.mkfifo(home / place)
    folder = next(home.glob("releases/*/*/*"))
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    assert verbs()["cache verify"] == 1


def test_the_store_makes_no_path_of_what_is_no_digest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for value in NO_DIGESTS:
        for place in (store.blob, store.blocks):
            with pytest.raises(IntegrityError, match="refused the digest"):
                place(value.format(outside=tmp_path))


def test_removal_stays_below_its_root(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "a").mkdir(parents=True)
    (outside / "b").mkdir(parents=True)
    (outside / "b" / "precious").write_text(SECRET)
    (root / "link").symlink_to(outside)
    (root / "a" / "link").symlink_to(outside)
    for path in (outside / "b", root / "link" / "b", root / ".." / "outside" / "b", root, root / "a/link/b"):
        with pytest.raises(IntegrityError):
            contained.remove(root, path)
        assert not contained.remove_if_empty(root, path)
    contained.remove(root, root / "a")
    contained.remove(root, root / "link")
    contained.remove(root, root / "gone" / "before")
    assert list(root.iterdir()) == [] and (outside / "b" / "precious").read_text() == SECRET
    deep = root
    for _ in range(150):
        deep = deep / "d"
        deep.mkdir()
    (deep / "link").symlink_to(outside)
    contained.remove(root, root / "d")
    assert list(root.iterdir()) == [] and (outside / "b" / "precious").read_text() == SECRET


def test_hubs_that_are_no_place_of_the_store_make_no_release_there(world: World, verbs) -> None:
    """Books of other kinds that a stranger wrote: they count for nothing, or are a sentence."""
    folder = world.download(source="huggingface").path
    for book in ("adopted.jsonl", f"blocks/{'0' * 2}/{'0' * 64}.json"):
        place = world.home / book
        place.parent.mkdir(parents=True, exist_ok=True)
        numbers = '{"path": "a", "size": 1e999, "mtime_ns": ' + "9" * 5000 + "}\n"
        place.write_text(numbers + "[" * 100_000 + "\n")
    told = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text("[" * 200_000)
    assert verbs()["verify tiny"] == 6
    told["release"]["revision"] = "../../outside"
    (folder / RECORD).write_text(json.dumps(told))
    verbs(folder)
    assert (world.root / REPO / WEIGHTS).exists()


@pytest.mark.slow
def test_folders_in_folders_and_loops_of_links_stop_no_look(world: World, verbs, zoo) -> None:
    """Deeper than Python has frames for, and links that lead back to themselves."""
    folder = world.download().path
    (folder / "sub").rename(folder / "before")
    (folder / "sub").symlink_to("sub")
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(WEIGHTS)
    here = os.getcwd()
    for place in (folder, world.home / "partial", world.folder / "disk"):
        (place / "x.free-00.part").mkdir(parents=True, exist_ok=True)
        os.chdir(place / "x.free-00.part")
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
    os.chdir(here)
    try:
        codes = verbs()
        assert (
            codes["verify tiny"] == 1
            and codes["cache list"] == codes["cache prune"] == codes["cache rm"] == 0
        )
        assert zoo("cache", "adopt", world.folder / "disk")[0] == 0
        assert [path.name for path in (world.home / "partial").iterdir()] == []
    finally:
        subprocess.run(["rm", "-rf", world.home, world.folder / "disk"], check=True)


def test_a_cache_of_huggingface_hub_that_a_stranger_made_is_read_as_what_it_is(
    world: World, zoo, monkeypatch, canary: Path
) -> None:
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    cache = world.folder / "hf"
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    repo = cache / "models--acme--tiny"
    (repo / "blobs").mkdir(parents=True)
    (repo / "snapshots" / "x").mkdir(parents=True)
    (repo / "refs").mkdir()
    os.mkfifo(repo / "blobs" / sha256(FILES[WEIGHTS]))
    os.mkfifo(repo / "refs" / "main")
    (repo / "snapshots" / "x" / "config.json").symlink_to(canary / "precious")
    (repo / "snapshots" / "x" / WEIGHTS).symlink_to(WEIGHTS)
    code, out, err = zoo("download", "tiny", "--source", "huggingface")
    assert code == 0 and SECRET not in out + err
    code, _, err = zoo("download", "tiny", "--source", "huggingface", "--hf-cache")
    assert code == 4 and "it is a pipe or a device" in err
    (repo / "blobs" / sha256(FILES[WEIGHTS])).unlink()
    code, _, err = zoo("download", "tiny", "--source", "huggingface", "--hf-cache")
    assert code == 4 and "refs/main" in err
    (repo / "refs" / "main").unlink()
    (repo / "refs" / "main").write_bytes(b"\xff\x1b[31m" * 9)
    code, _, err = zoo("download", "tiny", "--source", "huggingface", "--hf-cache")
    assert code == 0 and "\x1b" not in err

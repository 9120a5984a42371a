"""What a store holds of other versions, other programs and broken disks: read, made anew, or named."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

import internlm_zoo.cli.cache
from converters.locking import holder_of
from internlm_zoo.store.block_digests import read_blocks
from internlm_zoo.store.hash_cache import HashCache
from internlm_zoo.store.layout import Store
from internlm_zoo.transfer.blocks import BLOCK
from tests.world import FILES, REPO, WEIGHTS, World, content_below, sha256

FORMS: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda text: text[: len(text) // 2],
    "foreign": lambda _: b'{"schema": "of another program", "files": [[{}]]}\n',
    "older": lambda text: re.sub(rb'"?schema"?: \d+,?\s*', b"", text),
    "newer": lambda text: re.sub(rb'("?schema"?: )\d+', rb"\g<1>99", text),
}
BIG = bytes(BLOCK + 1)
DOORS = (
    ("cache", "list"),
    ("cache", "verify"),
    ("verify", "tiny"),
    ("download", "tiny", "--source", "huggingface"),
)
METADATA = {
    "releases/huggingface/*/*/.internlm-zoo/release.json": ([0, 1, 7, 7], "newer version"),
    "registry.lock": ([0, 0, 0, 7], "newer version"),
    "adopted.jsonl": ([0, 0, 0, 0], ""),
    "blocks/*/*.json": ([0, 0, 0, 0], ""),
}


@pytest.fixture
def shell(world: World, zoo, monkeypatch: pytest.MonkeyPatch) -> Callable:
    assert internlm_zoo.cli.cache
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    return zoo


def on_disk(world: World, folder: Path) -> Path:
    """A folder of the user's with the files, at rest since long."""
    shutil.copytree(world.root / REPO, folder / "disk")
    for path in (folder / "disk").rglob("*"):
        os.utime(path, (1e9, 1e9))
    return folder / "disk"


@pytest.mark.parametrize("book", METADATA)
def test_an_older_book_is_read_and_a_newer_one_is_named_and_stays(
    world: World, shell: Callable, tmp_path: Path, book: str
) -> None:
    (world.root / REPO / WEIGHTS).write_bytes(BIG)
    adopt = ("--adopt", on_disk(world, tmp_path)) if book == "adopted.jsonl" else ()
    assert shell(*DOORS[3], *adopt)[0] == 0
    (path,) = world.home.glob(book)
    whole = path.read_bytes()
    assert b'"schema": ' in whole or whole.splitlines()[1] == b"schema: 1"
    for form, change in FORMS.items():
        path.write_bytes(changed := change(whole))
        said = [shell(*door) for door in DOORS]
        codes = [code for code, _, _ in said]
        assert 70 not in codes and "Traceback" not in "".join(err for _, _, err in said), form
        if form == "older":
            assert codes == [0, 0, 0, 0]
        if form == "newer":
            assert codes == METADATA[book][0] and METADATA[book][1] in said[3][2]
            assert path.read_bytes().startswith(changed)
        path.write_bytes(whole)


def test_digests_of_an_older_cache_are_used_and_those_of_a_newer_one_kept(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world.download(adopt=[on_disk(world, tmp_path)])
    book, weights = world.home / "adopted.jsonl", tmp_path / "disk" / WEIGHTS
    whole = book.read_bytes()
    for form in ("older", "newer", "foreign"):
        caplog.clear()
        book.write_bytes(changed := FORMS[form](whole) * 100)
        cache = HashCache(world.home)
        known = cache.remembered(weights)
        assert cache.digests(weights).sha256 == sha256(FILES[WEIGHTS])
        assert (known is not None) is (form == "older")
        kept = FORMS[form](whole) if form != "older" else FORMS["older"](b"")
        assert book.read_bytes().startswith(changed if form == "newer" else kept)
        assert ("newer version" in caplog.text, len(caplog.records)) == (form == "newer", form != "older")


def test_a_cache_of_digests_that_is_somebody_elses_is_left_as_it_is(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (world.home / "adopted.jsonl").parent.mkdir(parents=True)
    (world.home / "adopted.jsonl").write_text("a diary\n" * 200)
    assert content_below(world.download(adopt=[on_disk(world, tmp_path)]).path) == FILES
    assert (world.home / "adopted.jsonl").read_text() == "a diary\n" * 200
    assert "move it elsewhere" in caplog.text


def test_digests_of_blocks_are_read_without_a_number_and_not_by_a_later_one(world: World) -> None:
    (world.root / REPO / WEIGHTS).write_bytes(BIG)
    world.download()
    (path,) = world.home.glob("blocks/*/*.json")
    whole, digest = path.read_bytes(), sha256(BIG)
    found = {
        form: read_blocks(Store(world.home), digest) for form in FORMS if path.write_bytes(FORMS[form](whole))
    }
    assert {form: len(blocks) for form, blocks in found.items()} == {
        "truncated": 0,
        "foreign": 0,
        "older": 2,
        "newer": 0,
    }
    world.download(force=True)
    assert path.read_bytes() == FORMS["newer"](whole)


@pytest.mark.parametrize("form", FORMS)
def test_a_note_of_what_came_counts_in_its_own_form_alone(world: World, form: str) -> None:
    world.download(source="openxlab", format="original")
    notes = {path: path.read_bytes() for path in world.home.glob("git/*/*")}
    changed = {"truncated": b"", "foreign": b"\xff", "older": b"modelscope", "newer": b"99 {}"}[form]
    for path, text in notes.items():
        assert text.startswith(b"1 ") or not text
        path.write_bytes(changed)
    before = world.sent["openxlab"]
    shutil.rmtree(world.home / "releases")
    (world.home / "registry.lock").unlink()
    world.download(source="openxlab", format="original")
    assert (world.sent["openxlab"] > before) is (form in ("foreign", "newer"))
    if form == "newer":
        assert {path.read_bytes() for path in notes} == {changed}


@pytest.mark.parametrize("form", ["of now", *FORMS])
def test_a_download_begun_by_another_version_is_gone_on_with_or_named(
    world: World, shell: Callable, form: str
) -> None:
    content = FILES[WEIGHTS]
    half = len(content) // 2
    lines = [
        {
            "schema": 2,
            "block": BLOCK,
            "wanted": {"path": WEIGHTS, "size": len(content), "sha256": sha256(content), "git_sha1": None},
        },
        {
            "block": 0,
            "filled": half,
            "blake3": blake3(content[:half]).hexdigest(),
            "authors": ["huggingface"],
        },
    ]
    text = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    old = text.replace(b'"schema"', b'"version"')  # as it was before there were numbers for all
    text = {"of now": text, "older": old}.get(form) or FORMS[form](text)
    part = world.home / "partial" / f"{sha256(content)}.free-00.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(content[:half])
    part.with_suffix(".journal").write_bytes(text)
    code, out, err = shell("download", "tiny", "--source", "huggingface")
    assert code == 0 and content_below(Path(out.strip())) == FILES
    asked = [request.headers.get("Range", "") for request in world.hubs["huggingface"].downloads(WEIGHTS)]
    assert any(f"bytes={half}-" in one for one in asked) is (form in ("of now", "older"))
    assert ("a newer version of internlm-zoo has a part of it" in err) is (form == "newer")


def test_who_holds_a_file_is_read_of_every_version_without_a_fault(tmp_path: Path) -> None:
    from converters.locking import LockFile, take

    path = tmp_path / "x.lock"
    held = take(path)
    assert isinstance(held, LockFile)
    text = path.read_bytes()
    assert text.startswith(b'{"schema": 1')
    for change in FORMS.values():
        path.write_bytes(change(text))
        assert holder_of(path) is not None  # the lock of the system says so
    held.release()
    for change in FORMS.values():
        path.write_bytes(change(text))
        holder_of(path)

"""`download`: what arrives is what was released, from whichever hub delivers, or nothing is shown."""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from internlm_zoo.errors import AccessError, IntegrityError, NetworkError, NotFoundError, UsageError
from internlm_zoo.registry.lock import Lock, LockedRelease
from internlm_zoo.settings import Settings
from tests.hubs import FaultyHub
from tests.timing import short_silence
from tests.world import (
    ENDPOINTS,
    FILES,
    ORIGINAL_FILES,
    OVERLAY,
    REPO,
    WEIGHTS,
    World,
    content_below,
    sha256,
    write,
)

HUBS = ("huggingface", "modelscope", "modelers", "openxlab")


def locked(world: World, hub: str, repo: str = REPO) -> LockedRelease:
    found = Lock.load(world.settings).find(hub, repo)
    assert found is not None
    return found


@pytest.mark.parametrize("hub", HUBS)
def test_every_hub_delivers_the_files_and_they_are_recorded(world: World, hub: str) -> None:
    done = world.download(source=hub, format="hf")
    assert content_below(done.path) == FILES
    assert {name for name, sent in world.sent.items() if sent} == {hub}
    assert done.fetched_bytes == sum(map(len, FILES.values())) == world.sent[hub]
    known = {file.path: (file.size, file.sha256) for file in locked(world, hub).files}
    assert known == {path: (len(data), sha256(data)) for path, data in FILES.items()}
    assert locked(world, hub).revision == done.revision


def test_the_original_format_comes_from_the_hub_that_has_it(world: World) -> None:
    done = world.download(format="original")
    assert (done.hub, done.format) == ("openxlab", "original")
    assert content_below(done.path) == ORIGINAL_FILES


def test_a_second_run_asks_nobody(world: World) -> None:
    first = world.download()
    asked = world.requests
    again = world.download()
    assert world.requests == asked
    assert (again.path, again.fetched_bytes) == (first.path, 0)
    assert again.reused_bytes == first.fetched_bytes


def test_what_a_second_release_shares_with_the_first_is_not_fetched_again(world: World) -> None:
    world.download(source="huggingface")
    done = world.download(source="modelscope")
    assert (done.hub, done.fetched_bytes, world.sent["modelscope"]) == ("modelscope", 0, 0)
    assert content_below(done.path) == FILES


@pytest.mark.parametrize("breadth", ["/*", "*"], ids=["everything", "files"])
@pytest.mark.parametrize("kind", ["reset", "html", "truncate", 401, 403, 404, 410, 500, 503], ids=str)
def test_a_hub_that_fails_is_left_for_the_next_and_named(world: World, kind: Any, breadth: str) -> None:
    world.fault(kind, breadth, "huggingface")
    done = world.download()
    assert content_below(done.path) == FILES
    assert any("huggingface" in note for note in done.notes)
    assert done.served["modelscope"] > 0


@pytest.mark.parametrize(
    "kind",
    ["flip", "lfs-pointer", "encoding", "short-length", "long-length", "no-length", "slow", "stall", "hang"],
)
def test_a_hub_whose_weights_are_wrong_does_not_keep_us_from_the_right_ones(world: World, kind: str) -> None:
    world.fault(kind, WEIGHTS, "huggingface", **({"rate": 100} if kind == "slow" else {}))
    if kind in ("stall", "hang"):
        world.environ["INTERNLM_ZOO_TIMEOUT"] = str(short_silence())
    done = world.download()
    assert content_below(done.path) == FILES
    if kind not in ("long-length", "no-length"):
        assert any("huggingface" in note for note in done.notes)
        assert next(file for file in done.files if file.path == WEIGHTS).source != "huggingface"


@pytest.mark.parametrize("kind", ["flip", "truncate", "short-length", "html"])
def test_wrong_weights_everywhere_are_refused_and_nothing_is_shown(world: World, kind: str) -> None:
    world.fault(kind, WEIGHTS)
    world.environ["INTERNLM_ZOO_SOURCES"] = "huggingface,modelscope"
    with pytest.raises(IntegrityError) as caught:
        world.download()
    assert caught.value.exit_code == 6
    assert all(hub in caught.value.what for hub in ("huggingface", "modelscope"))
    assert world.published() == []
    for blob in world.home.glob("blobs/sha256/*/*"):
        assert sha256(blob.read_bytes()) == blob.name


@pytest.mark.parametrize("kind", ["truncate", "flip"])
def test_one_hub_alone_with_a_bad_body_is_an_integrity_error(world: World, kind: str) -> None:
    world.fault(kind, WEIGHTS)
    with pytest.raises(IntegrityError) as caught:
        world.download(source="modelscope")
    assert caught.value.exit_code == 6
    assert WEIGHTS in caught.value.what
    assert world.published() == []


@pytest.mark.parametrize("name", ["../evil", "/evil", "sub/../../evil", "C:\\evil", "CON"])
def test_a_hostile_file_name_is_refused_before_a_byte_is_written(world: World, name: str) -> None:
    world.fault("evil-name", name)
    with pytest.raises(IntegrityError) as caught:
        world.download(format="hf")
    assert caught.value.exit_code == 6
    assert world.sent == dict.fromkeys(HUBS, 0)
    assert not list(world.folder.rglob("evil"))
    assert world.published() == []


def test_a_hostile_listing_of_one_hub_leaves_the_others(world: World) -> None:
    world.fault("evil-name", "../evil", "huggingface")
    done = world.download()
    assert (done.hub, content_below(done.path)) == ("modelscope", FILES)
    assert any("refused the file name '../evil'" in note for note in done.notes)


def test_files_globs_and_their_limits(world: World) -> None:
    done = world.download("config.json", source="modelscope")
    assert content_below(done.path) == {"config.json": FILES["config.json"]}
    done = world.download(source="modelscope", include=["*.md", "*.model"], exclude=["tok*"])
    assert set(content_below(done.path)) == {"config.json", "sub/读我.md"}
    with pytest.raises(NotFoundError, match=r"confg\.json") as caught:
        world.download("confg.json", source="modelscope")
    assert "config.json" in (caught.value.fix or "")
    with pytest.raises(NotFoundError):
        world.download(source="modelscope", include=["*.bin"])
    assert world.sent["modelscope"] == len(FILES["config.json"]) + len(FILES["sub/读我.md"])


def test_files_that_are_named_and_those_that_match_a_glob_come_both(world: World) -> None:
    out = world.folder / "out"
    both = {"include": ["*.md"], "local_dir": out, "source": "modelscope"}
    assert set(content_below(world.download("tokenizer.model", **both).path)) == {
        "sub/读我.md",
        "tokenizer.model",
    }
    plan = world.plan("tokenizer.model", source="modelscope", include=["sub/"], exclude=["*.model"])
    assert [file.path for file in plan.files] == ["sub/读我.md"]
    for wrong, meant in (
        ("*.md", "`include='*.md'`"),
        ("sub", "`include='sub/'`"),
        ("读我.md", "sub/读我.md"),
        ("Config.json", "config.json"),
    ):
        with pytest.raises(NotFoundError, match="there is no file") as caught:
            world.download("config.json", wrong, source="modelscope", include=["*"])
        assert meant in (caught.value.fix or "")


def test_a_dry_run_writes_nothing_and_foretells_what_is_fetched(world: World) -> None:
    world.download("tokenizer.model", source="huggingface")
    before = sorted(world.home.rglob("*"))
    sent = sum(world.sent.values())
    plan = world.plan(source="huggingface")
    assert (sorted(world.home.rglob("*")), sum(world.sent.values())) == (before, sent)
    assert {file.path: file.source for file in plan.files}["tokenizer.model"] is None
    assert plan.to_fetch == world.download(source="huggingface").fetched_bytes


def test_revisions_are_names_or_ids_and_both_are_recorded(world: World) -> None:
    done = world.download(revision="main", source="huggingface")
    assert done.revision != "main"
    assert world.download(revision=done.revision, source="huggingface").path == done.path
    with pytest.raises(NotFoundError, match="v99"):
        world.download(revision="v99", source="huggingface")
    recorded = Lock.load(world.settings).find("huggingface", REPO, "main")
    assert recorded and recorded.revision == done.revision


def test_a_release_that_changed_after_it_was_locked_is_refused(world: World) -> None:
    world.download("config.json", source="modelscope")
    write(world.root / REPO, {WEIGHTS: b"other weights"})
    with pytest.raises((IntegrityError, NotFoundError)) as caught:
        world.download(source="modelscope")
    assert "modelscope" in str(caught.value)
    assert [path.name for path in world.published()].count(WEIGHTS) == 0


def test_a_folder_of_ones_own_gets_plain_files(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = world.download(local_dir=out, source="huggingface")
    assert (done.path, content_below(out)) == (out, FILES)
    assert not [path for path in out.rglob("*") if path.is_symlink()]
    assert not list(world.home.glob("blobs/**/*"))
    assert world.download(local_dir=out).fetched_bytes == 0


def test_a_folder_of_ones_own_is_filled_from_the_store(world: World, tmp_path: Path) -> None:
    world.download()
    sent = world.sent
    world.download(local_dir=tmp_path / "out")
    assert (world.sent, content_below(tmp_path / "out")) == (sent, FILES)


def test_a_foreign_or_altered_folder_is_left_alone(world: World, tmp_path: Path) -> None:
    write(tmp_path / "thesis", {"draft.txt": b"mine"})
    with pytest.raises(UsageError, match="not empty"):
        world.download(local_dir=tmp_path / "thesis")
    assert content_below(tmp_path / "thesis") == {"draft.txt": b"mine"}
    world.download(local_dir=tmp_path / "out")
    write(tmp_path / "out", {"config.json": b"edited"})
    with pytest.raises(UsageError, match=r"config\.json"):
        world.download(local_dir=tmp_path / "out")
    world.download(local_dir=tmp_path / "out", force=True)
    assert content_below(tmp_path / "out") == FILES


def test_a_link_in_the_way_does_not_lead_a_file_outside(world: World, tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    world.download("config.json", local_dir=out)
    (out / "sub").symlink_to(outside)
    with pytest.raises(UsageError, match="leads out of the folder"):
        world.download(local_dir=out)
    assert list(outside.iterdir()) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written_is_named(world: World, tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o500)
    with pytest.raises(UsageError, match="cannot write there"):
        world.download(local_dir=tmp_path / "shut" / "out")


def test_a_place_that_is_a_file_is_named(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot write there"):
        world.download(local_dir=tmp_path / "file" / "out")


def test_offline_asks_nobody_and_finds_what_is_here(world: World) -> None:
    offline = replace(world.settings, offline=True)
    with pytest.raises(NetworkError) as caught:
        _download(offline)
    assert (caught.value.exit_code, world.requests) == (5, 0)
    path = world.download().path
    assert _download(offline).path == path


def test_without_digests_the_bytes_are_held_against_another_hub(world: World) -> None:
    done = world.download(source="openxlab", format="hf")
    assert (done.trust, locked(world, "openxlab").trust) == ("hub", "hub")
    assert any("compared with those of" in note for note in done.notes)


def test_without_digests_wrong_bytes_of_the_right_size_are_still_refused(world: World) -> None:
    world.fault("flip", WEIGHTS, "openxlab")
    with pytest.raises(IntegrityError, match="not what huggingface publishes"):
        world.download(source="openxlab", format="hf")
    assert world.published() == []


def test_another_size_on_another_hub_is_told(world: World) -> None:
    write(world.folder / "other" / REPO, {**FILES, WEIGHTS: FILES[WEIGHTS][:-1]})
    with FaultyHub(world.folder / "other") as other:
        world.environ[ENDPOINTS["openxlab"]] = other.url
        done = world.download(source="openxlab", format="hf")
    assert done.trust == "first-use"
    assert any(
        note.startswith(f"{WEIGHTS} has 600,006 bytes on openxlab, but 600,007") for note in done.notes
    )


def test_what_nobody_vouches_for_is_trusted_on_first_use_and_pinned(world: World) -> None:
    done = world.download(format="original")
    assert (done.trust, locked(world, "openxlab", "acme/tiny-original").trust) == ("first-use", "first-use")
    assert any("trusted on first use" in note for note in done.notes)
    for path in world.home.glob("blobs/sha256/*/*"):
        path.unlink()
    world.fault("flip", "model_tp0_pp0.pt")
    with pytest.raises(IntegrityError, match="expected sha256"):
        world.download(format="original")


def test_the_users_order_of_hubs_is_kept(world: World) -> None:
    world.environ["INTERNLM_ZOO_SOURCES"] = "modelscope,huggingface"
    assert world.download().hub == "modelscope"
    assert world.sent["huggingface"] == 0


def test_an_overlay_may_hold_that_order_and_the_environment_comes_before_it(world: World) -> None:
    with (world.folder / "overlay.yaml").open("a") as overlay:
        overlay.write("sources: [modelscope, huggingface]\n")
    assert world.download().hub == "modelscope"
    world.environ["INTERNLM_ZOO_SOURCES"] = "huggingface"
    assert world.download().hub == "huggingface"
    assert world.sent["openxlab"] == 0


def test_a_url_stands_in_for_the_hubs_and_gets_no_credentials(world: World) -> None:
    world.environ |= {"HF_TOKEN": "secret", "MODELSCOPE_API_TOKEN": "secret"}
    mirror = world.hubs["openxlab"]
    done = world.download(source=mirror.url)
    assert content_below(done.path) == FILES
    assert not [seen for seen in mirror.requests if "secret" in str(dict(seen.headers))]
    assert world.sent["huggingface"] == world.sent["modelscope"] == 0


def test_a_directory_stands_in_for_the_hubs(world: World) -> None:
    done = world.download(source=str(world.root), format="hf")
    assert (content_below(done.path), world.requests) == (FILES, 0)


def test_a_repository_under_its_other_name_is_found(world: World) -> None:
    renamed = OVERLAY.replace(
        "repo: acme/tiny, format", "repo: acme/old, also_listed_as: [acme/tiny], format"
    )
    (world.folder / "overlay.yaml").write_text(renamed)
    done = world.download()
    assert (done.hub, done.repo, content_below(done.path)) == ("huggingface", REPO, FILES)


def test_a_private_repository_wants_the_token(world: World) -> None:
    with FaultyHub(world.root, tokens={"sesame"}) as guarded:
        world.environ["HF_ENDPOINT"] = guarded.url
        with pytest.raises(AccessError) as caught:
            world.download(source="huggingface")
        assert caught.value.exit_code == 4
        world.environ["HF_TOKEN"] = "sesame"
        assert content_below(world.download(source="huggingface").path) == FILES


def test_files_come_several_at_a_time(world: World) -> None:
    hub, over = world.hubs["modelscope"], threading.Event()
    hub.fault("stall", until=lambda: over.is_set())
    worker = threading.Thread(target=world.download, kwargs={"source": "modelscope", "max_workers": 4})
    worker.start()
    hub.wait(lambda: len(hub.downloads()) >= 4)
    assert [seen.sent for seen in hub.downloads()] == [0] * 4
    over.set()
    worker.join()


def test_blobs_are_read_only_and_releases_point_to_them(world: World) -> None:
    path = world.download().path
    assert stat.S_IMODE((path / WEIGHTS).stat().st_mode) & 0o222 == 0
    assert (path / WEIGHTS).readlink().parts[0] == ".."
    moved = world.home.rename(world.folder / "elsewhere")
    assert content_below(moved / path.relative_to(world.home)) == FILES


def test_where_links_do_not_work_files_take_their_place(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refused)
    assert content_below(world.download(source="huggingface").path) == FILES
    monkeypatch.setattr(Path, "hardlink_to", refused)
    done = world.download(source="modelscope")
    assert content_below(done.path) == FILES
    assert (done.path / WEIGHTS).stat().st_nlink == 1


def _download(settings: Settings) -> Any:
    from internlm_zoo import download

    return download("tiny", settings=settings)

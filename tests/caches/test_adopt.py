"""What the hubs' own clients saved, or the user has in a folder, is not fetched again."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from internlm_zoo.errors import Cancelled, UsageError
from internlm_zoo.fs.ownership import free_name
from internlm_zoo.integrity.verify import verify_all
from internlm_zoo.progress import Progress
from tests.caches.official import HF, MS, cached, python
from tests.world import FILES, WEIGHTS, World, content_below, sha256, write

ALL = sum(map(len, FILES.values()))
AN_HOUR_AGO = 3_600_000_000_000


class Reading(Progress):
    """Counts the bytes that were hashed or fetched."""

    def __init__(self) -> None:
        self.bytes = 0

    def advance(self, task: str, amount: int, source: str | None = None) -> None:
        self.bytes += amount


def aged(folder: Path) -> Path:
    """The same files, as they are long after they were written."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        then = path.stat().st_mtime_ns - AN_HOUR_AGO
        os.utime(path, ns=(then, then))
    return folder


def edit(path: Path) -> None:
    """Change a byte in place; size and mode stay."""
    with path.open("r+b") as file:
        file.write(bytes([path.read_bytes()[0] ^ 1]))


def ours(world: World) -> set[int]:
    return {path.stat().st_ino for path in world.home.glob("blobs/*/*/*")}


@pytest.fixture
def kept(world: World, tmp_path: Path) -> Path:
    """The release as plain files, somewhere below a folder of the user's."""
    write(tmp_path / "disk" / "old" / "tiny", FILES)
    return aged(tmp_path / "disk")


@pytest.mark.parametrize(
    ("client", "source", "moved"),
    [
        (HF, "huggingface", False),
        (HF, "modelscope", True),
        (MS, "modelscope", False),
        (MS, "huggingface", True),
    ],
)
def test_a_release_in_an_official_cache_costs_no_bytes(
    world: World, client: str, source: str, moved: bool
) -> None:
    """By digests alone where the cache was filled from the other hub; small files have other digests there,
    so they are found by their repository."""
    if moved:
        world.environ |= {"HF_HOME": str(world.folder / "h"), "MODELSCOPE_CACHE": str(world.folder / "m")}
    folder = Path(cached(world, client))
    assert content_below(folder).items() >= FILES.items()
    sent = sum(world.sent.values())
    done = world.download(source=source, format="hf")
    assert content_below(done.path) == FILES
    assert (sum(world.sent.values()), done.fetched_bytes, done.reused_bytes) == (sent, 0, ALL)
    assert {file.source for file in done.files} == {None}
    assert all(file.taken_from for file in done.files if file.size)
    name = {HF: "Hugging Face", MS: "ModelScope"}[client]
    assert f"5 of the files are from the {name} cache" in done.notes
    assert verify_all("tiny", settings=world.settings)[0].ok


def test_the_cache_variable_of_the_hub_folder_counts_before_its_home(world: World) -> None:
    world.environ |= {"HF_HOME": str(world.folder / "h"), "HF_HUB_CACHE": str(world.folder / "elsewhere")}
    assert str(world.folder / "elsewhere") in cached(world, HF)
    assert world.download(source="huggingface").fetched_bytes == 0


@pytest.mark.parametrize("below", ["models", "hub/models", pytest.param("hub", marks=pytest.mark.slow), "."])
def test_the_layouts_of_older_modelscopes_are_known(world: World, below: str) -> None:
    world.environ["MODELSCOPE_CACHE"] = str(world.folder / "m")
    write(world.root / "acme/tiny-1.5b", FILES)
    overlay = world.folder / "overlay.yaml"
    overlay.write_text(
        overlay.read_text().replace(
            "hub: modelscope, repo: acme/tiny", "hub: modelscope, repo: acme/tiny-1.5b"
        )
    )
    write(world.folder / "m" / below / "acme" / "tiny-1___5b", FILES)
    assert world.download(source="modelscope").fetched_bytes == 0
    if below.startswith("hub"):  # the client itself uses what lies there, too
        assert "tiny-1___5b" in cached(world, MS, "acme/tiny-1.5b")


def test_a_folder_of_the_users_is_looked_through_at_any_depth(world: World, kept: Path) -> None:
    done = world.download(source="modelscope", adopt=[kept])
    assert (content_below(done.path), done.fetched_bytes) == (FILES, 0)
    assert content_below(kept / "old" / "tiny") == FILES
    with pytest.raises(UsageError, match="no such folder"):
        world.download(source="modelscope", adopt=[kept / "nothing"])


def test_one_disk_keeps_the_bytes_once_and_no_mode_changes(world: World, kept: Path) -> None:
    theirs = {path: path.stat() for path in kept.rglob("*") if path.is_file()}
    done = world.download(source="modelscope", adopt=[kept])
    weights = kept / "old" / "tiny" / WEIGHTS
    shared = (done.path / WEIGHTS).stat().st_ino == weights.stat().st_ino
    blocks_are_shared = sys.platform == "darwin" or not shared  # a reflink, where the file system has them
    assert shared or blocks_are_shared
    assert not any(path.is_symlink() for path in world.home.glob("blobs/**/*"))
    for path, before in theirs.items():
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(before.st_mode)
        assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert list(world.home.glob("partial/*")) == []


def test_plain_files_for_the_user_are_no_links_into_a_cache(world: World, tmp_path: Path) -> None:
    cache = Path(cached(world, HF))
    sent = sum(world.sent.values())
    done = world.download(local_dir=tmp_path / "out", source="huggingface")
    assert (content_below(done.path), sum(world.sent.values())) == (FILES, sent)
    (tmp_path / "out" / WEIGHTS).write_bytes(b"mine")
    assert (cache / WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_wrong_bytes_in_a_cache_are_not_taken(world: World) -> None:
    """Under the right digest, in the place where the client puts them: it checks nothing."""
    world.fault("flip", WEIGHTS, "huggingface")
    folder = Path(cached(world, HF))
    wrong = (folder / WEIGHTS).read_bytes()
    assert wrong != FILES[WEIGHTS]
    world.hubs["huggingface"].clear()
    done = world.download(source="huggingface")
    assert (content_below(done.path), done.fetched_bytes) == (FILES, len(FILES[WEIGHTS]))
    assert (folder / WEIGHTS).read_bytes() == wrong


@pytest.mark.parametrize("kind", ["folder", "dangling", "loop", "pipe", "of another size"])
def test_what_only_looks_like_the_file_does_no_harm(world: World, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "disk" / WEIGHTS
    place.parent.mkdir()
    make = {
        "folder": place.mkdir,
        "dangling": lambda: place.symlink_to("nothing"),
        "loop": lambda: place.symlink_to(place),
        "pipe": lambda: os.mkfifo(place),
        "of another size": lambda: place.write_bytes(b"short"),
    }
    make[kind]()
    done = world.download(source="modelscope", adopt=[tmp_path / "disk"])
    assert (content_below(done.path), done.fetched_bytes) == (FILES, ALL)


@pytest.mark.parametrize("draft", ["release", "removed", "blocks"])
def test_drafts_of_a_killed_run_go_with_the_next_download(world: World, draft: str) -> None:
    left = world.home / "partial" / free_name(draft)
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    world.download()
    assert not left.exists()


def test_a_file_is_hashed_once(world: World, kept: Path) -> None:
    write(kept, {WEIGHTS: bytes(len(FILES[WEIGHTS]))})
    aged(kept)
    first, again, forced = Reading(), Reading(), Reading()
    world.download(source="modelscope", adopt=[kept], progress=first)
    assert first.bytes == ALL + len(FILES[WEIGHTS])
    (world.home / "blobs").rename(world.folder / "aside")  # removing a link would count as a change
    world.download(source="modelscope", adopt=[kept], progress=again)
    assert again.bytes == 0
    shutil.rmtree(world.home / "blobs")
    world.download(source="modelscope", adopt=[kept], progress=forced, force=True)
    assert forced.bytes == first.bytes


def test_a_torn_memory_only_costs_another_look(world: World, kept: Path) -> None:
    world.download(source="modelscope", adopt=[kept])
    shutil.rmtree(world.home / "blobs")
    memory = world.home / "adopted.jsonl"
    memory.write_bytes(memory.read_bytes()[:-20] + b'\n{"path": 1}\n\xff[')
    done = world.download(source="modelscope", adopt=[kept])
    assert (content_below(done.path), done.fetched_bytes) == (FILES, 0)


def test_the_memory_does_not_grow_for_ever(world: World, kept: Path) -> None:
    weights = kept / "old" / "tiny" / WEIGHTS
    for turn in range(100):
        then = weights.stat().st_mtime_ns - turn
        os.utime(weights, ns=(then, then))
        world.download(WEIGHTS, source="modelscope", adopt=[kept], local_dir=world.folder / "out")
        (world.folder / "out" / WEIGHTS).unlink()
    assert len((world.home / "adopted.jsonl").read_bytes().splitlines()) < 60


@pytest.mark.parametrize("hours", [0, 1], ids=["fresh", "at rest"])
def test_an_edit_of_the_original_is_noticed_everywhere(world: World, tmp_path: Path, hours: int) -> None:
    write(tmp_path / "disk", FILES)
    if hours:
        aged(tmp_path / "disk")
    done = world.download(source="modelscope", adopt=[tmp_path / "disk"])
    is_one_file = (done.path / WEIGHTS).stat().st_ino == (tmp_path / "disk" / WEIGHTS).stat().st_ino
    edit(tmp_path / "disk" / WEIGHTS)
    if not is_one_file:  # the file system shares blocks: the edit stays where it was made
        assert verify_all("tiny", settings=world.settings)[0].ok
        return
    (report,) = verify_all("tiny", settings=world.settings)
    assert [wrong.path for wrong in report.wrong] == [WEIGHTS]
    again = world.download(source="modelscope", adopt=[tmp_path / "disk"])
    assert (content_below(again.path), again.fetched_bytes) == (FILES, len(FILES[WEIGHTS]))
    assert (tmp_path / "disk" / WEIGHTS).read_bytes() != FILES[WEIGHTS]
    assert verify_all("tiny", settings=world.settings)[0].ok


def test_a_changed_time_alone_costs_a_look_and_no_bytes(world: World, kept: Path) -> None:
    world.download(source="modelscope", adopt=[kept])
    for path in kept.rglob("*"):
        path.touch()
    asked = world.requests
    assert world.download(source="modelscope").fetched_bytes == 0
    assert world.requests == asked


def test_offline_the_caches_are_enough_for_a_locked_release(world: World) -> None:
    cached(world, HF)
    world.download(source="huggingface")
    shutil.rmtree(world.home / "blobs")
    shutil.rmtree(world.home / "releases")
    world.environ["INTERNLM_ZOO_OFFLINE"] = "1"
    asked = world.requests
    assert content_below(world.download(source="huggingface").path) == FILES
    assert world.requests == asked


def test_a_plan_says_what_would_be_taken_and_writes_nothing(world: World, kept: Path) -> None:
    plan = world.plan(source="modelscope", adopt=[kept])
    assert (plan.to_fetch, plan.size) == (0, ALL)
    places = {file.path: file.taken_from for file in plan.files}
    assert places == {path: (kept / "old" / "tiny" / path).resolve() for path in FILES}
    assert not world.home.exists()
    assert world.sent["modelscope"] == 0


def test_a_release_that_fits_no_disk_is_taken_by_links(world: World, kept: Path, monkeypatch) -> None:
    """No room is asked for what takes none."""
    full = shutil.disk_usage(world.folder)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    assert world.download(source="modelscope", adopt=[kept]).fetched_bytes == 0


def test_digests_are_those_of_the_bytes(world: World, kept: Path) -> None:
    done = world.download(source="huggingface", adopt=[kept])
    assert {file.path: file.sha256 for file in done.files} == {
        path: sha256(data) for path, data in FILES.items()
    }


def test_from_another_disk_the_bytes_are_copied(world: World) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == world.folder.stat().st_dev:
        pytest.skip("there is no second disk here")
    with tempfile.TemporaryDirectory(dir=memory) as disk:
        write(Path(disk), FILES)
        done = world.download(source="modelscope", adopt=[Path(disk)])
        assert (content_below(done.path), done.fetched_bytes) == (FILES, 0)
        edit(Path(disk) / WEIGHTS)
        assert verify_all("tiny", settings=world.settings)[0].ok
    assert not (done.path / WEIGHTS).stat().st_mode & stat.S_IWUSR


def test_processes_that_adopt_at_once_all_succeed(world: World, kept: Path) -> None:
    world.download("config.json", source="modelscope")
    program = (
        "from pathlib import Path; from internlm_zoo import download\n"
        f"print(download('tiny', source='modelscope', adopt=[{str(kept)!r}]))"
    )
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: python(world, program), range(4)))
    assert [content_below(Path(folder)) for folder in folders] == [FILES]
    assert list(world.home.glob("partial/*")) == []
    assert verify_all("tiny", settings=world.settings)[0].ok


def test_hashing_ends_when_the_caller_says_so(world: World, kept: Path) -> None:
    world.download("config.json", source="modelscope")
    cancel = threading.Event()

    class Impatient(Progress):
        def start(self, task: str, total: int | None, done: int = 0) -> None:
            cancel.set()

    with pytest.raises(Cancelled):
        world.download(source="modelscope", adopt=[kept], progress=Impatient(), cancel=cancel)
    assert [path.name for path in world.published()].count(WEIGHTS) == 0
    assert content_below(world.download(source="modelscope", adopt=[kept]).path) == FILES

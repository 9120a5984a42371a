"""registry.lock keeps what was resolved, exactly, in an order that makes changes readable."""

from __future__ import annotations

import difflib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from internlm_zoo.files import ALGORITHMS, Digests, File
from internlm_zoo.names import fault_in
from internlm_zoo.registry import RegistryError
from internlm_zoo.registry.lock import Lock, LockedRelease, dump, read, record, user_lock, write
from internlm_zoo.settings import Settings


def hex_digits(count: int) -> st.SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=count, max_size=count)


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=30)
files = st.builds(
    File,
    path=texts.filter(lambda text: fault_in(text) is None),
    size=st.none() | st.integers(0, 2**50),
    digests=st.builds(
        Digests, **{name: st.none() | hex_digits(one.digits) for name, one in ALGORITHMS.items()}
    ),
)
releases = st.builds(
    LockedRelease,
    hub=st.sampled_from(["huggingface", "modelscope"]),
    repo=texts,
    revision=hex_digits(40) | st.sampled_from(["1e5", "123", "null", "yes", "0x1f", "2023-01-01"]),
    requested=st.none() | texts,
    format=st.sampled_from([None, "hf", "original"]),
    trust=st.sampled_from(["hub", "first-use"]),
    files=st.lists(files, max_size=4, unique_by=lambda file: file.path).map(
        lambda items: tuple(sorted(items, key=lambda file: file.path))
    ),
)


def release(repo: str = "a/b", requested: str | None = None, revision: str = "r1") -> LockedRelease:
    found = (
        File("config.json", 10, Digests("0" * 64)),
        File("w.bin", 5_000_000, Digests("1" * 64, git_sha1="2" * 40)),
    )
    return LockedRelease("huggingface", repo, revision, requested, "hf", "hub", found)


@settings(max_examples=60)
@given(st.lists(releases, max_size=4))
def test_any_lock_survives_being_written_and_read(
    tmp_path_factory: pytest.TempPathFactory, found: list[LockedRelease]
):
    path = tmp_path_factory.mktemp("lock") / "registry.lock"
    lock = Lock().updated(found)
    write(path, lock)
    assert read(path) == lock
    assert dump(read(path)) == path.read_text(encoding="utf-8")


@settings(max_examples=30)
@given(st.lists(releases, min_size=2, max_size=4), st.randoms())
def test_the_text_does_not_depend_on_the_order_of_recording(found: list[LockedRelease], random):
    unique = {(item.hub, item.repo, item.requested or ""): item for item in found}
    shuffled = list(unique.values())
    random.shuffle(shuffled)
    assert dump(Lock().updated(unique.values())) == dump(Lock(tuple(shuffled)))


def test_a_changed_file_is_one_changed_line():
    before = Lock((release("a/a"), release("a/b")))
    weights = File("w.bin", 5_000_001, Digests("3" * 64))
    changed = LockedRelease(**{**vars(release("a/b")), "files": (release().files[0], weights)})
    diff = difflib.ndiff(dump(before).splitlines(), dump(before.updated([changed])).splitlines())
    assert [line[0] for line in diff if line[0] in "+-"] == ["-", "+"]


def test_find_answers_by_request_and_by_resolved_revision():
    default, tagged = release(revision="r2"), release(requested="v1", revision="r1")
    lock = Lock((default, tagged))
    assert lock.find("huggingface", "a/b") == default
    assert lock.find("huggingface", "a/b", "v1") == tagged
    assert lock.find("huggingface", "a/b", "r1") == tagged
    assert lock.find("huggingface", "a/b", "r2") == default
    assert lock.find("huggingface", "a/b", "r3") is None
    assert lock.find("modelscope", "a/b") is None
    assert Lock((tagged,)).find("huggingface", "a/b") is None


def test_the_users_lock_lies_on_top_of_the_shipped_one(tmp_path: Path):
    home = Settings(home=tmp_path / "new")
    shipped = Lock.load(home)
    record(home, release(revision="r1"))
    record(home, release(revision="r2"), release("a/c"))
    assert Lock.load(home) == shipped.updated([release(revision="r2"), release("a/c")])
    assert [path.name for path in home.home.glob("*.tmp")] == []


def test_processes_recording_at_once_lose_nothing(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path\n"
        "from internlm_zoo.registry.lock import LockedRelease, record\n"
        "from internlm_zoo.settings import Settings\n"
        "for n in range(5):\n"
        "    record(Settings(home=Path(sys.argv[1])),"
        " LockedRelease('huggingface', f'{sys.argv[2]}/{n}', 'r', None, 'hf', 'hub', ()))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), who]) for who in "abc"]
    assert [process.wait() for process in running] == [0, 0, 0]
    repos = {found.repo for found in read(tmp_path / "registry.lock").releases}
    assert repos == {f"{who}/{n}" for who in "abc" for n in range(5)}


def test_a_broken_lock_says_where(tmp_path: Path):
    path = user_lock(Settings(home=tmp_path))
    path.write_text("releases:\n- {hub: x, repo: y, revision: 12, requested: null}\n")
    with pytest.raises(RegistryError) as caught:
        Lock.load(Settings(home=tmp_path))
    assert str(caught.value).startswith(f"{path}:2: releases[0].revision is 12; it should be a valid string")
    assert "internlm-zoo lock" in str(caught.value.fix)

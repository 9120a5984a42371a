"""`verify` believes nothing but the bytes."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from internlm_zoo.errors import NotFoundError
from internlm_zoo.files import Digests, File
from internlm_zoo.integrity.folder import verify_folder
from internlm_zoo.progress import Progress

FILES = {
    f"{folder}file-{number}.bin": random.Random(number).randbytes(1000 * number)
    for number, folder in enumerate(["", "", "a/", "a/b/", "a/b/"])
}


def locked(path: str, data: bytes) -> File:
    return File(path, len(data), Digests(hashlib.sha256(data).hexdigest()))


EXPECTED = [locked(path, data) for path, data in FILES.items()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, data in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    return tmp_path


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_what_is_as_it_should_be_is_ok(folder: Path, workers: int | None) -> None:
    report = verify_folder(folder, EXPECTED, workers)
    assert report.ok
    assert (report.checked, report.size) == (len(FILES), sum(map(len, FILES.values())))


@pytest.mark.parametrize("position", [0, 1500, 2999])
def test_one_bit_anywhere_is_found(folder: Path, position: int) -> None:
    damaged = bytearray(FILES["a/b/file-3.bin"])
    damaged[position] ^= 1
    (folder / "a/b/file-3.bin").write_bytes(damaged)
    report = verify_folder(folder, EXPECTED)
    assert [file.path for file in report.wrong] == ["a/b/file-3.bin"]
    assert hashlib.sha256(damaged).hexdigest() in report.wrong[0].what
    assert verify_folder(folder, EXPECTED, quick=True).ok


def test_every_fault_is_named_whatever_the_others_are(folder: Path) -> None:
    (folder / "file-1.bin").write_bytes(FILES["file-1.bin"] + b"more")
    (folder / "a/file-2.bin").unlink()
    (folder / "a/b/file-4.bin").unlink()
    (folder / "a/b/file-4.bin").mkdir()
    (folder / "zz").write_bytes(b"")
    (folder / "a/.hidden").write_bytes(b"")
    report = verify_folder(folder, EXPECTED)
    assert not report.ok
    assert [(file.path, file.what) for file in report.wrong] == [
        ("file-1.bin", "expected 1,000 bytes, found 1,004")
    ]
    assert report.missing == ("a/b/file-4.bin", "a/file-2.bin")
    assert report.extra == ("a/.hidden", "zz")


def test_a_dangling_link_is_a_missing_file(folder: Path) -> None:
    (folder / "file-1.bin").unlink()
    (folder / "file-1.bin").symlink_to("nowhere")
    assert verify_folder(folder, EXPECTED).missing == ("file-1.bin",)


def test_the_git_digest_serves_where_it_is_all_there_is(folder: Path) -> None:
    data = FILES["file-1.bin"]
    sha1 = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    others = [file for file in EXPECTED if file.path != "file-1.bin"]
    assert verify_folder(folder, [*others, File("file-1.bin", len(data), Digests(git_sha1=sha1))]).ok
    wrong = verify_folder(
        folder, [*others, File("file-1.bin", len(data), Digests(git_sha1=sha1[::-1]))]
    ).wrong
    assert sha1 in wrong[0].what


def test_a_file_of_which_no_digest_is_known_is_not_called_right(folder: Path) -> None:
    report = verify_folder(folder, [*EXPECTED[1:], File(EXPECTED[0].path)])
    assert [file.what for file in report.wrong] == ["no digest of it is known"]


def test_progress_adds_up(folder: Path) -> None:
    class Sum(Progress):
        total = 0

        def advance(self, task: str, amount: int, source: str | None = None) -> None:
            self.total += amount

    progress = Sum()
    verify_folder(folder, EXPECTED, workers=1, progress=progress)
    assert progress.total == sum(map(len, FILES.values()))


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        verify_folder(tmp_path / "nothing", EXPECTED)

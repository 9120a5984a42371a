"""The digests of a file, by the programs that define them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from internlm_zoo.files import ALGORITHMS, Digests, File
from internlm_zoo.hashing import PIECE, hash_file

PROGRAMS = {"sha256": ["sha256sum"], "git_sha1": ["git", "hash-object", "--no-filters"]}


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1])
def test_each_digest_is_what_its_program_says(tmp_path: Path, size: int) -> None:
    assert tuple(ALGORITHMS) == Digests._fields == tuple(PROGRAMS)  # `completed_by` and others rely on it
    path = tmp_path / "file"
    seen: list[int] = []
    path.write_bytes(b"\r\n" * size)
    found = hash_file(path, ALGORITHMS, seen.append)
    for name, program in PROGRAMS.items():
        said = subprocess.run([*program, path], capture_output=True, text=True, check=True).stdout.split()[0]
        assert getattr(found, name) == said
        assert (ALGORITHMS[name].of_nothing == said) == (size == 0)
    assert sum(seen) == 2 * size


def test_reading_ends_where_whoever_is_told_of_it_raises(tmp_path: Path) -> None:
    path, seen = tmp_path / "file", []
    path.write_bytes(b"x" * (3 * PIECE))

    def stop(amount: int) -> None:
        seen.append(amount)
        if len(seen) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        hash_file(path, on_bytes=stop)
    assert seen == [PIECE, PIECE]


def test_two_descriptions_of_a_file_agree_as_far_as_both_speak() -> None:
    listed = File("w.bin", 10, Digests(git_sha1="1" * 40))
    found = File("w.bin", 10, Digests("2" * 64))
    assert listed.conflict(found) is None
    assert not listed.digests.agree(found.digests)
    whole = listed.completed_by(found)
    assert whole == File("w.bin", 10, Digests("2" * 64, git_sha1="1" * 40))
    assert str(whole.conflict(File("w.bin", 11, Digests("3" * 64)))) == "expected size 10, found 11"
    assert str(whole.conflict(File("w.bin", 10, Digests("3" * 64)))).startswith("expected sha256 222")
    assert not File("w.bin", None, listed.digests).identified  # git's digest is of the size, too

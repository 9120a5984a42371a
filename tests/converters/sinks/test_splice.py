"""Stretches of files laid side by side in memory are the bytes that reading them gives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.errors import IntegrityError
from converters.formats.folder import LocalFolder
from converters.geometry.stretches import Stretch
from converters.sinks.splice import splice
from converters.source.gather import Sources
from converters.system import mappings
from converters.system.mappings import PAGE, can_lay

pytestmark = pytest.mark.skipif(not can_lay(), reason="this system lays no files into memory")

SIZE = 12 * PAGE
FILES = ("a", "b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for name in FILES:
        (folder / name).write_bytes(os.urandom(SIZE))
    return folder


SIZES = st.one_of(st.integers(1, 70), st.integers(PAGE - 70, PAGE + 70), st.integers(1, 3 * PAGE))


@st.composite
def stretches(draw, congruent: bool) -> list[Stretch]:
    """Stretches that follow one another in the target, anywhere in the files."""
    found, start, shift = [], 0, draw(st.integers(0, PAGE - 1))
    for nbytes in draw(st.lists(SIZES, min_size=1, max_size=6)):
        last = SIZE - nbytes
        offset = draw(st.integers(0, last))
        if congruent:
            offset += (start + shift - offset) % PAGE
            offset -= PAGE * -(-max(0, offset - last) // PAGE)
        found.append(Stretch(draw(st.sampled_from(FILES)), offset, start, nbytes))
        start += nbytes
    return found


def content(folder: Path, some: list[Stretch]) -> bytes:
    files = {name: (folder / name).read_bytes() for name in FILES}
    return b"".join(files[one.file][one.offset :][: one.nbytes] for one in some)


@settings(deadline=None)
@given(data=st.data())
def test_stretches_that_fit_are_the_files_bytes_and_writing_changes_none(folder, data):
    some = data.draw(stretches(congruent=True))
    before = content(folder, some)
    with Sources(LocalFolder(folder)) as files:
        memory = splice(some, files)
    assert memory == before
    memory[:] = bytes(len(memory))
    assert content(folder, some) == before


@settings(deadline=None)
@given(data=st.data())
def test_stretches_that_do_not_fit_are_refused_and_no_others(folder, data):
    some = data.draw(stretches(congruent=False))
    with Sources(LocalFolder(folder)) as files:
        memory = splice(some, files)
    if len({(one.offset - one.start) % PAGE for one in some}) > 1:
        assert memory is None
    else:
        assert memory == content(folder, some)


def test_a_file_that_the_system_does_not_map_is_left_to_be_read(folder, monkeypatch):
    monkeypatch.setattr(mappings, "_mmap", lambda: lambda *asked: -1)
    with Sources(LocalFolder(folder)) as files:
        assert splice([Stretch("a", 0, 0, PAGE), Stretch("b", PAGE, PAGE, PAGE)], files) is None


def test_a_file_that_was_cut_off_is_named(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(bytes(4 * PAGE))
    with pytest.raises(IntegrityError) as caught, Sources(LocalFolder(tmp_path)) as files:
        assert files["a"].size == 4 * PAGE
        os.truncate(file, 2 * PAGE)
        splice([Stretch("a", 0, 0, PAGE), Stretch("a", 2 * PAGE, PAGE, PAGE)], files)
    assert caught.value.where == str(file)

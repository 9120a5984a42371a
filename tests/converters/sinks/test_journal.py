"""The journal of a conversion: a line that is damaged is as no line."""

from __future__ import annotations

import json

import pytest

from converters.sinks.journal import Journal, WrittenBatch

ENTRIES = {n: WrittenBatch({"model.safetensors": {"a": n}}, {"a": f"{n:032x}"}) for n in range(3)}
BAD = {
    "noise": b"\xff\xfe\x00\n",
    "not JSON": b"[1, {\n",
    "infinity": b'[1, {"crcs": {"f": {"t": 1e999}}, "digests": {}}]\n',
    "without its checksum": b'[1, {"crcs": {}, "digests": {}}]\n',
    "deep": b"[" * 100_000 + b"]" * 100_000 + b"\n",
    "digits": b"[" + b"9" * 10_000 + b", {}]\n",
    "another form": b'{"1": 2}\n',
    "empty": b"\n",
}


@pytest.fixture
def path(tmp_path):
    with Journal(tmp_path / "journal") as journal:
        for number, entry in ENTRIES.items():
            journal.add(number, entry)
    return tmp_path / "journal"


def read(path):
    with Journal(path) as journal:
        return journal.entries


@pytest.mark.parametrize("line", BAD.values(), ids=BAD)
@pytest.mark.parametrize("at", range(4))
def test_a_bad_line_anywhere_is_as_no_line(path, line, at):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:at], line, *lines[at:]]))
    assert read(path) == ENTRIES
    assert path.read_bytes() == b"".join(lines)  # and is gone


@pytest.mark.parametrize("bit", range(0, 8, 3))
def test_a_line_with_one_bit_changed_is_as_no_line(path, bit):
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        changed = bytearray(data)
        changed[at] ^= 1 << bit
        path.write_bytes(changed)
        found = read(path)
        assert found.items() <= ENTRIES.items() and len(found) >= len(ENTRIES) - 2


def test_an_entry_that_fits_no_batch_is_as_none(path):
    with Journal(path, lambda number, entry: number != 1) as journal:
        assert journal.entries.keys() == {0, 2}


def test_what_older_versions_wrote_is_begun_anew(path):
    path.write_text(json.dumps([0, {"crcs": {}, "digests": {}}]) + "\n")
    assert read(path) == {}

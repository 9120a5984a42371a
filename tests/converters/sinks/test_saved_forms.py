"""What a conversion leaves for another run, as another version, another program or a broken disk has it."""

from __future__ import annotations

import json
import re
import zlib

import pytest

import converters
from converters.errors import UnsupportedError
from converters.progress import NullProgress
from converters.sinks.journal import Journal, WrittenBatch
from converters.sinks.staging import Staging
from tests.converters.oracle import INTERNLM2, make_model, write_original
from tests.converters.sinks.test_publishing import content

FORMS = {
    "truncated": lambda text: text[: len(text) // 2],
    "foreign": lambda _: b'{"schema": "of another program", "target": {"files": [[{}]]}}\n',
    "no text": lambda _: b"\xff\xfe\x00",
    "older": lambda text: re.sub(rb'"schema": \d+,\s*', b"", text),
    "newer": lambda text: re.sub(rb'("schema": )\d+', rb"\g<1>99", text),
}


class Told(NullProgress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module")
def src(tmp_path_factory):
    return write_original(tmp_path_factory.mktemp("saved") / "src", make_model(INTERNLM2), INTERNLM2)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory, src):
    dst = tmp_path_factory.mktemp("wanted") / "dst"
    converters.convert(src, dst, to="hf")
    return dst


@pytest.fixture
def interrupted(tmp_path, src, monkeypatch):
    """What lies beside the target when a conversion ends before its last step."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Staging, "publish", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        converters.convert(src, tmp_path / "dst", to="hf")
    return tmp_path / ".dst.converting"


@pytest.mark.parametrize("form", FORMS)
def test_the_record_of_a_result_is_read_or_named_in_every_form(src, wanted, tmp_path, zoo, form):
    record = wanted / "conversion.json"
    whole = record.read_bytes()
    assert json.loads(whole)["schema"] == 1
    record.write_bytes(FORMS[form](whole))
    try:
        codes = [
            zoo(*door, wanted)[0] for door in (("verify",), ("inspect",), ("convert", src, "--to", "hf"))
        ]
        assert codes == {"older": [0, 1, 0], "newer": [7, 1, 7]}.get(form, [6, *codes[1:]])
        assert set(codes) <= {0, 1, 2, 6, 7} and record.read_bytes() == FORMS[form](whole)
        if form == "newer":
            assert "conversion.json" in zoo("verify", wanted)[2]
            assert "newer version" in zoo("inspect", wanted)[1]
            with pytest.raises(UnsupportedError, match="newer version"):
                converters.convert(wanted, tmp_path / "back", to="original", tp=1)
    finally:
        record.write_bytes(whole)


@pytest.mark.parametrize("name", ["identity", "journal"])
@pytest.mark.parametrize("form", ["of now", *FORMS])
def test_an_unfinished_conversion_is_gone_on_with_begun_anew_or_named(src, wanted, interrupted, name, form):
    whole = (interrupted / name).read_bytes()
    (interrupted / name).write_bytes(FORMS.get(form, lambda text: text)(whole))
    kept, told, dst = content(interrupted), Told(), interrupted.with_name("dst")
    if (name, form) == ("identity", "newer"):
        with pytest.raises(UnsupportedError, match="newer version"):
            converters.convert(src, dst, to="hf", progress=told)
        assert content(interrupted) == kept and not dst.exists()
        return
    report = converters.convert(src, dst, to="hf", progress=told)
    assert content(dst) == content(wanted) and not interrupted.exists()
    if (name, form) != ("journal", "truncated"):  # of which the half that is whole counts
        assert bool(report.kept) is (form == "of now")
    assert any("unfinished conversion" in note for note in told.notes) is (
        name == "identity" and form != "of now"
    )


@pytest.mark.parametrize(
    "entry",
    [
        '{"schema": 1, "batch": "0", "crcs": {}, "digests": {}}',
        '{"schema": 1, "batch": 0, "crcs": [[1]], "digests": {}}',
        '{"schema": 1, "batch": 0, "crcs": {"f": {"t": "1"}}, "digests": {}}',
        '{"schema": 1, "batch": 0, "crcs": {}, "digests": {"a": null}}',
        '{"schema": true, "batch": 0, "crcs": {}, "digests": {}}',
        "[[[]]]",
        "nothing",
    ],
)
def test_a_foreign_entry_with_a_right_checksum_is_as_none(tmp_path, entry):
    (tmp_path / "journal").write_text(f"{entry} {zlib.crc32(entry.encode()):08x}\n")
    with Journal(tmp_path / "journal") as journal:
        assert journal.entries == {}


def test_an_entry_that_the_disk_changed_is_as_none(tmp_path):
    path = tmp_path / "journal"
    with Journal(path) as journal:
        journal.add(0, WrittenBatch({}, {"norm.weight": "0123"}))
    path.write_text(path.read_text().replace("0123", "0124"))
    with Journal(path) as journal:
        assert journal.entries == {}

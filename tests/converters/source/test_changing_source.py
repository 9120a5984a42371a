"""A source that others write to while it is read: no result is made of two states of it."""

from __future__ import annotations

import json
import mmap
import os
import shutil

import pytest
from blake3 import blake3

import converters
from converters.errors import IntegrityError
from converters.progress import NullProgress
from tests.converters.conversion.test_evidence import READ_BACK, WRITTEN, Meanwhile, flip_last_byte
from tests.converters.oracle import INTERNLM2, make_model, write_hf

pytestmark = pytest.mark.skipif(os.name == "nt", reason="an open file cannot be replaced there")
WEIGHTS, TOKENIZER, CONFIG = "model.safetensors", "tokenizer_config.json", "config.json"
WRITING = "model_tp0_pp0.pt"  # the task that a progress is told of first


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    src = write_hf(tmp_path_factory.mktemp("changing") / "src", make_model(INTERNLM2), INTERNLM2)
    (src / TOKENIZER).write_text("{}")
    return src


@pytest.fixture
def src(tmp_path, made):
    return shutil.copytree(made, tmp_path / "src")


def written(path):
    flip_last_byte(path)


def written_and_set_back(path):
    before = path.stat()
    flip_last_byte(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def renamed_over(path):
    """By one of the same size and times, as rsync leaves it."""
    other = path.with_name("other")
    shutil.copy2(path, other)
    written_and_set_back(other)
    other.replace(path)


def written_through_memory(path):
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[-1] ^= 1


def truncated(path):
    os.truncate(path, path.stat().st_size // 2)


def taken_away(path):
    path.unlink()


DEEDS = [written, written_and_set_back, renamed_over, written_through_memory, truncated, taken_away]


def converted(src, dst, step, deed, **options):
    return converters.convert(src, dst, to="original", tp=2, progress=Meanwhile(step, deed), **options)


def assert_refused(tmp_path, name, *args, **options):
    with pytest.raises(IntegrityError, match="while it was read") as raised:
        converted(tmp_path / "src", tmp_path / "dst", *args, **options)
    assert raised.value.where == str(tmp_path / "src" / name)
    assert "run it again" in raised.value.fix
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


@pytest.mark.parametrize("deed", DEEDS)
def test_weights_that_change_after_they_were_read_publish_nothing(tmp_path, src, deed):
    assert_refused(tmp_path, WEIGHTS, WRITTEN, lambda: deed(src / WEIGHTS))


@pytest.mark.parametrize("deed", [deed for deed in DEEDS if deed is not written_and_set_back])
def test_weights_that_change_while_they_are_read_publish_nothing(tmp_path, src, deed):
    assert_refused(tmp_path, WEIGHTS, WRITING, lambda: deed(src / WEIGHTS))


def test_weights_that_change_before_they_are_read_are_recorded_as_they_were_read(tmp_path, src):
    """Nothing but the time at which its status changed tells that they did."""
    report = converted(src, tmp_path / "dst", WRITING, lambda: written_and_set_back(src / WEIGHTS), workers=1)
    assert report.fingerprints == converters.fingerprint(src) == converters.fingerprint(tmp_path / "dst")
    recorded = json.loads((tmp_path / "dst" / "conversion.json").read_text())["source"]["files"]
    assert recorded[0]["blake3"] == blake3((src / WEIGHTS).read_bytes()).hexdigest()


@pytest.mark.parametrize("deed", [written_and_set_back, renamed_over])
def test_without_evidence_neither(tmp_path, src, deed):
    assert_refused(tmp_path, WEIGHTS, WRITING, lambda: deed(src / WEIGHTS), evidence=False)


@pytest.mark.parametrize("name", [TOKENIZER, CONFIG])
@pytest.mark.parametrize("step", [WRITING, READ_BACK])
def test_a_file_beside_the_weights_that_changes_meanwhile_publishes_nothing(tmp_path, src, name, step):
    assert_refused(tmp_path, name, step, lambda: written_and_set_back(src / name))


def test_weights_behind_a_link_that_leads_elsewhere_meanwhile_publish_nothing(tmp_path, src):
    (src / "old").mkdir()
    (src / WEIGHTS).rename(src / "old" / WEIGHTS)
    (src / WEIGHTS).symlink_to(f"old/{WEIGHTS}")

    def turn():
        shutil.copytree(src / "old", src / "new")
        written(src / "new" / WEIGHTS)
        (src / WEIGHTS).unlink()
        (src / WEIGHTS).symlink_to(f"new/{WEIGHTS}")

    assert_refused(tmp_path, WEIGHTS, WRITING, turn)


@pytest.mark.parametrize(
    "touch", [lambda path: path.chmod(0o400), lambda path: (path.parent / "x").hardlink_to(path)]
)
def test_a_file_that_gets_another_mode_or_name_meanwhile_is_read_again_and_found_the_same(
    tmp_path, src, touch
):
    report = converted(src, tmp_path / "dst", WRITING, lambda: touch(src / WEIGHTS))
    assert report.fingerprints == converters.fingerprint(src) == converters.fingerprint(tmp_path / "dst")


class Killed(Exception):
    pass


def die():
    raise Killed


def test_a_run_goes_on_from_nothing_that_was_made_of_an_older_source(tmp_path, src):
    with pytest.raises(Killed):
        converted(src, tmp_path / "dst", WRITTEN, die)
    assert (tmp_path / ".dst.converting" / WRITING).exists()
    written_and_set_back(src / WEIGHTS)
    report = converters.convert(src, tmp_path / "dst", to="original", tp=2)
    assert report.kept == ()
    assert report.fingerprints == converters.fingerprint(src)


class Told(NullProgress):
    """Does something when it is told something."""

    def __init__(self, deed):
        self.deed = deed

    def note(self, text):
        self.deed()


def test_a_target_that_is_there_is_not_believed_to_be_of_a_source_that_changes(tmp_path, src):
    converters.convert(src, tmp_path / "dst", to="original", tp=2)
    changes = Told(lambda: written_and_set_back(src / WEIGHTS))
    with pytest.raises(IntegrityError, match="while it was read"):
        converters.convert(src, tmp_path / "dst", to="original", tp=2, progress=changes)


def at_read(monkeypatch, number, deed):
    """Do something once, before this read of the process."""
    real, left = os.preadv, [number]

    def preadv(*args):
        left[0] -= 1
        if not left[0]:
            deed()
        return real(*args)

    monkeypatch.setattr(os, "preadv", preadv)


READERS = {
    "fingerprint": converters.fingerprint,
    "compare": lambda src: converters.compare(src, src),
    "load": lambda src: list(converters.read_tensors(converters.open_checkpoint(src))),
    "inspect": lambda src: converters.inspect(src, deep=True),
}


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="it reads otherwise")
@pytest.mark.parametrize("deed", [written_and_set_back, renamed_over])
@pytest.mark.parametrize("reader", READERS)
def test_whoever_reads_a_source_that_changes_is_told(src, monkeypatch, reader, deed):
    at_read(monkeypatch, 5, lambda: deed(src / WEIGHTS))
    with pytest.raises(IntegrityError, match="while it was read"):
        READERS[reader](src)

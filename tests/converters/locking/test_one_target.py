"""Several conversions to one target take turns, whatever they call it; none spoils the result of another."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace

import pytest

import converters
from converters.errors import UsageError
from converters.progress import NullProgress
from tests.converters.conversion.test_evidence import READ_BACK, Meanwhile
from tests.converters.oracle import INTERNLM2, make_model, write_hf
from tests.timing import PATIENCE

TINY = replace(INTERNLM2, layers=1, hidden=32, heads=4, kv_heads=2, inter=48)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    return [write_hf(folder / str(seed), make_model(TINY, seed), TINY) for seed in range(2)]


class Waiting(NullProgress):
    """heard: set once it is told that another one has to end first."""

    def __init__(self):
        self.heard = threading.Event()

    def note(self, text):
        if text.startswith("waiting for `"):
            self.heard.set()


def both(one, first, other, second, **options):
    """Begin a conversion, and another one when the first is nearly done; the second one's end."""
    waiting, ends = Waiting(), []

    def run():
        try:
            ends.append(converters.convert(other, second, to="original", progress=waiting, **options))
        except UsageError as error:
            ends.append(error)

    thread = threading.Thread(target=run)

    def begin():
        thread.start()
        assert waiting.heard.wait(PATIENCE)

    converters.convert(one, first, to="original", progress=Meanwhile(READ_BACK, begin))
    thread.join()
    return ends[0]


def a_link(tmp_path):
    (tmp_path / "link").symlink_to(".")
    return tmp_path / "link" / "dst"


def a_target_that_is_a_link(tmp_path):
    (tmp_path / "other").symlink_to("dst")
    return tmp_path / "other"


SPELLINGS = {
    "relative, with dots and a slash": lambda tmp_path: "./a/../dst/",
    "through a link": a_link,
    "as a link": a_target_that_is_a_link,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_second_one_waits_whatever_it_calls_the_target(tmp_path, sources, monkeypatch, spelling):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    end = both(sources[0], tmp_path / "dst", sources[0], SPELLINGS[spelling](tmp_path))
    assert end.unchanged


def test_a_second_one_of_another_source_is_refused_by_what_is_another(tmp_path, sources):
    end = both(sources[0], tmp_path / "dst", sources[1], tmp_path / "dst")
    assert "model.safetensors of the source is another" in end.what and "force=True" in end.fix
    assert converters.fingerprint(tmp_path / "dst") == converters.fingerprint(sources[0])


def test_force_waits_too_and_then_replaces(tmp_path, sources):
    end = both(sources[0], tmp_path / "dst", sources[1], tmp_path / "dst", force=True)
    assert end.fingerprints == converters.fingerprint(tmp_path / "dst") == converters.fingerprint(sources[1])


def test_a_second_one_makes_the_folders_that_the_first_one_took_away_again(tmp_path, sources):
    dst = tmp_path / "new" / "er" / "dst"
    waiting, ends = Waiting(), []
    second = threading.Thread(
        target=lambda: ends.append(converters.convert(sources[0], dst, to="original", progress=waiting))
    )

    def fail():
        second.start()
        assert waiting.heard.wait(PATIENCE)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        converters.convert(sources[0], dst, to="original", progress=Meanwhile("model_tp0_pp0.pt", fail))
    second.join()
    assert ends[0].fingerprints == converters.fingerprint(dst)


@pytest.mark.parametrize("step", ["model_tp0_pp0.pt", READ_BACK])
def test_one_that_was_taken_for_dead_says_so_and_leaves_the_other_ones_result(tmp_path, sources, step):
    """A machine that slept; or somebody removed what it held."""

    def taken_over():
        (tmp_path / ".dst.guard").unlink()
        converters.convert(sources[1], tmp_path / "dst", to="original")

    with pytest.raises(UsageError, match="another conversion to this target has taken over"):
        converters.convert(sources[0], tmp_path / "dst", to="original", progress=Meanwhile(step, taken_over))
    assert converters.fingerprint(tmp_path / "dst") == converters.fingerprint(sources[1])
    assert [path.name for path in tmp_path.iterdir()] == ["dst"]


def test_a_target_inside_its_source_is_made_there(tmp_path, sources):
    src = shutil.copytree(sources[0], tmp_path / "src")
    report = converters.convert(src, src / "original", to="original")
    assert report.fingerprints == converters.fingerprint(src) == converters.fingerprint(src / "original")


@pytest.mark.parametrize("name", ["src", "src/", "src/../src", "link", "."])
def test_a_target_that_is_or_holds_its_source_is_refused(tmp_path, sources, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    src = shutil.copytree(sources[0], tmp_path / "src")
    (tmp_path / "link").symlink_to("src")
    before = converters.fingerprint(src)
    with pytest.raises(UsageError, match="would replace its own source"):
        converters.convert(src, name, to="original", force=True)
    assert converters.fingerprint(src) == before

"""What a person sees of a long run: on terminals of any width, in a pipe, with -q."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import time

import pytest
from rich.cells import cell_len
from rich.console import Console

from internlm_zoo.cli.console import Screen
from internlm_zoo.cli.progress import open_progress
from internlm_zoo.display.drawing import Drawing, sentence, shorten
from internlm_zoo.display.progress_state import ProgressState
from tests.timing import PATIENCE, wait_for
from tests.world import WEIGHTS, World

SHARD = "pytorch_model-00003-of-00008.bin"
COMMAND = "import sys; from internlm_zoo.cli import main; main(sys.argv[1:])"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
STYLE = re.compile(r"\x1b\[[0-9;]*m")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tally(clock: Clock) -> ProgressState:
    return ProgressState(clock)


def busy(tally: ProgressState, clock: Clock, seconds: int = 4) -> None:
    """8 files of 20 GB: one is here, one was resumed at 1.2 GB and comes with 100 MB/s, one from two hubs."""
    tally.plan(8, 20_000_000_000)
    tally.start("config.json", 1000, 1000)
    tally.finish("config.json")
    tally.start(SHARD, 5_000_000_000, 1_200_000_000)
    tally.start("sub/读我读我读我读我.md", None)
    for _ in range(seconds):
        clock.now += 1
        tally.advance(SHARD, 60_000_000, "huggingface")
        tally.advance(SHARD, 40_000_000, "modelscope")
        tally.advance("sub/读我读我读我读我.md", 1000, "openxlab")


def drawn(tally: ProgressState, width: int, height: int = 25, **options) -> list[str]:
    options = {"force_terminal": True, "color_system": None, "legacy_windows": False} | options
    out = io.StringIO()
    Console(file=out, width=width, height=height, **options).print(Drawing(tally.view()))
    return out.getvalue().splitlines()


def test_a_line_per_file_says_how_far_how_fast_from_where_and_what_was_resumed(tally, clock):
    busy(tally, clock)
    first, second, whole = drawn(tally, 140)
    assert first.startswith(SHARD)
    for fact in ("1.6/5.0 GB", "100.0 MB/s", "huggingface, modelscope", "+ 1.2 GB resumed"):
        assert fact in first
    assert "openxlab" in second and "resumed" not in second
    assert whole.split("  ") == [
        "1 of 8 files",
        "1.6/20.0 GB",
        "8 %",
        "100.0 MB/s",
        "3:04 left",
        "1.2 GB resumed",
    ]


def test_the_bar_tells_the_resumed_part_from_what_came_without_colours(tally, clock):
    tally.start("half", 100, 25)
    tally.advance("half", 25)
    clock.now += 1
    (bar,) = re.findall("═+━+─+", drawn(tally, 120)[0])
    assert (bar.count("═") * 4, bar.count("━") * 4) == pytest.approx((len(bar), len(bar)), abs=4)
    coloured = "".join(drawn(tally, 120, color_system="standard"))
    assert re.search(r"\x1b\[36m═+\x1b\[0m\x1b\[32m━+", coloured)


def test_terminals_without_unicode_get_signs_they_can_show(tally):
    tally.start("half", 100, 25)
    tally.advance("half", 25)
    raw = io.BytesIO()
    latin = io.TextIOWrapper(raw, encoding="ascii")
    Console(file=latin, width=100, force_terminal=True, color_system=None).print(Drawing(tally.view()))
    latin.flush()
    assert re.search(b"=+#+-+", raw.getvalue())


@pytest.mark.parametrize("width", [1, 10, 20, 40, 41, 60, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal(tally, clock, width):
    busy(tally, clock)
    lines = drawn(tally, width)
    assert len(lines) == 3
    assert max(map(cell_len, lines)) <= width


def test_in_40_columns_there_are_still_names_bars_sizes_and_the_time_left(tally, clock):
    busy(tally, clock)
    first, _, whole = drawn(tally, 40)
    assert re.fullmatch(r"pytorch_\S*….*08\.bin ═+━*─+ 1\.6/5\.0 GB", first)
    assert whole == "1 of 8 files  1.6/20.0 GB  3:04 left"


def test_more_files_than_lines_are_counted_and_the_total_is_seen(tally):
    for number in range(30):
        tally.start(f"file-{number}", 10)
    lines = drawn(tally, 80, height=10)
    assert len(lines) <= 9
    assert lines[-2] == "and 23 more"
    assert lines[-1].startswith("0 files")


def test_names_are_cut_in_their_middle():
    assert shorten(SHARD, 20) == "pytorch_mo…00008.bin"
    assert shorten("short", 20) == "short"
    for width in range(1, 30):
        assert cell_len(shorten("读我" * 8 + ".md", width)) <= width


def test_the_rate_is_of_the_last_seconds_and_a_stall_shows(tally, clock):
    busy(tally, clock, seconds=30)
    assert tally.view().whole.rate == pytest.approx(100_000_000, rel=0.01)
    assert tally.view().whole.sources == ("huggingface", "modelscope", "openxlab")
    clock.now += 11
    whole = tally.view().whole
    assert (whole.rate, whole.seconds_left, whole.sources) == (0, None, ())


def test_what_has_to_come_again_is_taken_back(tally, clock):
    busy(tally, clock)
    tally.advance(SHARD, -1_600_000_000)
    shard = tally.view().active[SHARD]
    assert (shard.done, shard.resumed) == (0, 0)
    assert shard.rate > 0


def test_another_set_of_files_takes_the_place_of_the_first(tally, clock):
    busy(tally, clock)
    tally.plan(3, 600)
    tally.start("a", 100, 100)
    tally.finish("a")
    view = tally.view()
    assert (view.finished, view.files, view.whole.done, view.whole.total) == (1, 3, 100, 600)


def test_work_that_nobody_planned_is_counted_as_it_begins(tally):
    """As a conversion does, which names no sources either."""
    for name in ("a", "b"):
        tally.start(name, 1000)
        tally.advance(name, 600)
        tally.finish(name)
    tally.advance("a", 1)  # too late
    assert sentence(tally.view()) == "2 files, 1.2/2.0 kB, 60 %"


def test_no_color_is_honoured(tally, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    tally.start("half", 100, 25)
    text = "".join(drawn(tally, 100, color_system="standard"))
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", text)


def test_a_log_gets_a_line_every_few_seconds_also_while_nothing_moves():
    out = io.StringIO()
    with open_progress(Screen(out, width=30), quiet=False, seconds=0.05) as progress:
        time.sleep(0.2)
        assert out.getvalue() == ""
        progress.plan(2, 3000)
        progress.start("a", 2000, 500)
        progress.advance("a", 500, "modelscope")
        wait_for(lambda: out.getvalue().count("\n") > 2 and " left, 500 B" in out.getvalue())
        progress.note("something happened")
    lines = out.getvalue().splitlines()
    assert lines[-1] == "something happened"
    assert len(lines) > 3
    assert re.fullmatch(
        r"0 of 2 files, 1.0/3.0 kB, 33 %, \S+ k?B/s, \d:\d\d left, 500 B resumed, from modelscope", lines[-2]
    )


def test_colours_that_are_forced_into_a_pipe_make_it_no_terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()
    with open_progress(Screen(out), quiet=False, seconds=0.05) as progress:
        progress.start("a", 2000, 500)
        wait_for(lambda: "\n" in out.getvalue())
    assert "\x1b[1A" not in out.getvalue() and "\r" not in out.getvalue()
    assert "0 files, 0.5/2.0 kB" in out.getvalue()


def download(world: World, *args: str, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", COMMAND, "download", "tiny", "--format", "hf", *args]
    environ = {**os.environ, **world.environ, "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR"):
        environ.pop(name, None)
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **options}
    return subprocess.Popen(command, env=environ, **pipes)


@pytest.mark.slow
def test_a_download_in_a_pipe_tells_every_few_seconds_how_far_it_is(world):
    world.fault("slow", WEIGHTS, rate=150_000)
    process = download(world, stderr=subprocess.PIPE, text=True)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "\x1b" not in err and "\r" not in err
    told = re.findall(
        r"^\d of 5 files, \d+\.\d/670\.0 kB, \d+ %, \S+ k?B/s, \d+:\d\d left, from \w+( and \w+)*$",
        err,
        re.MULTILINE,
    )
    assert told, err
    assert len(out.splitlines()) == 1


def test_quiet_is_silent(world):
    process = download(world, "-q", stderr=subprocess.PIPE, text=True)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err, len(out.splitlines())) == (0, "", 1)


@pytest.mark.skipif(os.name == "nt", reason="there are no pseudo-terminals")
@pytest.mark.parametrize("width", [40, 120])
def test_a_terminal_shows_the_active_file_and_the_total_and_is_left_clean(world, width):
    for hub in world.hubs.values():
        hub.fault("delay", WEIGHTS, until=lambda hub=hub: len([*world.home.glob("blobs/sha256/*/*")]) == 4)
    world.fault("slow", WEIGHTS, rate=400_000)
    screen = on_a_terminal(world, width)
    text = ESCAPE.sub("\n", STYLE.sub("", screen))
    lines = [line for part in text.split("\n") for line in part.split("\r")]
    assert any(line.startswith("model.") and "/600.0 kB" in line for line in lines)
    assert any(line.startswith("4 of 5 files") and " left" in line for line in lines)
    drawn_lines = [line for line in lines if line.startswith(("model.", "4 of 5"))]
    assert max(map(cell_len, drawn_lines)) <= width
    assert screen.count("\x1b[?25l") == screen.count("\x1b[?25h") == 1  # the cursor is shown again


def on_a_terminal(world: World, width: int) -> str:
    """Everything that a download writes to a terminal of that width."""
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    process = download(world, stderr=theirs)
    os.close(theirs)
    heard = b""
    while True:
        try:
            chunk = os.read(ours, 1 << 16)
        except OSError:  # Linux says so when the last writer is gone
            break
        if not chunk:
            break
        heard += chunk
    os.close(ours)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, heard
    return heard.decode()

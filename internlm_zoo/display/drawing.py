"""A moment of a long run as lines of text: one per active file and one for all, as wide as there is room.

Where colours are off, the bar still tells by its signs what was resumed, what came and what is to come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from converters.progress import byte_count
from internlm_zoo.display.progress_state import Amount, ProgressView
from internlm_zoo.plain import plain

_UNITS = ("B", "kB", "MB", "GB", "TB")
_LEAST_NAME = 14
_LEAST_BAR, _MOST_BAR = 8, 30
_MOST_SOURCES = 26
_RATE_WIDTH = len("999.9 MB/s")  # of every rate, or the columns would jump
# Signs and styles of what was resumed, what came, what is to come; for terminals that know only ASCII too.
_SIGNS, _ASCII_SIGNS = "═━─", "=#-"
_STYLES = ("cyan", "green", "bright_black")


@dataclass(frozen=True)
class Drawing:
    view: ProgressView

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        view, width = self.view, options.max_width
        if not (view.active or view.finished):
            return
        room = max(1, console.height - 2)  # the line for all, and the cursor's
        shown = list(view.active)[: room if len(view.active) <= room else room - 1]
        signs = _ASCII_SIGNS if options.ascii_only else _SIGNS
        yield from _rows({name: view.active[name] for name in shown}, width, signs)
        if len(shown) < len(view.active):
            yield _line(f"and {len(view.active) - len(shown)} more", width, "dim")
        yield _line("  ".join(_fitting(_facts(view), width, gap=2)), width, "bold")


def sentence(view: ProgressView) -> str:
    """The same for a log, in one line."""
    whole = view.whole
    facts = [fact for _, fact in _facts(view)]
    if whole.sources:
        facts.append(f"from {' and '.join(whole.sources)}")
    return ", ".join(facts)


def shorten(text: str, width: int) -> str:
    """Cut out of its middle what does not fit: names of shards differ at both ends."""
    if cell_len(text) <= width:
        return text
    if width < 3:
        return set_cell_size(text, width)
    tail = (width - 1) // 2
    end = set_cell_size(text[::-1], tail)[::-1].lstrip()
    return set_cell_size(text, width - 1 - tail).rstrip() + "…" + end


def time_left(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def portion(done: int, total: int | None) -> str:
    """Both in the unit of the total: 1.2/5.0 GB."""
    if total is None:
        return byte_count(done)
    unit = byte_count(total).split()[1]
    value = done / 1000 ** _UNITS.index(unit)
    return f"{value:.0f}/{byte_count(total)}" if unit == "B" else f"{value:.1f}/{byte_count(total)}"


def _facts(view: ProgressView) -> list[tuple[int, str]]:
    """What there is to say of the whole, each with how soon it gives way where room is short."""
    whole = view.whole
    count = f"{view.finished} of {view.files}" if view.files else f"{view.finished}"
    facts = [
        (0, f"{count} {'file' if (view.files or view.finished) == 1 else 'files'}"),
        (1, portion(whole.done, whole.total)),
    ]
    if whole.total:
        facts.append((4, f"{100 * whole.done // whole.total} %"))
    if whole.rate is not None:
        facts.append((3, _speed(whole.rate)))
    if whole.seconds_left is not None:
        facts.append((2, f"{time_left(whole.seconds_left)} left"))
    if whole.resumed:
        facts.append((5, f"{byte_count(whole.resumed)} resumed"))
    return facts


def _fitting(facts: Sequence[tuple[int, str]], room: int, gap: int) -> list[str]:
    """Those that fit, the most important ones first to be granted room, in their own order."""
    granted: list[tuple[int, str]] = []
    for rank, fact in sorted(facts):
        room -= cell_len(fact) + gap
        if granted and room + gap < 0:
            break
        granted.append((rank, fact))
    return [fact for rank, fact in facts if (rank, fact) in granted]


def _rows(active: dict[str, Amount], width: int, signs: str) -> Iterator[Text]:
    """Columns that are as wide as their widest cell, as many as there is room for, name and bar the rest."""
    if not active:
        return
    cells = {name: _cells(amount) for name, amount in active.items()}
    widths = [max(map(cell_len, column)) for column in zip(*cells.values(), strict=True)]
    room = width - _LEAST_NAME - 1
    shown = []
    for number in (_AMOUNT, _BAR, _RATE, _SOURCES, _RESUMED):
        need = _LEAST_BAR if number == _BAR else widths[number]
        if need and need + 1 <= room:
            shown.append(number)
            room -= need + 1
    labels = {name: plain(name) for name in active}
    name_width = min(max(map(cell_len, labels.values())), _LEAST_NAME + max(0, room))
    bar_width = min(_MOST_BAR, _LEAST_BAR + max(0, room - (name_width - _LEAST_NAME)))
    for name, amount in active.items():
        label = set_cell_size(shorten(labels[name], name_width), name_width)
        line = Text(label, no_wrap=True, overflow="crop")
        for number in sorted(shown):
            line.append(" ")
            if number == _BAR:
                line.append_text(_bar(amount, bar_width, signs))
            else:
                line.append(_padded(cells[name][number], widths[number], number), _CELL_STYLES[number])
        yield line


_BAR, _AMOUNT, _RATE, _SOURCES, _RESUMED = range(5)
_CELL_STYLES = ("", "", "magenta", "blue", "cyan")


def _cells(amount: Amount) -> tuple[str, ...]:
    return (
        "",  # the bar is drawn when its width is known
        portion(amount.done, amount.total),
        "" if amount.rate is None else _speed(amount.rate).rjust(_RATE_WIDTH),
        shorten(plain(", ".join(amount.sources)), _MOST_SOURCES),
        f"+ {byte_count(amount.resumed)} resumed" if amount.resumed else "",
    )


def _padded(cell: str, width: int, number: int) -> str:
    gap = " " * (width - cell_len(cell))
    return gap + cell if number in (_AMOUNT, _RATE) else cell + gap


def _bar(amount: Amount, width: int, signs: str) -> Text:
    total = amount.total or 0
    ends = [min(width, width * part // total) if total else 0 for part in (amount.resumed, amount.done)]
    lengths = (ends[0], ends[1] - ends[0], width - ends[1])
    parts = zip(signs, lengths, _STYLES, strict=True)
    return Text.assemble(*((sign * length, style) for sign, length, style in parts))


def _speed(rate: float) -> str:
    return f"{byte_count(round(rate))}/s"


def _line(text: str, width: int, style: str) -> Text:
    return Text(set_cell_size(text, width).rstrip(), style=style, no_wrap=True, overflow="crop")

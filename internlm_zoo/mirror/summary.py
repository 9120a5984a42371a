"""A report as Markdown, for the summary page of a CI job."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from converters.errors import parameter
from converters.progress import byte_count
from converters.redaction import redacted
from converters.system.filesystem import FULL
from internlm_zoo.errors import NoSpaceError, UsageError
from internlm_zoo.mirror.report import ReleaseReport, Report
from internlm_zoo.mirror.values import FileCount, FileCounts, Kind
from internlm_zoo.plain import markdown_code, markdown_text

_FILES_SHOWN = 50
_HEADINGS = {
    "no change": "nothing to do",
    "changes": "changes to come",
    "changed": "changed",
    "drift": "the mirror and the hubs differ",
    "partly": "partly done",
    "failed": "failed",
    "stopped": "stopped, nothing was done",
}
_COLUMNS = {
    **dict.fromkeys(("Release", "Format", "From", "Revision"), "---"),
    **dict.fromkeys(("Copy", "Update", "Delete", "Keep", "To fetch", "At hand", "Fetched"), "---:"),
    "State": "---",
}
# Per kind of action: done, and still to do.
_WORDS: Mapping[Kind, tuple[str, str]] = {
    "copy": ("copied", "to copy"),
    "update": ("updated", "to update"),
    "delete": ("deleted", "to delete"),
    "keep": ("kept", "kept"),
}


def markdown(report: Report, formatted: Callable[[str], str] = str) -> str:
    """The whole report; of each release at most 50 files are named. formatted: a sentence with parameters as
    they are called where it is read."""
    return "\n".join([*_head(report, formatted), *_table(report), *_problems(report), *_files(report), ""])


def write_summary(report: Report, path: Path, formatted: Callable[[str], str] = str) -> None:
    """Without secrets; what is no text in a name is escaped. Raises UsageError if it cannot be written,
    NoSpaceError if the disk is full."""
    text = redacted(markdown(report, formatted)).encode("utf-8", "backslashreplace")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    except OSError as error:
        what = f"the summary cannot be written: {error.strerror}"
        kind = NoSpaceError if error.errno in FULL else UsageError
        raise kind(what, path, "name another file") from error


def file_counts(files: FileCounts, *, done: bool) -> list[str]:
    """How many files, of how many bytes, become what, or became; without what there is none of."""
    counts = {kind: getattr(files, kind) for kind in _WORDS}
    return [
        f"{count.files} {_WORDS[kind][not done]}, {size(count)}"
        for kind, count in counts.items()
        if count.files
    ]


def size(count: FileCount) -> str:
    """The bytes; how many files have a size that nobody says."""
    unsized = f"{count.unsized} of unknown size"
    if not count.unsized:
        return byte_count(count.bytes)
    return unsized if count.unsized == count.files else f"{byte_count(count.bytes)} and {unsized}"


def totals(report: Report) -> str:
    """Of all releases, in a sentence."""
    done = report.verb == "apply" and report.excess is None
    counts = file_counts(report.files, done=done)
    left = report.unfinished
    if left.files:
        forgotten = "forgotten" if done else "to forget"
        counts.append(f"unfinished downloads of other releases {forgotten}, {size(left)}")
    if not done and report.files.copy.files + report.files.update.files:
        fetch = "an unknown number of bytes" if report.to_fetch is None else byte_count(report.to_fetch)
        counts.append(f"{fetch} to fetch")
    if report.at_hand:
        counts.append(f"{byte_count(report.at_hand)} {'were' if done else 'are'} on this machine")
    return f"In all: {'; '.join(counts) or 'no file'}."


def stopped(report: Report) -> str | None:
    """What goes beyond the limit, and how to go on."""
    if report.excess is None:
        return None
    start = "Stopped, and nothing was done" if report.verb == "apply" else "An apply would stop"
    meant = f"`{parameter('max_delete', report.files.delete.files)}`"
    return f"{start}: {report.excess}. If that is meant, apply with {meant}; `mirror plan` names the files."


def _head(report: Report, formatted: Callable[[str], str]) -> Iterator[str]:
    yield f"## Mirror {report.verb}: {_HEADINGS[report.result]}"
    yield ""
    place, fetched = markdown_code(str(report.destination)), _bytes(report.fetched_bytes)
    yield f"{place}, {len(report.releases)} releases, {fetched} fetched."
    yield f"{totals(report)} max_delete is {report.max_delete}."
    if report.left_out:
        yield f"Without a release in these formats: {markdown_text(', '.join(report.left_out))}."
    for note in (formatted(stopped(report) or ""), *report.notes):
        if note:
            yield f"**{markdown_text(note)}**"
    yield ""


def _table(report: Report) -> Iterator[str]:
    yield f"| {' | '.join(_COLUMNS)} |"
    yield f"|{'|'.join(_COLUMNS.values())}|"
    for release in report.releases:
        cells = [
            markdown_code(release.path),
            release.format,
            markdown_code(release.source or ""),
            _revisions(release),
            *_counts(release.files),
            "unknown" if release.to_fetch is None else _bytes(release.to_fetch),
            _bytes(release.at_hand),
            _bytes(sum(release.served.values())),
            f"**{release.state}**" if release.state == "failed" else release.state,
        ]
        yield f"| {' | '.join(cells)} |"
    fetch = "unknown" if report.to_fetch is None else _bytes(report.to_fetch)
    total = ["**in all**", "", "", "", *_counts(report.files), fetch, _bytes(report.at_hand)]
    total += [_bytes(report.fetched_bytes), ""]
    yield f"| {' | '.join(total)} |"
    yield ""


def _counts(files: FileCounts) -> Iterator[str]:
    for kind in _WORDS:
        count = getattr(files, kind)
        yield f"{count.files}: {size(count)}" if count.files else ""


def _problems(report: Report) -> Iterator[str]:
    for release in report.releases:
        if release.problem:
            yield f"- {markdown_code(release.path)} **{markdown_text(release.problem)}**"
        for note in release.notes:
            yield f"- {markdown_code(release.path)} {markdown_text(note)}"
    yield ""


def _files(report: Report) -> Iterator[str]:
    for release in report.releases:
        if not release.actions:
            continue
        yield f"<details><summary>{markdown_text(release.path)}: files ({len(release.actions)})</summary>"
        yield ""
        done = report.verb == "apply" and report.excess is None
        for action in release.actions[:_FILES_SHOWN]:
            word = "not done" if release.problem else _WORDS[action.kind][not done]
            yield f"- {word}: {markdown_code(action.path)} ({markdown_text(action.why)})"
        if len(release.actions) > _FILES_SHOWN:
            yield f"- and {len(release.actions) - _FILES_SHOWN} more"
        yield ""
        yield "</details>"
        yield ""


def _revisions(release: ReleaseReport) -> str:
    before, now = (release.before or "")[:12], (release.revision or "")[:12]
    moved = before and now and release.before != release.revision
    return f"{markdown_code(before)} → {markdown_code(now)}" if moved else markdown_code(now or before)


def _bytes(count: int) -> str:
    return f"{count:,} bytes" if count < 100_000 else f"{count / 1e6:,.1f} MB"

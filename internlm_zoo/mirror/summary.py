"""A report as Markdown, for the summary page of a CI job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from internlm_zoo.errors import UsageError
from internlm_zoo.mirror.report import ReleaseReport, Report

_FILES_SHOWN = 50
_HEADINGS = {
    "no change": "nothing to do",
    "changes": "changes to come",
    "changed": "changed",
    "drift": "the mirror and the hubs differ",
    "partly": "partly done",
    "failed": "failed",
}
# Per kind of action: done, and still to do.
_WORDS = {
    "copy": ("copied", "to copy"),
    "change": ("replaced", "to replace"),
    "delete": ("deleted", "to delete"),
}


def markdown(report: Report) -> str:
    """The whole report; of each release at most 50 files are named."""
    return "\n".join([*_head(report), *_table(report), *_problems(report), *_files(report), ""])


def write_summary(report: Report, path: Path) -> None:
    """Raises UsageError if the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(markdown(report), encoding="utf-8", newline="\n")
    except OSError as error:
        what = f"the summary cannot be written: {error.strerror}"
        raise UsageError(what, path, "name another file with --summary") from error


def file_counts(release: ReleaseReport, *, done: bool) -> str:
    """How many files stay as they are, and what becomes, or became, of the others."""
    kinds = [action.kind for action in release.actions]
    counts = [f"{release.same} as they are"] if release.same else []
    counts += [
        f"{kinds.count(kind)} {past if done else future}"
        for kind, (past, future) in _WORDS.items()
        if kind in kinds
    ]
    return ", ".join(counts)


def _head(report: Report) -> Iterator[str]:
    yield f"## Mirror {report.verb}: {_HEADINGS[report.result]}"
    yield ""
    yield f"`{report.destination}`, {len(report.releases)} releases, {_bytes(report.fetched_bytes)} fetched."
    if report.left_out:
        yield f"Without a release in these formats: {', '.join(report.left_out)}."
    yield ""


def _table(report: Report) -> Iterator[str]:
    yield "| Release | Format | From | Revision | Files | To fetch | Fetched | State |"
    yield "|---|---|---|---|---|---:|---:|---|"
    for release in report.releases:
        cells = [
            _code(release.path),
            release.format,
            release.source or "",
            _revisions(release),
            file_counts(release, done=report.verb == "apply"),
            "unknown" if release.to_fetch is None else _bytes(release.to_fetch),
            _bytes(sum(release.served.values())),
            f"**{release.state}**" if release.state == "failed" else release.state,
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""


def _problems(report: Report) -> Iterator[str]:
    for release in report.releases:
        if release.problem:
            yield f"- {_code(release.path)} **{_plain(release.problem)}**"
        for note in release.notes:
            yield f"- {_code(release.path)} {_plain(note)}"
    yield ""


def _files(report: Report) -> Iterator[str]:
    for release in report.releases:
        if not release.actions:
            continue
        yield f"<details><summary>{_plain(release.path)}: files ({len(release.actions)})</summary>"
        yield ""
        for action in release.actions[:_FILES_SHOWN]:
            done, to_do = _WORDS[action.kind]
            yield f"- {done if report.verb == 'apply' else to_do}: {_code(action.path)} ({action.why})"
        if len(release.actions) > _FILES_SHOWN:
            yield f"- and {len(release.actions) - _FILES_SHOWN} more"
        yield ""
        yield "</details>"
        yield ""


def _revisions(release: ReleaseReport) -> str:
    before, now = (release.before or "")[:12], (release.revision or "")[:12]
    moved = before and now and release.before != release.revision
    return f"{_code(before)} → {_code(now)}" if moved else _code(now or before)


def _bytes(count: int) -> str:
    return f"{count:,} bytes" if count < 100_000 else f"{count / 1e6:,.1f} MB"


def _code(text: str) -> str:
    """Text of a hub's, which may hold what Markdown would take for its own."""
    return f"`{text.replace('`', chr(39)).replace('|', '¦')}`" if text else ""


def _plain(text: str) -> str:
    return text.replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")

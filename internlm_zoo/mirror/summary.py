"""A report as Markdown, for the summary page of a CI job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from internlm_zoo.mirror.planning import Action
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
_VERBS = {"copy": "copied", "change": "replaced", "delete": "deleted"}


def markdown(report: Report) -> str:
    """The whole report; of each release at most 50 files are named."""
    return "\n".join([*_head(report), *_table(report), *_problems(report), *_files(report), ""])


def change_counts(actions: tuple[Action, ...]) -> dict[str, int]:
    """How many files are copied, replaced and deleted; those that are none left out."""
    kinds = [action.kind for action in actions]
    return {word: kinds.count(kind) for kind, word in _VERBS.items() if kind in kinds}


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
            ", ".join(f"{count} {word}" for word, count in _counts(release).items()),
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
        yield f"<details><summary>{_plain(release.path)}: {len(release.actions)} files</summary>"
        yield ""
        for action in release.actions[:_FILES_SHOWN]:
            yield f"- {_VERBS[action.kind]} {_code(action.path)} ({action.why})"
        if len(release.actions) > _FILES_SHOWN:
            yield f"- and {len(release.actions) - _FILES_SHOWN} more"
        yield ""
        yield "</details>"
        yield ""


def _counts(release: ReleaseReport) -> Mapping[str, int]:
    same = {"as they are": release.same} if release.same else {}
    return {**same, **change_counts(release.actions)}


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

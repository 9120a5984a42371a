"""How a mirror's report looks: a line per release, a line per file, what went wrong, one sentence."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from internlm_zoo.cli.flags import as_flags
from internlm_zoo.cli.tables import Column, TextTable, byte_count
from internlm_zoo.mirror.report import ReleaseReport, Report
from internlm_zoo.mirror.summary import file_counts, stopped, totals
from internlm_zoo.plain import plain

_SHORT = 12
_FILE_COLUMNS = (
    Column("Release"),
    Column("File", narrow="fold"),
    Column("To do"),
    Column("Why"),
    Column("Size", "right"),
    Column("Taken from", narrow="fold"),
)
_STYLES = {"new": "green", "changed": "yellow", "failed": "red", "unwanted": "magenta", "removed": "magenta"}
_SENTENCES = {
    "no change": "The mirror is what it should be.",
    "changes": "`internlm-zoo mirror apply` would make these changes.",
    "changed": "The mirror is now what it should be.",
    "drift": "The mirror differs from what it should be.",
    "partly": "Some releases could not be had; the others are as they should be.",
    "failed": "None of the releases could be had.",
    "stopped": "Nothing was copied, replaced or removed.",
}


def report_view(report: Report) -> RenderableType:
    """An apply does not name the files again that a plan has named. Notes were told as they came up."""
    parts: list[RenderableType] = [_releases(report)]
    files = [row for release in report.releases for row in _file_rows(release)]
    if files and (report.verb != "apply" or report.excess):
        parts += ["", TextTable(_FILE_COLUMNS, files)]
    parts += [Text(plain(line), style=style) for line, style in _remarks(report)]
    return Group(*parts, "", totals(report), Text(plain(_closing(report)), style="bold"))


def _releases(report: Report) -> TextTable:
    columns = [
        Column("Release", style="cyan"),
        Column("Format"),
        Column("From"),
        Column("Revision", narrow="drop"),
    ]
    applied = report.verb == "apply" and report.excess is None
    bytes_title = "Fetched" if applied else "To fetch"
    columns += [Column("Files", narrow="fold"), Column(bytes_title, "right")]
    columns += [Column("At hand", "right"), Column("State")]
    return TextTable(columns, [_row(release, applied) for release in report.releases])


def _row(release: ReleaseReport, applied: bool) -> list[str | Text]:
    return [
        release.path,
        release.format,
        (release.source or "-").partition(":")[0],
        (release.revision or release.before or "-")[:_SHORT],
        "; ".join(file_counts(release.files, done=applied)) or "-",
        byte_count(sum(release.served.values()) if applied else release.to_fetch),
        byte_count(release.at_hand) if release.at_hand else "",
        Text(release.state, style=_STYLES.get(release.state, "")),
    ]


def _file_rows(release: ReleaseReport) -> Iterator[list[str | Text]]:
    """Files that stay with their whole release are not named one by one."""
    for action in release.actions:
        if (action.kind, action.why) != ("keep", "unwanted"):
            size, whence = byte_count(action.size), action.taken_from or ""
            yield [release.path, action.path, action.kind, action.why, size, whence]


def _remarks(report: Report) -> Iterator[tuple[str, str]]:
    """Each with its style."""
    for release in report.releases:
        if release.problem:
            yield f"{release.path}: {release.problem}", "red"
    if told := stopped(report):
        yield as_flags(told), "red"
    if report.left_out:
        yield f"no release in these formats: {', '.join(report.left_out)}", "dim"
    if not report.prune and any(release.state == "unwanted" for release in report.releases):
        yield "`prune: true` in the mirror file removes what is no longer asked for", "dim"


def _closing(report: Report) -> str:
    applied = report.verb == "apply" and report.excess is None
    fetched = f" {byte_count(report.fetched_bytes)} fetched." if applied else ""
    return f"{_SENTENCES[report.result]}{fetched} {report.destination}"

"""How a mirror's report looks: a line per release, a line per file, what went wrong, one sentence."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from internlm_zoo.cli.flags import as_flags
from internlm_zoo.cli.tables import Column, TextTable, byte_count, figure, wide
from internlm_zoo.mirror.report import ReleaseReport, Report
from internlm_zoo.mirror.summary import file_counts, stopped, totals
from internlm_zoo.plain import plain

_SHORT = 12
_FILE_TITLES = ("Release", wide("File"), "To do", "Why", figure("Size"), wide("Taken from"))
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
        parts += ["", TextTable(_FILE_TITLES, files)]
    parts += [Text(plain(line), style=style) for line, style in _remarks(report)]
    return Group(*parts, "", totals(report), Text(plain(_closing(report)), style="bold"))


def _releases(report: Report) -> TextTable:
    applied = report.verb == "apply" and report.excess is None
    place = (Column("Release", style="cyan"), "Format", "From", Column("Revision", narrow="drop"))
    sizes = (figure("Fetched" if applied else "To fetch"), figure("At hand"))
    rows = [_row(release, applied) for release in report.releases]
    return TextTable((*place, wide("Files"), *sizes, "State"), rows)


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
            size, origin = byte_count(action.size), action.taken_from or ""
            yield [release.path, action.path, action.kind, action.why, size, origin]


def _remarks(report: Report) -> Iterator[tuple[str, str]]:
    """Each with its style."""
    for release in report.releases:
        if release.problem:
            yield f"{release.path}: {release.problem}", "red"
    if reason := stopped(report):
        yield as_flags(reason), "red"
    if report.left_out:
        yield f"no release in these formats: {', '.join(report.left_out)}", "dim"
    if not report.prune and any(release.state == "unwanted" for release in report.releases):
        yield "`prune: true` in the mirror file removes what is no longer asked for", "dim"


def _closing(report: Report) -> str:
    applied = report.verb == "apply" and report.excess is None
    fetched = f" {byte_count(report.fetched_bytes)} fetched." if applied else ""
    return f"{_SENTENCES[report.result]}{fetched} {report.destination}"

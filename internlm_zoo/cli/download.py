"""`download` (alias `pull`) and `verify`: getting files, and checking them again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.download_options import FileOptions, SpeedOptions, Workers
from internlm_zoo.cli.shell import Shell, verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from internlm_zoo.downloads.plan import DownloadPlan
    from internlm_zoo.downloads.result import DownloadResult, Repaired
    from internlm_zoo.integrity.report import VerifyReport
    from internlm_zoo.transfer.values import SourceStatistics


# As many characters of a revision as tell it from others, `listing-...` included.
_SHORT = 20


class Format(str, Enum):
    hf = "hf"
    original = "original"
    gguf = "gguf"
    awq = "awq"
    gptq = "gptq"
    fp8 = "fp8"


@dataclass(frozen=True)
class DownloadOptions(FileOptions, SpeedOptions):
    """Options of `download`."""

    format: Annotated[
        Format | None,
        typer.Option("--format", help="Default: hf before original; quantised only by name."),
    ] = None
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit.")] = None
    local_dir: Annotated[
        Path | None, typer.Option("--local-dir", help="Plain files in this folder instead of the store.")
    ] = None
    hf_cache: Annotated[
        bool,
        typer.Option("--hf-cache", help="Show it in the Hugging Face cache, too, for from_pretrained(NAME)."),
    ] = False
    force: Annotated[
        bool, typer.Option("--force", help="Check again what is here; use a --local-dir that is not empty.")
    ] = False


@verb(
    "download", example="internlm-zoo download internlm-chat-7b --source auto", alias="pull", asks_hubs=True
)
def download(
    shell: Shell,
    model: Annotated[str, typer.Argument(help="A model of the registry; `list` shows them.")],
    options: DownloadOptions,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be fetched.")] = False,
) -> CommandResult:
    """Get a model, every file checked before it is shown. The last line printed is the folder."""
    import internlm_zoo as zoo

    with shell.progress() as progress:
        how = {**options.keywords(), "progress": progress, "settings": shell.settings}
        if dry_run:
            how = {name: value for name, value in how.items() if name not in ("max_workers", "max_rate")}
            return _planned(zoo.plan_download(model, **how))
        done = zoo.download(model, **how)
    shell.note(_summary(done))
    return CommandResult(done, done.path)


@verb("verify", example="internlm-zoo verify internlm-chat-7b", asks_hubs=True)
def verify(
    shell: Shell,
    target: Annotated[
        str,
        typer.Argument(metavar="MODEL|DIR", help="A model in the store, or a folder of it."),
    ],
    quick: Annotated[bool, typer.Option("--quick", help="Compare sizes only; nothing is hashed.")] = False,
    workers: Workers = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Fetch what is wrong again, of large files by the block.")
    ] = False,
) -> CommandResult:
    """Hash a download or a conversion again; exit with 1 if a file is wrong, missing or extra."""
    from internlm_zoo.integrity.verify import verify_all
    from internlm_zoo.registry.quoted import sentences

    with shell.progress() as progress:
        reports = verify_all(
            target, workers, settings=shell.settings, quick=quick, repair=repair, progress=progress
        )
    for file in (file for report in reports for file in report.repaired):
        shell.note(_repaired(file))
    for report in reports:
        for told in sentences(report.quoted):
            shell.note(told)
    ok = all(report.ok for report in reports)
    data = {"ok": ok, "folders": [{"ok": report.ok, **vars(report)} for report in reports]}
    return CommandResult(data, verdicts(reports), exit_code=0 if ok else 1)


def _summary(done: DownloadResult) -> str:
    from internlm_zoo.cli.tables import byte_count

    served = [_service(name, service) for name, service in done.sources.items()]
    kept = [f"{byte_count(done.reused_bytes)} were here"] if done.reused_bytes else []
    came = ", ".join([*(served or ["nothing fetched"]), *kept])
    what = f"{_files(len(done.files))} of {done.hub}:{done.repo} at {done.revision[:_SHORT]}"
    return f"{what}, checked in {done.seconds:.1f} s; {came}"


def _service(name: str, service: SourceStatistics) -> str:
    """What a hub did, as `600.0 kB from modelscope (2 retries)`."""
    from internlm_zoo.cli.tables import byte_count

    times = "retry" if service.retries == 1 else "retries"
    retries = f" ({service.retries} {times})" if service.retries else ""
    return f"{byte_count(service.served)} from {name}{retries}"


def _repaired(file: Repaired) -> str:
    from internlm_zoo.cli.tables import byte_count

    came = ", ".join(f"{byte_count(count)} from {name}" for name, count in file.served.items() if count)
    kept = f"; {byte_count(file.kept)} of it were right" if file.kept else ""
    return f"{file.path} is right again: {came or 'it was here'}{kept}"


def _planned(plan: DownloadPlan) -> CommandResult:
    names = ("model", "hub", "repo", "revision", "format", "path", "files", "size", "to_fetch", "notes")
    return CommandResult({**{name: getattr(plan, name) for name in names}, "dry_run": True}, _table(plan))


def _table(plan: DownloadPlan) -> RenderableType:
    from rich.console import Group

    from internlm_zoo.cli.tables import Column, TextTable, byte_count

    rows = [[file.path, byte_count(file.size), file.origin] for file in plan.files]
    columns = [Column("File", narrow="fold"), Column("Size", "right"), Column("From", narrow="fold")]
    title = f"{plan.hub}:{plan.repo} at {plan.revision}"
    return Group(TextTable(columns, rows, title=title), "", plan.summary)


def verdicts(reports: list[VerifyReport]) -> RenderableType | list[str]:
    """One line per file that is not as it should be, or per folder if there is none."""
    from internlm_zoo.cli.tables import Column, TextTable, byte_count

    rows = [
        [*row, str(report.path)]
        for report in reports
        if not report.ok
        for row in (
            *((file.path, "wrong", file.what) for file in report.wrong),
            *((path, "missing", "") for path in report.missing),
            *((path, "extra", "not part of it") for path in report.extra),
            *((path, "added", "changes nothing of what is loaded") for path in report.added),
        )
    ]
    if rows:
        titles = ("File", "Is", "Why", "In")
        return TextTable(
            [Column(title, narrow="keep" if title == "Is" else "fold") for title in titles], rows
        )
    how = "all of the right size" if reports[0].quick else "all as they should be"
    return [
        f"{_files(report.checked)} checked, {byte_count(report.size)}, {how}{_added(report)}: {report.path}"
        for report in reports
    ]


def _added(report: VerifyReport) -> str:
    return f"; added since, and not part of it: {', '.join(report.added)}" if report.added else ""


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"

"""`download` (alias `pull`) and `verify`: getting files, and checking them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.download_options import FileOptions, SpeedOptions, Workers
from internlm_zoo.cli.shell import Shell, verb
from internlm_zoo.cli.tables import SHORT_REVISION, TextTable, byte_count, figure, wide

if TYPE_CHECKING:
    from rich.console import RenderableType

    from internlm_zoo.downloads.plan import DownloadPlan
    from internlm_zoo.downloads.result import DownloadResult, Repaired
    from internlm_zoo.integrity.report import Verification, VerifyReport
    from internlm_zoo.transfer.values import SourceStatistics


Format = Literal["hf", "original", "gguf", "awq", "gptq", "fp8"]


@dataclass(frozen=True)
class DownloadOptions(FileOptions, SpeedOptions):
    """Options of `download`."""

    format: Annotated[Format | None, "Default: hf before original; quantised only by name."] = None
    revision: Annotated[str | None, "Branch, tag or commit."] = None
    local_dir: Annotated[Path | None, "Plain files in this folder instead of the store."] = None
    hf_cache: Annotated[bool, "Show it in the Hugging Face cache, too, for from_pretrained(NAME)."] = False
    force: Annotated[bool, "Check again what is here; use a --local-dir that is not empty."] = False


@verb(
    "download", example="internlm-zoo download internlm-chat-7b --source auto", alias="pull", asks_hubs=True
)
def download(
    shell: Shell,
    model: Annotated[str, typer.Argument(help="A model of the registry; `list` shows them.")],
    options: DownloadOptions,
    dry_run: Annotated[bool, "Say what would be fetched."] = False,
) -> CommandResult:
    """Get a model, every file checked before it is shown. The last line printed is the folder."""
    import internlm_zoo as zoo

    how = options.keywords()
    if dry_run:
        how = {name: value for name, value in how.items() if name not in ("max_workers", "max_rate")}
        return _planned(shell.call(zoo.plan_download, model, **how))
    result = shell.call(zoo.download, model, **how)
    shell.note(_summary(result))
    return CommandResult(result, result.path)


@verb("verify", example="internlm-zoo verify internlm-chat-7b", asks_hubs=True)
def verify(
    shell: Shell,
    target: Annotated[
        str, typer.Argument(metavar="MODEL|DIR", help="A model in the store, or a folder of it.")
    ],
    quick: Annotated[bool, "Compare sizes only; nothing is hashed."] = False,
    workers: Workers = None,
    repair: Annotated[bool, "Fetch what is wrong again, of large files by the block."] = False,
) -> CommandResult:
    """Hash a download or a conversion again; exit with 1 if a file is wrong, missing or extra."""
    import internlm_zoo as zoo
    from internlm_zoo.registry.quoted import sentences

    found = shell.call(zoo.verify, target, quick=quick, repair=repair, workers=workers)
    shell.note(*map(_repaired, found.repaired))
    shell.note(*(sentence for report in found.folders for sentence in sentences(report.quoted)))
    return verified(found)


def verified(found: Verification) -> CommandResult:
    """Exit code 1 if a file is wrong, missing or extra."""
    data = {"ok": found.ok, "folders": [{"ok": report.ok, **vars(report)} for report in found.folders]}
    return CommandResult(data, _verdicts(found.folders), exit_code=0 if found.ok else 1)


def _summary(result: DownloadResult) -> str:
    served = [_service(name, service) for name, service in result.sources.items()]
    kept = [f"{byte_count(result.reused_bytes)} were here"] if result.reused_bytes else []
    sources = ", ".join([*(served or ["nothing fetched"]), *kept])
    what = f"{_files(len(result.files))} of {result.hub}:{result.repo} at {result.revision[:SHORT_REVISION]}"
    return f"{what}, checked in {result.seconds:.1f} s; {sources}"


def _service(name: str, service: SourceStatistics) -> str:
    """What a hub did, as `600.0 kB from modelscope (2 retries)`."""
    times = "retry" if service.retries == 1 else "retries"
    retries = f" ({service.retries} {times})" if service.retries else ""
    return f"{byte_count(service.served)} from {name}{retries}"


def _repaired(file: Repaired) -> str:
    sources = ", ".join(f"{byte_count(count)} from {name}" for name, count in file.served.items() if count)
    kept = f"; {byte_count(file.kept)} of it were right" if file.kept else ""
    return f"{file.path} is right again: {sources or 'it was here'}{kept}"


def _planned(plan: DownloadPlan) -> CommandResult:
    names = ("model", "hub", "repo", "revision", "format", "path", "files", "size", "to_fetch", "notes")
    return CommandResult({**{name: getattr(plan, name) for name in names}, "dry_run": True}, _table(plan))


def _table(plan: DownloadPlan) -> RenderableType:
    from rich.console import Group

    rows = [[file.path, byte_count(file.size), file.origin] for file in plan.files]
    title = f"{plan.hub}:{plan.repo} at {plan.revision}"
    table = TextTable([wide("File"), figure("Size"), wide("From")], rows, title=title)
    return Group(table, "", plan.summary)


def _verdicts(reports: Sequence[VerifyReport]) -> TextTable | list[str]:
    """One line per file that is not as it should be, or per folder if there is none."""
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
        return TextTable([wide("File"), "Is", wide("Why"), wide("In")], rows)
    return [_right(report) for report in reports]


def _right(report: VerifyReport) -> str:
    how = "all of the right size" if report.quick else "all as they should be"
    added = f"; added since, and not part of it: {', '.join(report.added)}" if report.added else ""
    return f"{_files(report.checked)} checked, {byte_count(report.size)}, {how}{added}: {report.path}"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"

"""Options of every command that gets files from hubs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from internlm_zoo.cli.option_groups import Options

Workers = Annotated[int | None, "Files at a time; default: one per processor."]


@dataclass(frozen=True)
class FileOptions(Options):
    """Which files, and from where."""

    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]...", help="These files, by their paths.")
    ] = None
    include: Annotated[list[str] | None, "And files that match this glob; with neither: all."] = None
    exclude: Annotated[list[str] | None, "No files that match this glob."] = None
    source: Annotated[str, "auto, a hub, or a URL or directory that mirrors the hubs."] = "auto"
    adopt: Annotated[
        list[Path] | None,
        typer.Option("--adopt", metavar="DIR", help="Look for the files below this folder, too."),
    ] = None


@dataclass(frozen=True)
class SpeedOptions(Options):
    """How much at a time."""

    max_workers: Annotated[int, "Files at a time."] = 8
    max_rate: Annotated[str | None, "At most so much per second, as 20MB."] = None

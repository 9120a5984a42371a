"""Options of every command that gets files from hubs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Files = Annotated[list[str] | None, typer.Argument(metavar="[FILE]...", help="These files, by their paths.")]
Include = Annotated[
    list[str] | None, typer.Option("--include", help="And files that match this glob; with neither: all.")
]
Exclude = Annotated[list[str] | None, typer.Option("--exclude", help="No files that match this glob.")]
Source = Annotated[
    str, typer.Option("--source", help="auto, a hub, or a URL or directory that mirrors the hubs.")
]
Adopt = Annotated[
    list[Path] | None,
    typer.Option("--adopt", metavar="DIR", help="Look for the files below this folder, too."),
]
MaxWorkers = Annotated[int, typer.Option("--max-workers", min=1, help="Files at a time.")]
MaxRate = Annotated[str | None, typer.Option("--max-rate", help="At most so much per second, as 20MB.")]

"""What the demo proved, and the files that say so later: report.json and report.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from internlm_zoo.plain import markdown_text


@dataclass(frozen=True)
class StepResult:
    """One step on one model. bytes: moved or checked; seconds: wall time; said: prompts and
    what the model wrote after them; commands: what one would type."""

    step: str
    model: str
    ok: bool
    proved: str
    bytes: int
    seconds: float
    said: tuple[tuple[str, str], ...] = ()
    commands: tuple[str, ...] = ()


def write(results: Sequence[StepResult], directory: Path) -> tuple[Path, Path]:
    """Write report.json and report.md into `directory`; returns both paths."""
    directory.mkdir(parents=True, exist_ok=True)
    as_json, as_markdown = directory / "report.json", directory / "report.md"
    document = {"ok": all(result.ok for result in results), "proofs": [asdict(result) for result in results]}
    as_json.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    as_markdown.write_text(_markdown(results), encoding="utf-8")
    return as_json, as_markdown


def _markdown(results: Sequence[StepResult]) -> str:
    rows = [
        f"| {'✓' if result.ok else '✗'} | {result.step} | {result.model} | {markdown_text(result.proved)} | "
        + " | ".join(figures(result))
        + " |"
        for result in results
    ]
    head = ["# internlm-zoo demo", "", "|  | step | model | proved | MB | s |", "|---|---|---|---|--:|--:|"]
    return "\n".join([*head, *rows]) + "\n"


def figures(result: StepResult) -> tuple[str, str]:
    """Megabytes and seconds, for a table."""
    return (f"{result.bytes / 1e6:.2f}" if result.bytes else "", f"{result.seconds:.2f}")

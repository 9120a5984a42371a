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


def write(proofs: Sequence[StepResult], directory: Path) -> tuple[Path, Path]:
    """Write report.json and report.md into `directory`; returns both paths."""
    directory.mkdir(parents=True, exist_ok=True)
    as_json, as_markdown = directory / "report.json", directory / "report.md"
    document = {"ok": all(proof.ok for proof in proofs), "proofs": [asdict(proof) for proof in proofs]}
    as_json.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    as_markdown.write_text(_markdown(proofs), encoding="utf-8")
    return as_json, as_markdown


def _markdown(proofs: Sequence[StepResult]) -> str:
    rows = [
        f"| {'✓' if proof.ok else '✗'} | {proof.step} | {proof.model} | {markdown_text(proof.proved)} | "
        + " | ".join(figures(proof))
        + " |"
        for proof in proofs
    ]
    head = ["# internlm-zoo demo", "", "|  | step | model | proved | MB | s |", "|---|---|---|---|--:|--:|"]
    return "\n".join([*head, *rows]) + "\n"


def figures(proof: StepResult) -> tuple[str, str]:
    """Megabytes and seconds, for a table."""
    return (f"{proof.bytes / 1e6:.2f}" if proof.bytes else "", f"{proof.seconds:.2f}")

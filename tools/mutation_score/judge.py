"""Judges a directory as a user would: `smoke_test` of it, with what a registry knows of it, or nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import yaml

import internlm_zoo as zoo
from internlm_zoo.errors import ZooError
from internlm_zoo.settings import Settings
from tools.mutation_score.faults import Fault
from tools.mutation_score.subject import Subject

GOLDEN, CALIBRATED, UNNAMED, CHAT = "golden", "calibrated", "unnamed", "as chat"


@dataclass(frozen=True)
class Mode:
    """name: as in the tables. overlay: of the registry. known_as: the name that a user gives. kind: what a
    record beside the weights says of it."""

    name: str
    home: Path
    overlay: Path | None = None
    known_as: str | None = None
    kind: str | None = None

    @property
    def settings(self) -> Settings:
        return Settings(home=self.home, offline=True, registry=self.overlay)


@dataclass(frozen=True)
class Verdict:
    """sentence: as it was printed, without the place of the directory. named: whether it names what was
    wrong; None where nothing can."""

    caught: bool
    sentence: str
    named: bool | None = None


def judged(folder: Path, mode: Mode) -> Verdict:
    """An error that the product words is a catch; any other is a crash, and comes out."""
    record = folder / "conversion.json"
    if mode.kind:
        record.write_text(f'{{"model": {{"name": "under-test", "kind": "{mode.kind}"}}}}', encoding="utf-8")
    try:
        result = zoo.smoke_test(folder, known_as=mode.known_as, settings=mode.settings)
        verdict = Verdict(not result.ok, result.sentence)
    except ZooError as error:
        verdict = Verdict(True, error.what)
    record.unlink(missing_ok=True)
    return replace(verdict, sentence=" ".join(verdict.sentence.replace(f"{folder}/", "").split()))


def judged_of(fault: Fault, folder: Path, mode: Mode) -> Verdict:
    verdict = judged(folder, mode)
    if fault.cause is None:
        return verdict
    return replace(verdict, named=verdict.caught and fault.is_named_in(verdict.sentence) is not None)


def modes_of_demo(subject: Subject, work: Path) -> list[Mode]:
    """All is known of it; what `smoke --record` wrote, and no golden data; nothing, not even its shape."""
    home, name, below = work / "home", subject.name, work / subject.name
    golden = Mode(GOLDEN, home, known_as=name)
    recorded = below.with_suffix(".recorded")
    zoo.smoke_test(subject.folder, known_as=name, record=recorded, settings=golden.settings)
    said = yaml.safe_load(recorded.read_text(encoding="utf-8"))["models"][name]
    said["smoke"]["golden"] = None
    calibrated = _overlay(below.with_suffix(".calibrated"), name, **said)
    forgotten = _overlay(below.with_suffix(".forgotten"), name, architecture=None)
    return [golden, Mode(CALIBRATED, home, calibrated, name), Mode(UNNAMED, home, forgotten)]


def modes_of_other(work: Path) -> list[Mode]:
    return [Mode(UNNAMED, work / "home"), Mode(CHAT, work / "home", kind="chat")]


def _overlay(file: Path, name: str, **says: object) -> Path:
    file.write_text(yaml.safe_dump({"models": {name: says}}), encoding="utf-8")
    return file

"""Makes every fault in every model, and judges each copy: in processes, as many as there are processors."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import internlm_zoo as zoo
from internlm_zoo.demo.environment import BUNDLED
from internlm_zoo.settings import Settings
from tests.loading.demo import MODELS
from tools.mutation_score.faults import FAULTS
from tools.mutation_score.honest import VARIANTS, verdicts
from tools.mutation_score.judge import Mode, Verdict, judged_of, modes_of_demo, modes_of_other
from tools.mutation_score.loss import Reader, cost
from tools.mutation_score.subject import SETTINGS, TEMPLATE, Subject


@dataclass(frozen=True)
class Trial:
    """A model, and how it is judged. sound: nats and tokens of the texts that measure losses."""

    subject: Subject
    modes: Sequence[Mode]
    sound: tuple[float, int]


@dataclass(frozen=True)
class Outcome:
    """Of one fault, or honest variant, in one model. cost: nats per token; None where nothing can be read.
    verdicts: by mode; none where the model has nothing that the fault could be made in."""

    model: str
    what: str
    cost: float | None
    verdicts: dict[str, Verdict]
    variant: bool = False


@dataclass(frozen=True)
class Job:
    """what: the name of the fault, or of the variant."""

    trial: Trial
    what: str
    work: Path
    variant: bool = False


def demo_trials(work: Path) -> list[Trial]:
    return [_demo(name, work) for name in MODELS]


def _demo(name: str, work: Path) -> Trial:
    subject = Subject(name, _as_llama(BUNDLED / name, work / name, name), "chat" in name)
    return Trial(subject, modes_of_demo(subject, work), Reader(subject.folder).nats(subject.turns))


def other_trial(folder: Path, known_as: str | None, work: Path) -> Trial:
    """Of a model that is given. known_as: for its conversion alone, where its files leave facts open."""
    made = _as_llama(folder, work / "other", known_as)
    turns = (made / TEMPLATE).exists() or "chat_template" in (made / SETTINGS).read_text(encoding="utf-8")
    subject = Subject(folder.resolve().name, made, turns)
    return Trial(subject, modes_of_other(work), Reader(made).nats(turns))


def _as_llama(source: Path, target: Path, known_as: str | None) -> Path:
    settings = Settings(home=target.with_name("home"), offline=True)
    zoo.convert(source, target, to="llama", known_as=known_as, evidence=False, settings=settings)
    (target / "conversion.json").unlink(missing_ok=True)
    return target


def jobs(trials: Sequence[Trial], demos: Sequence[Trial], work: Path) -> list[Job]:
    """Every fault of every model; every honest variant of the demo models."""
    faults = [Job(trial, fault.what, work) for fault in FAULTS for trial in trials]
    return faults + [Job(trial, one.what, work, variant=True) for one in VARIANTS for trial in demos]


def run(asked: Sequence[Job], processes: int) -> list[Outcome]:
    """In the order of the jobs. Tells on stderr how far it is."""
    found: dict[int, Outcome] = {}
    with ProcessPoolExecutor(processes, initializer=quiet) as pool:
        futures = {pool.submit(done, job): number for number, job in enumerate(asked)}
        for future in as_completed(futures):
            found[futures[future]] = future.result()
            _tell(len(found), len(asked), found[futures[future]])
    return [outcome for _, outcome in sorted(found.items())]


def done(job: Job) -> Outcome:
    folder = Path(tempfile.mkdtemp(dir=job.work))
    try:
        return (_of_variant if job.variant else _of_fault)(job.trial, job.what, folder)
    finally:
        shutil.rmtree(folder)


def _of_fault(trial: Trial, what: str, folder: Path) -> Outcome:
    fault = next(one for one in FAULTS if one.what == what)
    subject, spoiled = trial.subject, folder / "model"
    if not subject.spoiled(fault.make, spoiled):
        return Outcome(subject.name, what, None, {})
    verdicts = {mode.name: judged_of(fault, spoiled, mode) for mode in trial.modes}
    return Outcome(subject.name, what, cost(spoiled, trial.sound, subject.turns), verdicts)


def _of_variant(trial: Trial, what: str, folder: Path) -> Outcome:
    variant = next(one for one in VARIANTS if one.what == what)
    found = verdicts(variant, BUNDLED / trial.subject.name, trial.modes, folder)
    return Outcome(trial.subject.name, what, None, found, variant=True)


def quiet() -> None:
    """One thread for each process, and no bars of libraries."""
    import logging

    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.disable(logging.WARNING)


def _tell(count: int, all: int, last: Outcome) -> None:
    """One line that changes on a terminal, every twentieth elsewhere."""
    live = sys.stderr.isatty()
    if live or count % 20 == 0 or count == all:
        line = f"{count} of {all}: {last.model}, {last.what}"
        print(f"{line:<110.110}", end="\r" if live and count < all else "\n", file=sys.stderr, flush=True)

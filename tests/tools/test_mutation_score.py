"""Faults that know nothing of the smoke tests say how sharp these are, and the page tells all of them."""

from __future__ import annotations

import ast
import random
from collections import Counter
from pathlib import Path

import pytest

from tools.mutation_score.faults import FAULTS, GROUPS

ROOT = Path(__file__).parents[2]
MAKERS = (
    *(ROOT / "tools/mutation_score" / f"{name}.py" for name in ("faults", "reordered", "damaged", "stated")),
    ROOT / "tools/mutation_score/subject.py",
    ROOT / "tools/mutation_score/loss.py",
    ROOT / "tests/smoke/seeded.py",
)
PAGE = ROOT / "docs/smoke-sharpness.md"
MODES = ("golden", "calibrated", "unnamed")
TRIED = 4


def rows(text, heading):
    """The cells of the table whose first column has this heading."""
    lines = text.partition(f"| {heading} |")[2].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def tables():
    """Of each demo model: what is said of every fault, by mode."""
    part = PAGE.read_text(encoding="utf-8").partition("<!-- begin: demo models -->")[2]
    _, *models = part.partition("<!-- end: demo models -->")[0].split("\n### ")
    found = {text.splitlines()[0]: rows(text, "fault") for text in models}
    return {name: [row for row in table if not row[0].startswith("**")] for name, table in found.items()}


def test_the_list_holds_seventy_faults_and_more_each_once():
    assert len({fault.what for fault in FAULTS}) == len(FAULTS) >= 70
    assert Counter(fault.group for fault in FAULTS).keys() == GROUPS.keys()
    assert sum(fault.cause is not None for fault in FAULTS) >= 40


@pytest.mark.parametrize("path", MAKERS, ids=lambda path: path.stem)
def test_faults_are_made_and_measured_without_the_code_that_looks_for_them(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    named += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert not [name for name in named if name.startswith("internlm_zoo.smoke")]


def test_the_page_has_every_fault_of_the_list_for_every_demo_model():
    assert tables().keys() == {"demo-internlm-base", "demo-internlm2-chat"}
    for table in tables().values():
        assert [row[0] for row in table] == [fault.what for fault in FAULTS]


def test_the_totals_of_the_page_are_those_of_its_tables():
    totals = {row[0]: row[1:4] for row in rows(PAGE.read_text(encoding="utf-8"), "faults")}
    everything = [row for table in tables().values() for row in table if row[2] != "-"]
    has_name = {fault.what for fault in FAULTS if fault.cause}
    dear = [
        row for row in everything if row[1] == "no number" or (row[1][-1].isdigit() and float(row[1]) >= 0.3)
    ]
    for at, _ in enumerate(MODES, 2):
        counts = [f"{sum(row[at] != 'missed' for row in kept)} of {len(kept)}" for kept in (everything, dear)]
        assert [totals["caught in all"][at - 2], totals["caught that cost 0.3 or more"][at - 2]] == counts
        named = [row[at] == "named" for row in everything if row[0] in has_name]
        assert totals["named rightly"][at - 2] == f"{sum(named)} of {len(named)}"


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    """The trial of a demo model, and a folder to work in."""
    pytest.importorskip("torch")
    from tools.mutation_score import scoring

    work = tmp_path_factory.mktemp("score")
    return next(trial for trial in scoring.demo_trials(work) if trial.subject.turns), work


@pytest.mark.slow
def test_golden_data_catches_whatever_is_drawn_and_the_cost_is_what_readers_pay(chat):
    from tools.mutation_score import page, totals
    from tools.mutation_score.scoring import Job, done

    trial, work = chat
    drawn = random.Random(14).sample([fault for fault in FAULTS if "bias" not in fault.what], TRIED)
    outcomes = [done(Job(trial, fault.what, work)) for fault in drawn]
    for outcome in totals.made(outcomes):
        assert outcome.verdicts["golden"].caught, outcome
        assert outcome.cost is None or outcome.cost < totals.DEAR or outcome.verdicts["unnamed"].caught, (
            outcome
        )
    text = page.written(outcomes, "make mutation-score")
    assert all(f"| {outcome.what} |" in text for outcome in outcomes)


@pytest.mark.slow
def test_a_fault_is_named_and_a_shape_that_has_no_room_for_it_is_said(chat):
    from tools.mutation_score.scoring import Job, done

    trial, work = chat
    found = done(Job(trial, "q and k are in rotary pairs, not halves", work))
    assert all(verdict.caught and verdict.named for verdict in found.verdicts.values()), found
    assert found.cost is not None and found.cost > 0.3
    assert done(Job(trial, "the biases of o are lost", work)).verdicts == {}


@pytest.mark.slow
def test_an_honest_variant_raises_no_alarm_and_another_model_is_judged_without_its_name(chat):
    from tools.mutation_score import scoring

    trial, work = chat
    found = scoring.done(scoring.Job(trial, "hf, float32, shards of 400 kB", work, variant=True))
    assert not any(verdict.caught for verdict in found.verdicts.values()), found
    other = scoring.other_trial(trial.subject.folder, None, work)
    assert other.subject.turns and other.sound == trial.sound
    judged = scoring.done(scoring.Job(other, "gate and up are exchanged", work))
    assert {mode: verdict.named for mode, verdict in judged.verdicts.items()} == {
        "unnamed": True,
        "as chat": True,
    }

"""Writes docs/smoke-sharpness.md: which seeded faults the smoke tests catch, and what each fault costs.

    make mutation-score                       # the demo models
    make mutation-score MODEL=DIR             # and this one, of which nothing is known
    python -m tools.mutation_score --only theta head      # those with one of the words, printed alone

Exits 1 if an aim is missed in the demo models. Takes some minutes on two processors.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tools.mutation_score import page, scoring, totals
from tools.mutation_score.scoring import Job, Outcome


def main() -> int:
    asked = _arguments()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        scoring.quiet()
        if asked.model:
            other = scoring.other_trial(asked.model, asked.known_as, work)
            found = _outcomes(scoring.jobs([other], [], work), asked)
            _tell(page.OTHER, found, f"make mutation-score MODEL={other.subject.name}", asked)
        demos = scoring.demo_trials(work)
        found = _outcomes(scoring.jobs(demos, demos, work), asked)
    _tell(page.DEMOS, found, "make mutation-score", asked)
    return 0 if totals.met(found) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mutation_score", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, help="a model's directory, in any format that can be loaded")
    parser.add_argument("--as", dest="known_as", help="what it is, where its files leave facts open")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="faults and variants with one of the words")
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


def _outcomes(jobs: list[Job], asked: argparse.Namespace) -> list[Outcome]:
    chosen = [job for job in jobs if not asked.only or any(word in job.what for word in asked.only)]
    return scoring.run(chosen, asked.processes)


def _tell(part: str, found: list[Outcome], command: str, asked: argparse.Namespace) -> None:
    """A part of the list is printed; the whole of it goes into the page."""
    text = page.written(found, command)
    if asked.only:
        print(text)
    else:
        page.publish(part, text)
        print(f"{page.DOCUMENT.relative_to(page.ROOT)}: {part}")


if __name__ == "__main__":
    sys.exit(main())

"""Writes the tables of docs/engines.md: what other programs make of the directories that `convert` writes.

    python tools/engine_matrix.py              # all engines; downloads them, about 8 GB in .cache/venvs
    python tools/engine_matrix.py --only mlx   # print the rows of some, and write nothing

The demo models are converted to each form of CONVERSIONS, and each engine of tools/engines/engines.yaml, in
an environment of its own, is asked for token ids, greedy tokens, logits, text and where it stops.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.demo_training.files import MODELS  # noqa: E402
from tools.demo_training.recipes import RECIPES  # noqa: E402
from tools.engines import page  # noqa: E402
from tools.engines.judge import Subject, ask, subject  # noqa: E402
from tools.engines.table import CONVERSIONS, Engine, Outcome, read_table  # noqa: E402
from tools.venvs import python_of  # noqa: E402


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", metavar="TEXT", help="engines whose name holds it; prints, writes nothing")
    only = options.parse_args().only
    engines = [engine for engine in read_table()[0] if not only or only in engine.name]
    outcomes, missing = measure(engines)
    print(page.tables(outcomes, missing))
    if not only:
        page.write(outcomes, missing)


def measure(engines: Sequence[Engine]) -> tuple[list[Outcome], dict[str, str]]:
    """Outcomes, and why the others did not install."""
    _, texts = read_table()
    outcomes, missing = [], {}
    with tempfile.TemporaryDirectory() as folder:
        wanted = {form for engine in engines for form in engine.forms}
        subjects = list(_subjects(Path(folder), wanted))
        for engine in engines:
            try:
                python = python_of(engine.venv, engine.install)
            except subprocess.CalledProcessError as error:
                missing[engine.name] = error.stderr.strip().splitlines()[-1]
                continue
            asked = [subject for subject in subjects if subject.form in engine.forms]
            outcomes += [ask(engine, python, subject, texts) for subject in asked]
    return outcomes, missing


def _subjects(folder: Path, wanted: Collection[str]) -> Iterator[Subject]:
    zoo = [sys.executable, "-c", "from internlm_zoo.cli import main; main()"]
    for form in (form for form in CONVERSIONS if form in wanted):
        to, dtype = CONVERSIONS[form]
        for recipe in RECIPES:
            target = folder / f"{recipe.name} {form}"
            convert = ["convert", ROOT / MODELS / recipe.name, target, "--to", to, "--dtype", dtype]
            subprocess.run([*zoo, *convert], check=True, capture_output=True, cwd=ROOT)
            yield subject(target, form, recipe.name)


if __name__ == "__main__":
    main()

"""Takes the handling of each trap away, one piece at a time, and says which test notices.

The faults are data, in mutations.yaml beside this file: a text of one source file and what takes its place.
Each is put into a copy of the tree in a temporary directory, and tests are run there until the first that
fails: the converters', then those of smoke and of loading; for a fault outside the converters these alone.
All of them take hours, so this is no part of the default tests.

    python tools/mutations.py                 all of them, as a Markdown table
    python tools/mutations.py norm_head MD5   those whose heading or description holds one of the words

Exits 1 if a fault went unnoticed, 2 if a text is not found exactly once in its file.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
FAULTS = Path(__file__).with_suffix(".yaml")
COPIED = "converters internlm_zoo tests pyproject.toml registry.yaml registry.schema.json registry.lock"
TESTS = Path("tests/converters")
# These are quick and meet most faults, so they come first; the tokenizer's have nothing to do with any.
FIRST = (
    "layouts/test_traps.py",
    "source/test_refusals.py",
    "conversion/test_to_original.py",
    "config/test_configs.py",
    "streaming/test_dtype.py",
    "inspection/test_fingerprint.py",
    "streaming/test_large_tensors.py",
    "conversion/test_to_hf.py",
    "conversion/test_to_gguf.py",
    "source/test_other_models.py",
    "containers/test_index.py",
)
LEFT_OUT = "tokenizer"
ELSEWHERE = ("tests/smoke", "tests/loading")
OPTIONS = ("-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-m", "not slow")
NO_TESTS = 5
SECONDS = 600
NOTICED = re.compile(r"^(?:FAILED|ERROR) (?:tests/converters/)?(\S+?::\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Fault:
    """trap: what is at stake. what: the fault. old, new: texts of the file."""

    trap: str
    what: str
    file: str
    old: str
    new: str

    def applied(self, sound: str) -> str:
        """The file's text with the fault. Raises SystemExit unless `old` is in it exactly once."""
        if (count := sound.count(self.old)) == 1:
            return sound.replace(self.old, self.new)
        print(f"{self.file} holds {count} times what '{self.what}' replaces: {self.old!r}", file=sys.stderr)
        raise SystemExit(2)


def faults(words: Sequence[str]) -> list[Fault]:
    table = yaml.safe_load(FAULTS.read_text(encoding="utf-8"))
    found = [Fault(trap, **fields) for trap, entries in table.items() for fields in entries]
    wanted = [word.lower() for word in words]
    return [f for f in found if not wanted or any(w in f"{f.trap} {f.what}".lower() for w in wanted)]


def tests(root: Path, source: str) -> list[str]:
    """Test files for a fault in a source file, those that most faults meet first."""
    elsewhere = [name for folder in ELSEWHERE for name in _below(root, folder)]
    if not source.startswith("converters/"):
        return elsewhere
    first = [(TESTS / name).as_posix() for name in FIRST]
    later = [name for name in _below(root, TESTS.as_posix()) if name not in first]
    rest = [name for name in later if not name.startswith(f"{TESTS.as_posix()}/{LEFT_OUT}/")]
    return [*first, *rest, *elsewhere]


def _below(root: Path, folder: str) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in (root / folder).rglob("test_*.py"))


def first_to_notice(root: Path, files: Iterable[str]) -> str | None:
    """The first test that fails in the tree; None if none does."""
    return next((test for file in files if (test := _first_failure(root, file)) is not None), None)


def _first_failure(root: Path, file: str) -> str | None:
    environ = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", *OPTIONS, file]
    try:
        run = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"{file} (no end)"
    match = NOTICED.search(run.stdout)
    if run.returncode < 0:
        return f"{file} (ended by signal {-run.returncode})"
    if match is None and run.returncode not in (0, NO_TESTS):
        raise RuntimeError(f"no test failed, and pytest ended with {run.returncode}:\n{run.stdout[-2000:]}")
    return match and match[1]


def noticed_by(fault: Fault, root: Path) -> str | None:
    path = root / fault.file
    sound = path.read_text(encoding="utf-8")
    path.write_text(fault.applied(sound), encoding="utf-8")
    try:
        return first_to_notice(root, tests(root, fault.file))
    finally:
        path.write_text(sound, encoding="utf-8")


def copy_tree(root: Path) -> None:
    for part in COPIED.split():
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copy(ROOT / part, root / part)


def main(words: Sequence[str]) -> int:
    chosen = faults(words)
    for fault in chosen:
        fault.applied((ROOT / fault.file).read_text(encoding="utf-8"))
    unnoticed = 0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        copy_tree(root)
        needed = dict.fromkeys(name for fault in chosen for name in tests(root, fault.file))
        if (failing := first_to_notice(root, needed)) is not None:
            print(f"the tests fail without any fault: {failing}", file=sys.stderr)
            return 2
        print("| what is at stake | fault | the first test that noticed |\n|---|---|---|")
        for fault in chosen:
            test = noticed_by(fault, root)
            unnoticed += test is None
            print(f"| {fault.trap} | {fault.what} | {f'`{test}`' if test else '**none**'} |", flush=True)
    return 1 if unnoticed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

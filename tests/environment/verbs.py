"""Every verb that touches disks in every environment: what it comes to, and what a rerun on a plain one does.

Each case is one process with a folder of its own, which is odd: the store, or where the verb writes. `table`
is what docs/faults.md shows.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import numpy as np

from tests.converters.oracle import Dims, expected, make_model, read_hf, write_original
from tests.environment.places import COMMAND, Done, open_folder, run_in, words
from tests.environment.table import ENVIRONMENTS, ROOT, Environment
from tests.timing import PATIENCE
from tests.world import FILES, World, content_below, open_world

PLAIN = ENVIRONMENTS["plain"]
DIMS = Dims(hidden=64, inter=96, vocab=512)  # more than the 200 kB after which some environments end
MODEL = make_model(DIMS)


@dataclass(frozen=True)
class Place:
    """One case's folder. world: its hubs. source: an original checkpoint."""

    folder: Path
    world: World
    source: Path

    @property
    def odd(self) -> Path:
        return self.folder / "odd"

    def environ(self, verb: Verb) -> dict[str, str]:
        """Of a user whose store is the odd folder, or lies beside it."""
        home = self.odd if verb.in_store else self.folder / "store"
        return {
            **self.world.environ,
            "HOME": str(self.folder),
            "INTERNLM_ZOO_HOME": str(home),
            "INTERNLM_ZOO_TIMEOUT": str(PATIENCE),
        }


@dataclass(frozen=True)
class Verb:
    """args: of the command line. holds: whether what it leaves and says is right, looked at without the
    product. in_store: the odd folder is the store. before: the verb that has to have run there."""

    name: str
    args: Callable[[Place], list[str]]
    holds: Callable[[Place, Done], bool]
    in_store: bool = True
    before: str = ""


def _release(place: Place) -> list[Path]:
    return list(place.odd.glob("releases/*/acme--tiny/*"))


def _lists_it(place: Place, done: Done) -> bool:
    return any(release["model"] == "tiny" for release in json.loads(done.out)["releases"])


def _converted(place: Place, done: Done) -> bool:
    found, wanted = read_hf(place.odd / "out"), expected(MODEL, DIMS, "hf")
    return found.keys() == wanted.keys() and all(np.array_equal(found[name], wanted[name]) for name in wanted)


def _mirrored(place: Place, done: Done) -> bool:
    held = content_below(place.odd / "mirror" / "acme" / "tiny")
    return held == FILES


def _locked(place: Place, done: Done) -> bool:
    written = (place.odd / "registry.lock").read_text(encoding="utf-8")
    return all(f"acme/{name}" in written for name in ("tiny", "tiny-original"))


def _mirror_file(place: Place) -> str:
    wanted = {"destination": str(place.odd / "mirror"), "models": ["tiny"], "formats": ["hf"]}
    (place.folder / "mirror.yaml").write_text(json.dumps(wanted))
    return str(place.folder / "mirror.yaml")


def _whole(place: Place, done: Done) -> bool:
    return content_below(Path(done.out.strip())) == FILES


_VERBS = (
    Verb("list", lambda place: ["list"], lambda place, done: "tiny" in done.out),
    Verb("download", lambda place: ["download", "tiny", "--format", "hf"], _whole),
    Verb(
        "download --local-dir",
        lambda place: ["download", "tiny", "--format", "hf", "--local-dir", str(place.odd / "out")],
        _whole,
        in_store=False,
    ),
    Verb(
        "verify",
        lambda place: ["verify", "tiny"],
        lambda place, done: "wrong" not in done.out,
        before="download",
    ),
    Verb("cache list", lambda place: ["cache", "list", "--json"], _lists_it, before="download"),
    Verb(
        "cache prune",
        lambda place: ["cache", "prune"],
        lambda place, done: bool(_release(place)),
        before="download",
    ),
    Verb(
        "cache rm",
        lambda place: ["cache", "rm", "tiny"],
        lambda place, done: not _release(place),
        before="download",
    ),
    Verb(
        "lock",
        lambda place: ["lock", "tiny", "--file", str(place.odd / "registry.lock")],
        _locked,
        in_store=False,
    ),
    Verb(
        "convert",
        lambda place: ["convert", str(place.source), str(place.odd / "out"), "--to", "hf"],
        _converted,
        in_store=False,
    ),
    Verb("mirror apply", lambda place: ["mirror", "apply", _mirror_file(place)], _mirrored, in_store=False),
    Verb(
        "serve",
        lambda place: ["serve", str(place.odd / "mirror"), "--port", "0"],
        lambda place, done: done.out.encode("latin-1") == FILES["config.json"],
        in_store=False,
        before="mirror apply",
    ),
)
VERBS = {verb.name: verb for verb in _VERBS}


@dataclass(frozen=True)
class Case:
    environment: Environment
    verb: Verb

    def __str__(self) -> str:
        return f"{self.environment.name}-{self.verb.name}"


CASES = tuple(Case(environment, verb) for environment, verb in product(ENVIRONMENTS.values(), _VERBS))


@dataclass(frozen=True)
class Outcome:
    """done: of the verb in the environment. right: whether it did what it is for. again: the same of a rerun
    where all is plain, for what was refused."""

    done: Done
    right: bool
    again: bool

    @property
    def in_short(self) -> str:
        if self.done.code:
            return f"exit {self.done.code}"
        return "right" if self.right else "wrong"


class Bench:
    """Runs cases, each from a copy of what the verb before it left in a plain environment."""

    def __init__(self, folder: Path, world: World) -> None:
        self._folder, self._world = folder, world
        self._source = write_original(folder / "source", MODEL, DIMS)
        self._left = {name: self._leave(name) for name in ("download", "mirror apply")}
        self._left |= {name: self._leave(name) for name in VERBS if name not in self._left}

    def run(self, case: Case) -> Outcome:
        start = case.verb.name if case.environment.complete and not case.verb.before else case.verb.before
        place = self._place(str(case), self._left[start] if start else None)
        done, right = self._try(case.environment, case.verb, place)
        again = right or self._try(PLAIN, case.verb, place)[1]
        shutil.rmtree(place.folder)
        return Outcome(done, right, again)

    def _leave(self, name: str) -> Path:
        verb = VERBS[name]
        place = self._place(f"left by {name}", self._left[verb.before] if verb.before else None)
        done, right = self._try(PLAIN, verb, place)
        assert right, (name, done)
        return place.odd

    def _place(self, name: str, left: Path | None) -> Place:
        place = Place(self._folder / re.sub(r"\W+", "-", name), self._world, self._source)
        place.folder.mkdir(mode=0o777)
        place.folder.chmod(0o777)
        if left is not None:
            shutil.copytree(left, place.odd, symlinks=True)
        place.odd.mkdir(exist_ok=True)
        place.odd.chmod(0o777)
        return place

    def _try(self, environment: Environment, verb: Verb, place: Place) -> tuple[Done, bool]:
        run = _serve if verb.name == "serve" else run_in
        done = run(environment, verb.args(place), place.environ(verb), place.odd)
        return done, done.code == 0 and (not environment.kept or verb.holds(place, done))


def _serve(environment: Environment, args: list[str], environ: Mapping[str, str], odd: Path) -> Done:
    """Served until one file has come, which is its `out`. Ended by SIGTERM, which is no failure."""
    command = [*words(environment, odd), sys.executable, *COMMAND, *args]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "ODD": str(odd), **environ}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if url := re.search(r"http://127[0-9.:]+", line):
            opener = build_opener(ProxyHandler({}))
            with opener.open(f"{url[0]}/acme/tiny/resolve/main/config.json", timeout=PATIENCE) as answer:
                served = answer.read().decode("latin-1")
            process.send_signal(signal.SIGTERM)
            said += process.stdout.read()
            return Done(
                0 if process.wait(PATIENCE) in (0, 128 + signal.SIGTERM) else process.returncode, served, said
            )
    return Done(process.wait(PATIENCE), "", said)


def outcomes(cases: Iterable[Case] = CASES) -> dict[Case, Outcome]:
    """Of the cases that this machine can have."""
    had = [case for case in cases if case.environment.why_not is None]
    with open_folder() as folder, ExitStack() as stack, ThreadPoolExecutor(os.cpu_count()) as pool:
        bench = Bench(folder, open_world(folder, stack))
        return dict(zip(had, pool.map(bench.run, had), strict=True))


def said(outcome: Outcome) -> str:
    """The refusal, without what differs from run to run."""
    lines = re.findall(r"^error: (.*)", outcome.done.err, re.MULTILINE) or outcome.done.err.splitlines()[-1:]
    text = re.sub(r"/[^\s,:;()']*/odd\b[^\s,:;()']*", "PATH", lines[0] if lines else "")
    return re.sub(r"(?<!HTTP )\b\d[\d,.]*\b", "N", text)


def table(got: Mapping[Case, Outcome]) -> str:
    """All outcomes in Markdown."""
    return "\n".join(_lines(got))


def _lines(got: Mapping[Case, Outcome]) -> Iterator[str]:
    heads = ["environment", *VERBS, "refused with the words"]
    yield from ("## In odd environments", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|")
    for environment in ENVIRONMENTS.values():
        of_it = [got[case] for case in CASES if case.environment is environment and case in got]
        words = dict.fromkeys(said(outcome) for outcome in of_it if not outcome.right)
        cells = [f"{environment.name}: {environment.what}", *(outcome.in_short for outcome in of_it)]
        yield f"| {' | '.join([*cells, '; '.join(words)])} |"
    yield ""

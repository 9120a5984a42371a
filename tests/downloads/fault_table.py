"""Every fault of tests/hubs, in the files and in the listings of every protocol: what `download` makes of it.

Each case is one download by the public door into an empty home: from the faulty hub alone, or with a healthy
hub of another protocol next in order. Most of a case is waiting, so several run at a time, each thread with a
pair of hubs of its own. `table` is what docs/faults.md shows.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count, product
from pathlib import Path
from typing import Any
from unittest.mock import patch

from internlm_zoo import download
from internlm_zoo.errors import NetworkError, ZooError
from internlm_zoo.settings import Settings
from tests.hubs import FaultyHub
from tests.timing import PATIENCE, short_silence, silences, soon
from tests.world import FILES, REPO, WEIGHTS, content_below, overlay_of, sha256, write

WORKERS = 12
NEXT = {
    "huggingface": "modelscope",
    "modelscope": "huggingface",
    "modelers": "huggingface",
    "openxlab": "modelscope",
    "shelf": "huggingface",
}
TITLES = {
    "huggingface": "Hugging Face",
    "modelscope": "ModelScope",
    "modelers": "Modelers",
    "openxlab": "OpenXLab",
    "shelf": "web server",
}
LISTINGS = {
    "huggingface": "/api/models/*",
    "modelscope": "/api/v1/models/*/repo/files",
    "modelers": "/api/v1/file/*/tiny",
    "openxlab": "/api/v1/model-center/*",
    "shelf": "/web/*/",
}
ENDPOINTS = {
    "huggingface": ("HF_ENDPOINT", ""),
    "modelscope": ("MODELSCOPE_ENDPOINT", ""),
    "modelers": ("INTERNLM_ZOO_MODELERS_ENDPOINT", ""),
    "openxlab": ("INTERNLM_ZOO_OPENXLAB_ENDPOINT", ""),
    "shelf": ("SHELF_ENDPOINT", "/web"),
}
OVERLAY = f"""
hubs:
  shelf: {{title: Web server, protocol: web, endpoint_env: [SHELF_ENDPOINT]}}
{overlay_of(ENDPOINTS)}"""


@dataclass(frozen=True, eq=False)
class Fault:
    """name: as the table has it. said: what a refusal must say of it (a pattern); None: there must be none.
    how: of `FaultyHub.fault`. path: instead of the weights, or the listing."""

    name: str
    kind: str | int
    said: str | None
    how: Mapping[str, Any] = field(default_factory=dict)
    path: str | None = None


def _statuses(statuses: Iterable[int]) -> list[Fault]:
    return [Fault(f"HTTP {status}", status, f"HTTP {status}") for status in statuses]


_NO_LISTING = "something else than a listing|lists no file"
_LATE = "nothing came in time|nothing whole within"
_DIGEST = "sha256|git sha1|git_sha1|digest"
IN_FILES = (
    Fault("one byte flipped", "flip", _DIGEST, {"after": 1000}),
    Fault("cut short", "truncate", "short"),
    Fault("length too long", "long-length", "short|bytes"),
    Fault("length too short, and obeyed", "short-length", "bytes"),
    Fault("no length", "no-length", None),
    Fault("range ignored", "ignore-range", None),
    Fault("another range than asked for", "wrong-range", "when asked for"),
    Fault("a part of what was asked for", "part", None),
    Fault("stalls", "stall", "stopped answering", {"after": 5000}),
    Fault("no answer", "hang", "stopped answering"),
    Fault("connection reset", "reset", "stopped answering.*reset", {"after": 5000}),
    Fault("a trickle", "slow", "too slow|stopped answering", {"rate": 100}),
    Fault("late", "delay", None, {"seconds": 0.1}),
    Fault("a web page", "html", "HTML page"),
    Fault("an empty answer", "empty", "empty|sends nothing"),
    Fault("compressed", "encoding", "coding 'gzip'"),
    Fault("LFS pointer", "lfs-pointer", "LFS pointer|bytes"),
    Fault("another ETag each time", "etag-changes", None),
    Fault("link expired", "expired", "HTTP 403"),
    Fault("redirect, same host", "redirect", None, {"to": "same"}),
    Fault("redirect, other port", "redirect", None, {"to": "other-port"}),
    Fault("redirect, other host", "redirect", None, {"to": "other-host"}),
    Fault("redirect to no web address", "redirect", "not a web address", {"to": "ftp://127.0.0.1/x"}),
    *_statuses((202, 400, 401, 403, 404, 410, 416, 429, 500, 503)),
)
IN_LISTINGS = (
    Fault("one byte flipped", "flip", _NO_LISTING, {"after": 0}),
    Fault("cut short", "truncate", "does not answer", {"after": 20}),
    Fault("length too long", "long-length", "does not answer"),
    Fault("length too short, and obeyed", "short-length", _NO_LISTING),
    Fault("no length", "no-length", None),
    Fault("another range than asked for", "wrong-range", f"{_NO_LISTING}|HTTP 206"),
    Fault("stalls", "stall", _LATE, {"after": 20}),
    Fault("no answer", "hang", _LATE),
    Fault("connection reset", "reset", "does not answer"),
    Fault("a trickle", "slow", _LATE, {"rate": 1}),
    Fault("late", "delay", None, {"seconds": 0.1}),
    Fault("a web page", "html", _NO_LISTING),
    Fault("an empty answer", "empty", f"{_NO_LISTING}|no list of the files"),
    Fault("compressed", "encoding", None),
    Fault("LFS pointer", "lfs-pointer", _NO_LISTING),
    Fault("another ETag each time", "etag-changes", None),
    Fault("link expired", "expired", "HTTP 403"),
    Fault("redirect, same host", "redirect", "HTTP 302", {"to": "same"}),
    Fault("redirect, other port", "redirect", "HTTP 302", {"to": "other-port"}),
    Fault("redirect, other host", "redirect", "HTTP 302", {"to": "other-host"}),
    Fault(
        "redirect to no web address",
        "redirect",
        "HTTP 302|unsupported protocol|" + _NO_LISTING,
        {"to": "ftp://127.0.0.1/x"},
    ),
    Fault("a name that leads out", "evil-name", "'../evil'", path="../evil"),
    Fault("a name that is a device", "evil-name", "'nul.txt'", path="nul.txt"),
    Fault("wrong digests", "wrong-digest", _DIGEST, path=WEIGHTS),
    Fault("wrong sizes", "wrong-size", "bytes", path=WEIGHTS),
    Fault("HTTP 401", 401, "HTTP 401|gated"),
    Fault("HTTP 403", 403, "HTTP 403|gated"),
    Fault("HTTP 404", 404, "has no acme/tiny"),
    *_statuses((202, 429, 500, 503)),
    Fault("everything reset", "reset", "does not answer", path="/*"),
)
SILENT = ("slow", "hang", "stall")
PASSING = ("flip", "truncate", "stall", "hang", "reset", "html", "empty", 202, 429, 500, 503)


@dataclass(frozen=True)
class Case:
    """where: files or listings. alone: without a healthy hub next in order. once: it strikes but once."""

    where: str
    fault: Fault
    protocol: str
    alone: bool
    once: bool = False

    def __str__(self) -> str:
        how = "once" if self.once else "alone" if self.alone else "next"
        return f"{self.where}-{self.fault.name}-{self.protocol}-{how}"


FAULTS = {"files": IN_FILES, "listings": IN_LISTINGS}
CASES = tuple(
    Case(where, fault, protocol, alone, once)
    for where, faults in FAULTS.items()
    for fault, protocol, (alone, once) in product(faults, NEXT, ((True, False), (False, False), (True, True)))
    if not once or (fault.kind in PASSING and fault.path is None)
)


@dataclass(frozen=True)
class Outcome:
    """What came of a case. content: of the release's folder, None if there is none. shown: files under a
    final name. sound: whether every blob is what its name says."""

    content: Mapping[str, bytes] | None
    error: ZooError | None
    shown: int
    sound: bool

    @property
    def is_right(self) -> bool:
        return self.content == FILES

    @property
    def in_short(self) -> str:
        if self.error is not None:
            return f"exit {self.error.exit_code}"
        return "right" if self.is_right else "wrong"


class Bench:
    """A faulty and a healthy hub, each speaking every protocol, and one empty home after the other."""

    def __init__(self, folder: Path, overlay: Path, stack: ExitStack) -> None:
        write(folder / "hub" / REPO, FILES)
        self._folder, self._overlay, self._number = folder, overlay, count()
        self._faulty = stack.enter_context(FaultyHub(folder / "hub"))
        self._healthy = stack.enter_context(FaultyHub(folder / "hub"))

    def run(self, case: Case) -> Outcome:
        if case.fault.kind not in SILENT:
            return self._try(case, PATIENCE)
        if case.alone and not case.once:
            return self._try(case, short_silence(1.0))
        for silence in silences(3.0):
            outcome = self._try(case, silence)
            if not isinstance(outcome.error, NetworkError):
                break
        return outcome

    def _try(self, case: Case, silence: float) -> Outcome:
        home = self._folder / f"home-{next(self._number)}"
        self._faulty.clear()
        usual = WEIGHTS if case.where == "files" else LISTINGS[case.protocol]
        times = 1 if case.once else None
        self._faulty.fault(case.fault.kind, case.fault.path or usual, times=times, **case.fault.how)
        settings = self._settings(case, home, silence)
        source = case.protocol if case.alone else "auto"
        try:
            done = download("tiny", settings=settings, source=source)
        except ZooError as error:
            return Outcome(None, error, len(shown(home)), is_sound(home))
        return Outcome(content_below(done.path), None, len(shown(home)), is_sound(home))

    def _settings(self, case: Case, home: Path, silence: float) -> Settings:
        environ = {
            "HOME": str(self._folder),
            "INTERNLM_ZOO_HOME": str(home),
            "INTERNLM_ZOO_REGISTRY": str(self._overlay),
            "INTERNLM_ZOO_SOURCES": f"{case.protocol},{NEXT[case.protocol]}",
            "INTERNLM_ZOO_TIMEOUT": str(silence),
            "INTERNLM_ZOO_TRIES": "2",
        }
        for protocol, (variable, below) in ENDPOINTS.items():
            hub = self._faulty if protocol == case.protocol else self._healthy
            environ[variable] = hub.url + below
        return Settings.from_environment(environ)


def outcomes(cases: Sequence[Case] = CASES) -> dict[Case, Outcome]:
    """Run them all; about as long as the slowest dozen. Who is asked again is asked soon."""
    mine = threading.local()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.enter_context(patch("internlm_zoo.net.retry_policy.RetryPolicy.pause", soon))
        # A hub that was silent for longer is not asked again, and on a busy machine silences are long.
        stack.enter_context(patch("internlm_zoo.sources.hub_client._SOON", PATIENCE))
        opening, numbers = threading.Lock(), count()
        overlay = Path(folder) / "overlay.yaml"
        overlay.write_text(OVERLAY)

        def run(case: Case) -> Outcome:
            if not hasattr(mine, "bench"):
                with opening:
                    mine.bench = Bench(Path(folder) / str(next(numbers)), overlay, stack)
            return mine.bench.run(case)

        # The slow ones first, so that none is left to wait for at the end.
        order = sorted(cases, key=lambda case: case.fault.kind not in SILENT)
        with ThreadPoolExecutor(WORKERS) as pool:
            got = dict(zip(order, pool.map(run, order), strict=True))
    return {case: got[case] for case in cases}


def said(outcome: Outcome) -> str:
    """The refusal, without what differs from run to run and from hub to hub."""
    assert outcome.error is not None
    text = re.sub(r"127\.0\.0\.\d(:\d+)?", "the hub", outcome.error.what)
    text = re.sub(rf"\b({'|'.join(NEXT)}|disk)\b( at the hub)?", "the hub", text)
    text = re.sub(r"\b[0-9a-f]{40,64}\b", "…", text)
    text = re.sub(rf"{REPO}( at master)?", "ORG/REPO", text)
    return re.sub(r"(?<!HTTP )\b\d[\d,.]*\b", "N", text)


def table(got: Mapping[Case, Outcome]) -> str:
    """All outcomes in Markdown."""
    return "\n".join(line for where, faults in FAULTS.items() for line in _section(where, faults, got))


def _section(where: str, faults: Sequence[Fault], got: Mapping[Case, Outcome]) -> Iterator[str]:
    heads = ["fault", *TITLES.values(), "with a next source", "struck once", "refused with the words"]
    yield from (f"## In the {where}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|")
    for fault in faults:
        of_it = {case: outcome for case, outcome in got.items() if case.fault is fault}
        alone, following, once = (
            [outcome for case, outcome in of_it.items() if (case.alone, case.once) == column]
            for column in ((True, False), (False, False), (True, True))
        )
        words = dict.fromkeys(said(outcome) for outcome in alone if outcome.error)
        cells = [fault.name, *(outcome.in_short for outcome in alone), _together(following), _together(once)]
        yield f"| {' | '.join([*cells, '; '.join(words)])} |"
    yield ""


def _together(outcomes: Sequence[Outcome]) -> str:
    """What the protocols have in common, or each in turn."""
    return " / ".join(dict.fromkeys(outcome.in_short for outcome in outcomes))


def shown(home: Path) -> list[Path]:
    return [path for path in home.glob("releases/**/*") if not path.is_dir()]


def is_sound(home: Path) -> bool:
    return all(sha256(blob.read_bytes()) == blob.name for blob in home.glob("blobs/sha256/*/*"))

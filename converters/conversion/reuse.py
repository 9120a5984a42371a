"""Whether a target that is there already is what a conversion would make: then it is not made again.

Held against its conversion.json: the options, what the tables say of source and target, and the digests of
the source's files. The small files are made anew and compared; the weights are there with their sizes, or,
where no digest was recorded, are held against the source's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from blake3 import blake3

from converters.containers.names import RECORD
from converters.conversion.evidence import prove
from converters.errors import UnsupportedError, UsageError, ZooError, parameter
from converters.formats.bytesource import hex_of
from converters.formats.folder import Folder, LocalFolder
from converters.planning.plan import Plan
from converters.progress import Progress
from converters.record import record
from converters.record.expected import stated_in
from converters.source.checkpoint import Checkpoint
from converters.streaming.stream import in_parallel

_FIX = "choose another target, or replace it with `force=True`"
# Where in a record it stands, and what to call it.
_STATED = (
    (("tool",), "the program"),
    (("source", "layout"), "the source's layout"),
    (("source", "tp"), "the source's tensor-parallel ranks"),
    (("source", "pp"), "the source's pipeline stages"),
    (("source", "dtype"), "the source's element type"),
    (("target", "layout"), "the layout"),
    (("target", "dtype"), "the element type"),
    (("target", "files"), "the list of weight files"),
    (("dropped",), "what was left out"),
)


def held_against(
    plan: Plan, target: Path, made: Path, model: str | None, workers: int | None, progress: Progress
) -> Mapping[str, str]:
    """The fingerprints of a target that is what the plan would make of the same source.

    made: a directory with all but the weights, made by the plan. model: what it would be called now. Raises
    UsageError saying what differs.
    """
    folder = LocalFolder(target)
    then = _recorded(folder)
    progress.note("the target is there already: it is held against the source and these options")
    try:
        differences = _differences(plan, folder, LocalFolder(made), then, workers) or [*_name(then, model)]
    except (LookupError, TypeError, ValueError, AttributeError):
        differences = [f"its {RECORD} is not one that this program wrote"]
    plan.source.folder.confirm()
    if differences:
        raise _other(folder, "; ".join(differences))
    if _digested(then):
        folder.confirm()
        return dict(then["fingerprint"]["tensors"])
    return _proved(plan, folder, workers, progress)


def _other(folder: LocalFolder, what: str) -> UsageError:
    return UsageError(f"the target exists and is not empty: {what}", folder.name, _FIX)


def _recorded(folder: LocalFolder) -> Mapping[str, Any]:
    """Its record, as far as it is looked at here."""
    try:
        return stated_in(folder)[0]
    except UnsupportedError as error:
        raise UnsupportedError(error.what, error.where, f"update internlm-zoo, or {_FIX}") from error
    except (ZooError, NotADirectoryError) as error:
        raise UsageError("the target exists and is not empty", folder.name, _FIX) from error


def _differences(
    plan: Plan, target: LocalFolder, made: LocalFolder, then: Mapping[str, Any], workers: int | None
) -> list[str]:
    """Of the first kind that has any; the dearest to look at comes last."""
    now = json.loads(json.dumps(record.stated(plan)))
    return (
        [*_options(now["options"], then["options"])]
        or [*_statements(now, then)]
        or [*_others(target, made, then)]
        or [*_damages(target.path), *_headers(plan, target)]
        or [*_inputs(plan.source, then, workers)]
    )


def _options(now: Mapping[str, Any], then: Mapping[str, Any]) -> Iterator[str]:
    for name, value in now.items():
        if name in then and then[name] != value:
            yield f"it was made {_asked(name, then[name])}, not {_asked(name, value)}"


def _asked(name: str, value: Any) -> str:
    """As who asked for it wrote it."""
    if not value:
        return f"without `{name}`"
    return f"with {parameter(name, _short(value) if isinstance(value, str) else value)}"


def _statements(now: Mapping[str, Any], then: Mapping[str, Any]) -> Iterator[str]:
    for place, name in _STATED:
        yield from _change(name, _at(then, place), _at(now, place))
    for name, value in now["source"]["choices"].items():
        yield from _change(f"{name} of the source", then["source"]["choices"].get(name), value)
    for name, fact in now["facts"].items():
        yield from _change(name, then["facts"].get(name, {}).get("value"), fact["value"])


def _name(then: Mapping[str, Any], now: str | None) -> Iterator[str]:
    """Records of before there were names say none of anything."""
    if "model" in then:
        yield from _change("the model", (then["model"] or {}).get("name"), now)


def _change(name: str, before: object, now: object) -> Iterator[str]:
    if before != now:
        yield f"{name} was {_short(before)}, and is {_short(now)}"


def _at(document: Any, place: Sequence[str]) -> object:
    for name in place:
        document = document.get(name)
    return document


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _others(target: LocalFolder, made: LocalFolder, then: Mapping[str, Any]) -> Iterator[str]:
    """The small files, and what of them is not as it would be made now."""
    there = set(target.names())
    before = {file["name"] for file in then["target"]["other_files"]}
    for name in made.names():
        if name not in there or record.entry(target, name) != record.entry(made, name):
            yield f"its {name} is not the one that would be made now"
    for name in sorted(before - set(made.names())):
        yield f"it has a {name}, which would not be made now"


def _damages(target: Path) -> Iterator[str]:
    found = record.check(target, quick=True)
    yield from (f"{name} is missing" for name in found.missing)
    yield from (f"{name}: {what}" for name, what in found.wrong)


def _headers(plan: Plan, target: LocalFolder) -> Iterator[str]:
    """A header may hold a tokenizer, which nothing else here looks at."""
    for file in plan.files if plan.layout.container.self_contained else ():
        with closing(target.open(file.name)) as stream:
            if any(stream.read(at, len(data)) != data for at, data in file.layout.fixed):
                yield f"its {file.name} begins otherwise than it would now: config or tokenizer differ"


def _inputs(source: Checkpoint, then: Mapping[str, Any], workers: int | None) -> Iterator[str]:
    """What is another in the source, by the digests that were recorded."""
    recorded = {file["name"]: file for file in then["source"]["files"]}
    if set(source.files) != set(recorded):
        yield "it was made from other files"
    elif _digested(then):
        looked = in_parallel(partial(_changed, source.folder, recorded), source.files, workers)
        yield from (what for what in looked if what)


def _digested(then: Mapping[str, Any]) -> bool:
    return all("sha256" in file or file.get("blake3") for file in then["source"]["files"])


def _changed(source: Folder, recorded: Mapping[str, Mapping[str, Any]], name: str) -> str | None:
    """Never by size alone: by a digest that is known, or else by one that is computed now, which costs more
    than it saves where every byte would have to come from a hub."""
    then, stated = recorded[name], source.known_sha256(name)
    with closing(source.open(name)) as file:
        if file.size != then["size"]:
            return f"{name} of the source had {then['size']:,} bytes, and has {file.size:,}"
        if "sha256" in then and stated is not None:
            same = stated == then["sha256"]
        elif source.in_order:
            return f"nothing but reading it says whether {name} of the source is the same"
        elif "sha256" in then:
            same = hex_of(file, hashlib.sha256()) == then["sha256"]
        else:
            same = hex_of(file, blake3()) == then["blake3"]
    return None if same else f"{name} of the source is another"


def _proved(plan: Plan, folder: LocalFolder, workers: int | None, progress: Progress) -> Mapping[str, str]:
    """Its record has no digests of the source, so the weights of both are read."""
    if plan.source.folder.in_order:
        raise _other(folder, "nothing but reading it all says whether it was made from what the hub has now")
    try:
        return prove(plan, {}, folder.path, workers, progress)
    except ZooError as error:
        plan.source.folder.confirm()
        raise _other(folder, error.what) from error

"""Reads a mirror file, or names everything that is wrong with it at once, each mistake with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase, translate
from itertools import chain, islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pydantic import ValidationError

from converters.errors import LINES
from internlm_zoo.downloads.candidates import AUTO
from internlm_zoo.downloads.selection import LONGEST
from internlm_zoo.errors import NotFoundError, UnsupportedError, UsageError
from internlm_zoo.fs.homes import path_of
from internlm_zoo.mirror.config import MirrorFile
from internlm_zoo.mirror.entries import MirrorEntries, MirrorEntry, wanted
from internlm_zoo.registry import Registry, RegistryError
from internlm_zoo.registry.document import Problem, Step, data, place, read
from internlm_zoo.registry.explain import sentence
from internlm_zoo.registry.safe_yaml import YamlLimits
from internlm_zoo.registry.suggestions import near
from internlm_zoo.settings import Settings
from internlm_zoo.sources.paths import check_path

Finding = tuple[tuple[Step, ...], str]

_LIMITS = YamlLimits(bytes=1 << 20, nodes=20_000)
_ONE_LETTER = 1  # a drive, not a URL scheme
_NOTHING = "(?!)"  # what fnmatch makes of [z-a]
_WILDCARDS = str.maketrans("", "", "*?[]!")


class MirrorFileError(RegistryError):
    """All that is wrong with a mirror file, a line for each mistake."""

    def __init__(self, problems: list[Problem]) -> None:
        problems = sorted(problems, key=lambda problem: problem.place.line)
        super().__init__(problems)
        self.what = "\n  ".join(map(str, problems[:LINES]))

    def __str__(self) -> str:
        return self.what

    @property
    def lines(self) -> tuple[str, ...]:
        first, *more = map(str, self.problems[:LINES])
        return (first, *(f"  {problem}" for problem in more))


def read_mirror_file(
    path: Path, registry: Registry, settings: Settings, source: str = AUTO
) -> tuple[MirrorFile, MirrorEntries]:
    """The file, and what it asks for. source: see RunOptions. Raises NotFoundError if there is no such file
    or hub, MirrorFileError for mistakes in it, UnsupportedError for a destination that is not a directory."""
    if path.is_dir():
        fix = f"name a file, as {path / 'mirror.yaml'}"
        raise UsageError("this is a folder, not a mirror file", path, fix)
    if not path.exists():
        fix = "write one: it names a destination and models (docs/mirror.md)"
        raise NotFoundError("there is no such mirror file", path, fix)
    tree = read(path, "mirror file", "destination, models, ...", _LIMITS)
    plain = data(tree)
    findings = list(islice(chain(_malformed(plain), _dangling(plain, registry)), LINES))
    mirror = _sound(plain, {str(steps[0]) for steps, _ in findings if steps})
    found = wanted(mirror, registry, settings, source) if mirror else None
    if mirror and found:
        findings += _unfit(mirror, found)
    if findings or mirror is None or found is None:
        raise MirrorFileError([Problem(place(tree, steps), message) for steps, message in findings])
    where = str(place(tree, ("destination",)))
    return mirror.model_copy(
        update={"destination": _directory(mirror.destination, path, where, settings.environ)}
    ), found


def _malformed(plain: Mapping[str, Any]) -> Iterator[Finding]:
    schema = MirrorFile.model_json_schema()
    try:
        MirrorFile.model_validate(plain)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        inside = {found["loc"][:-1] for found in errors if found["loc"]}
        for found in (it for it in errors if it["type"] != "too_short" or it["loc"] not in inside):
            yield found["loc"], sentence(found, schema).replace("the registry", "the mirror file", 1)


def _sound(plain: Mapping[str, Any], bad: set[str]) -> MirrorFile | None:
    """The file without the fields that are wrong, to find what is wrong with the others; None if those are
    that say what is wanted."""
    if bad & {"models", "formats", "hubs"}:
        return None
    good = {name: value for name, value in plain.items() if name not in bad}
    return MirrorFile.model_validate({"destination": "unknown", **good})


def _dangling(plain: Mapping[str, Any], registry: Registry) -> Iterator[Finding]:
    """Names that lead nowhere, globs that are none, and what is said twice."""
    for number, pattern in _texts(plain, "models"):
        if not any(fnmatchcase(name, pattern) for name in registry.models):
            yield ("models", number), _no_model(pattern, registry)
    for number, hub in _texts(plain, "hubs"):
        if hub not in registry.hubs:
            yield ("hubs", number), f"there is no hub '{hub}'; known: {', '.join(registry.hubs)}"
        elif registry.hubs[hub].protocol is None:
            yield ("hubs", number), f"nothing can be downloaded from '{hub}'"
    for field in ("include", "exclude"):
        for number, glob in _texts(plain, field):
            if what := _bad_glob(glob):
                yield (field, number), f"{glob!r} matches no file: {what}"
    for field in ("models", "formats", "hubs", "include", "exclude"):
        met: set[str] = set()
        for number, text in _texts(plain, field):
            if text in met:
                yield (field, number), f"{field} names {text!r} twice"
            met.add(text)


def _texts(plain: Mapping[str, Any], field: str) -> Iterator[tuple[int, str]]:
    """The texts of a list, with their places in it; what else is there is found elsewhere."""
    listed = plain.get(field)
    for number, text in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(text, str) and 0 < len(text) <= LONGEST:
            yield number, text


def _bad_glob(glob: str) -> str | None:
    """Why a glob over the paths inside a release cannot match."""
    try:
        pattern = translate(glob)
        re.compile(pattern)
    except re.error as error:
        return f"{error.msg} in its brackets"
    if _NOTHING in pattern:
        return "a range in its brackets runs backwards"
    if glob.startswith(("/", "./", "../")) or "\\" in glob or "//" in glob:
        return "paths start inside the release, without a slash, and their folders end with /"
    return "a [ is not closed" if _open(glob) else None


def _open(glob: str) -> bool:
    """Whether a bracket is open at the end; fnmatch would take it for itself."""
    rest = re.sub(r"\[!?\]?[^\]]*\]", "", glob)
    return "[" in rest


def _unfit(mirror: MirrorFile, found: MirrorEntries) -> Iterator[Finding]:
    """What the mirror file asks for and cannot have: models named in full of which no hub has a release, and
    two releases in one folder."""
    for number, name in enumerate(mirror.models):
        if name in found.left_out:
            formats = " or ".join(mirror.formats)
            yield ("models", number), f"{name} has no release in {formats} format that can be copied"
    by_path: dict[str, MirrorEntry] = {}
    for entry in found.entries:
        check_path(entry.path)
        other = by_path.setdefault(entry.path.casefold(), entry)
        if other is not entry:
            both = f"{other.model} ({other.format}) and {entry.model} ({entry.format})"
            yield ("models", _number(mirror, entry.model)), f"{both} would both lie in {entry.path}"


def _number(mirror: MirrorFile, model: str) -> int:
    return next(number for number, pattern in enumerate(mirror.models) if fnmatchcase(model, pattern))


def _directory(destination: str, file: Path, where: str, environ: Mapping[str, str]) -> str:
    try:
        parts = urlsplit(destination)
    except ValueError as error:  # half an IPv6 address
        raise UsageError("destination is neither a path nor a file:// URL", where) from error
    if parts.scheme == "file":
        return url2pathname(parts.path)
    if len(parts.scheme) > _ONE_LETTER:
        what = f"destination: a mirror goes to a directory, not to {parts.scheme}://"
        raise UnsupportedError(what, where, "name a directory")
    return str(file.absolute().parent / path_of(destination, environ))


def _no_model(pattern: str, registry: Registry) -> str:
    guesses = near(pattern.translate(_WILDCARDS), registry.models, 3)
    hint = f"did you mean {' or '.join(guesses)}?" if guesses else "`internlm-zoo list` shows them all"
    return f"no model is called '{pattern}'; {hint}"

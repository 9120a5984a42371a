"""`mirror.yaml`: what a mirror holds and where it lies. Checked like the registry: errors name file, line,
field.

destination: mirror                # a directory, relative to this file
models: [internlm-chat-*, internlm2-7b]
formats: [hf]                      # default: hf and original
hubs: [modelscope, huggingface]    # who is asked, in this order; default: the registry's
prune: true                        # remove what is no longer chosen; default: false
max_delete: 25%                    # an apply that would remove more stops; files, or a percentage
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pydantic import Field, PlainValidator, ValidationError, WithJsonSchema

from internlm_zoo.errors import NotFoundError, UnsupportedError
from internlm_zoo.mirror.limit import DEFAULT, Limit
from internlm_zoo.registry import Registry, RegistryError
from internlm_zoo.registry.document import Problem, Step, data, place, read
from internlm_zoo.registry.entry import Entry, Text
from internlm_zoo.registry.explain import sentence
from internlm_zoo.registry.naming import near
from internlm_zoo.registry.release import Format

_ONE_LETTER = 1  # a drive, not a URL scheme
_WILDCARDS = str.maketrans("", "", "*?[]!")


class MirrorFile(Entry):
    """destination: as written; `read_mirror_file` makes it an absolute path. models: names and globs."""

    destination: Text
    models: Annotated[tuple[Text, ...], Field(min_length=1)]
    formats: Annotated[tuple[Format, ...], Field(min_length=1)] = ("hf", "original")
    hubs: tuple[Text, ...] = ()
    prune: bool = False
    max_delete: Annotated[
        Limit, PlainValidator(Limit.parse), WithJsonSchema({"type": ["integer", "string"]})
    ] = DEFAULT


def read_mirror_file(path: Path, registry: Registry) -> MirrorFile:
    """Raises NotFoundError if there is no such file, RegistryError for a mistake in it, UnsupportedError for
    a destination that is not a directory."""
    if not path.is_file():
        fix = "write one: it names a destination and models (docs/mirror.md)"
        raise NotFoundError("there is no such mirror file", path, fix)
    tree = read(path)
    try:
        mirror = MirrorFile.model_validate(data(tree))
    except ValidationError as error:
        schema = MirrorFile.model_json_schema()
        found = [(it["loc"], sentence(it, schema)) for it in error.errors(include_url=False)]
        raise RegistryError([Problem(place(tree, at), _of_this_file(text)) for at, text in found]) from error
    problems = [Problem(place(tree, steps), message) for steps, message in _dangling(mirror, registry)]
    if problems:
        raise RegistryError(problems)
    where = str(place(tree, ("destination",)))
    return mirror.model_copy(update={"destination": _directory(mirror.destination, path, where)})


def chosen(mirror: MirrorFile, registry: Registry) -> list[str]:
    """The models that the names and globs mean, in registry order."""
    return [name for name in registry.models if any(fnmatchcase(name, pattern) for pattern in mirror.models)]


def _of_this_file(message: str) -> str:
    return message.replace("the registry", "the mirror file", 1)


def _directory(destination: str, file: Path, where: str) -> str:
    parts = urlsplit(destination)
    if parts.scheme == "file":
        return url2pathname(parts.path)
    if len(parts.scheme) > _ONE_LETTER:
        what = f"destination: a mirror goes to a directory, not to {parts.scheme}://"
        raise UnsupportedError(what, where, "name a directory")
    return str(file.absolute().parent / Path(destination).expanduser())


def _dangling(mirror: MirrorFile, registry: Registry) -> Iterator[tuple[tuple[Step, ...], str]]:
    for number, pattern in enumerate(mirror.models):
        if not any(fnmatchcase(name, pattern) for name in registry.models):
            yield ("models", number), _no_model(pattern, registry)
    for number, hub in enumerate(mirror.hubs):
        if hub not in registry.hubs:
            yield ("hubs", number), f"there is no hub '{hub}'; known: {', '.join(registry.hubs)}"
        elif registry.hubs[hub].protocol is None:
            yield ("hubs", number), f"nothing can be downloaded from '{hub}'"


def _no_model(pattern: str, registry: Registry) -> str:
    guesses = near(pattern.translate(_WILDCARDS), registry.models, 3)
    hint = f"did you mean {' or '.join(guesses)}?" if guesses else "`internlm-zoo list` shows them all"
    return f"no model is called '{pattern}'; {hint}"

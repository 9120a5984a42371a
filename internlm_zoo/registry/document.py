"""A YAML file as nodes that remember the file and line they came from, so that an error can say where.

Merging overlays works on these nodes too: the file and line of every value survive it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from internlm_zoo.errors import UsageError
from internlm_zoo.fs.user_files import content_given
from internlm_zoo.registry.safe_yaml import YamlLimits, compose

Step = str | int
Finding = tuple[tuple[Step, ...], str]
"""What is wrong, with the path of where."""


@dataclass(frozen=True)
class Place:
    """A line of a file. line counts from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a registry file, and where."""

    place: Place
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class RegistryError(UsageError):
    """A registry file that cannot be used. problems: all that is wrong with it, in file order."""

    def __init__(self, problems: Sequence[Problem], fix: str | None = None) -> None:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0].message}{more}", str(problems[0].place), fix)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


OF_A_PERSON = YamlLimits(bytes=4 << 20, nodes=50_000)
"""The shipped registry has 90 kB and 3,000 nodes."""


def read(
    path: Path,
    kind: str = "registry file",
    holds: str = "hubs, families, models",
    limits: YamlLimits = OF_A_PERSON,
) -> MappingNode:
    """The root of a YAML file; an empty mapping for an empty file. kind, holds: what it is called, and has,
    in messages.

    Raises RegistryError for what is not YAML or not a mapping, for a doubled key and an anchor inside itself,
    and for what is beyond the limits (yamltext.py).
    """
    content = _content(path, kind, limits.bytes)
    try:
        root = compose(content, str(path), limits)
        problems = [] if root is None else list(_check(root))
    except yaml.YAMLError as error:
        raise RegistryError([_syntax(path, content, error)]) from error
    if problems:
        raise RegistryError(problems)
    if root is None:
        mark = yaml.Mark(str(path), 0, 0, 0, None, 0)
        return MappingNode("tag:yaml.org,2002:map", [], mark, mark)
    if not isinstance(root, MappingNode):
        raise RegistryError([Problem(_place(root), f"a {kind} is a mapping of {holds}")])
    return root


def _content(path: Path, kind: str, most: int) -> bytes:
    """One byte more than is read, if there are more. A pipe will do."""
    try:
        return content_given(path, most + 1)
    except (OSError, ValueError) as error:  # the latter for a zero byte in its name
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"the {kind} cannot be read: {reason}", path) from error


def data(node: Node) -> Any:
    """The plain Python data that the nodes stand for."""
    return SafeConstructor().construct_document(node)


def place(root: Node, path: Sequence[Step]) -> Place:
    """Where the value at this path stands, or as much of the path as is there."""
    node, at = root, root
    for step in path:
        found = _child(node, step)
        if found is None:
            break
        at, node = found
    return _place(at)


def places_outside(root: Node, file: str) -> dict[tuple[Step, ...], Place]:
    """The values that another file states, by path; a part wholly from one other file is one."""
    return dict(_outside(root, file, ())[1])


def _outside(
    node: Node, file: str, path: tuple[Step, ...]
) -> tuple[set[str], list[tuple[tuple[Step, ...], Place]]]:
    """The files that it is from, and the places in others."""
    inner = [_outside(child, file, (*path, step)) for step, child in children(node)]
    files = {name for names, _ in inner for name in names} or {node.start_mark.name}
    if len(files) == 1 and file not in files:
        return files, [(path, _place(node))]
    return files, [place for _, places in inner for place in places]


def children(node: Node) -> list[tuple[Step, Node]]:
    """The values in a mapping or list, each with its key or number."""
    if isinstance(node, MappingNode):
        return [(str(key.value), value) for key, value in node.value]
    if isinstance(node, SequenceNode):
        return list(enumerate(node.value))
    return []


def _child(node: Node, step: Step) -> tuple[Node, Node] | None:
    """The node whose line names the step (a key, a list item), and the value there."""
    if isinstance(node, MappingNode):
        return next(((key, value) for key, value in reversed(node.value) if key.value == step), None)
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None


def _check(node: Node) -> Iterator[Problem]:
    """Doubled keys; YAML merge keys are spread out on the way."""
    if isinstance(node, MappingNode):
        yield from _doubled(node)
        SafeConstructor().flatten_mapping(node)
        # What a mapping says itself comes after what it merges, and holds.
        plain = [pair for pair in node.value if isinstance(pair[0], ScalarNode)]
        node.value = list({key.value: (key, value) for key, value in plain}.values())
    for _, child in children(node):
        yield from _check(child)


def _doubled(node: MappingNode) -> Iterator[Problem]:
    seen: dict[str, Node] = {}
    for key, _ in node.value:
        if not isinstance(key, ScalarNode):
            yield Problem(_place(key), "a key is not plain text")
        elif key.value in seen and key.value != "<<":
            first = _place(seen[key.value]).line
            yield Problem(_place(key), f"'{key.value}' is there twice (first in line {first})")
        else:
            seen[key.value] = key


def _syntax(path: Path, content: bytes, error: yaml.YAMLError) -> Problem:
    if isinstance(error, ReaderError):
        line = content[: error.position].count(b"\n") + 1
        return Problem(Place(str(path), line), f"this is not text in UTF-8: {error.reason}")
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or "not YAML"
    at = f" (column {mark.column + 1})" if mark else ""
    return Problem(Place(str(path), mark.line + 1 if mark else 1), f"{reason}{at}")


def _place(node: Node) -> Place:
    return Place(node.start_mark.name, node.start_mark.line + 1)

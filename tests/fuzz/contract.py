"""What holds for every reader and every input, and how it is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from converters.errors import LINE, LINES, ZooError

CORPUS = Path(__file__).with_name("corpus")


@dataclass(frozen=True)
class Reader:
    """read: gives a value or raises ZooError. honest: inputs that it reads well, to be varied. is_json: they
    are varied as values too, not as bytes alone."""

    read: Callable[[bytes], object]
    honest: Callable[[], Iterable[bytes]]
    is_json: bool = False


def outcome(reader: Reader, data: bytes) -> tuple[str, str]:
    """`value`, or the name of the ZooError and what it says. Anything else that is raised is what fuzzing
    looks for."""
    try:
        reader.read(data)
    except ZooError as error:
        lines = str(error).split("\n")
        assert len(lines) <= 2 * LINES + 2, f"{len(lines)} lines"
        assert max(map(len, lines)) < 3 * LINE, "a line as long as its input"
        return type(error).__name__, str(error)
    return "value", ""


def kept(name: str) -> list[Path]:
    """The inputs of a reader in the corpus."""
    folder = CORPUS / name
    return sorted(folder.iterdir()) if folder.is_dir() else []

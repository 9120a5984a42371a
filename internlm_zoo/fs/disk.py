"""What a disk refuses, told with a way out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from converters.system.filesystem import writing
from internlm_zoo.errors import UsageError
from internlm_zoo.fs.homes import NOWHERE


@contextmanager
def disk(path: Path, elsewhere: str = "use another `local_dir` or INTERNLM_ZOO_HOME") -> Iterator[None]:
    """What the system refuses of writing there is an error with a way out; see `writing`."""
    if path.is_relative_to(NOWHERE):
        fix = "set INTERNLM_ZOO_HOME, or HOME, to a folder that you may write to"
        raise UsageError("this account has no home directory, so there is no place for the store", fix=fix)
    with writing(path, elsewhere):
        yield

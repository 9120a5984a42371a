"""A tensor that lies in several places of files, as one stretch of memory without being copied.

Memory is divided into pages, and so are files: a page of a file can be laid into any page of memory. So
stretches of files that follow one another in a tensor can be laid side by side where each is as far into its
page as it is into the tensor's; of pages that two of them share the bytes are read.
"""

from __future__ import annotations

from collections.abc import Sequence

from converters.formats.bytesource import LocalFile
from converters.geometry.stretches import Stretch
from converters.source.gather import Sources
from converters.system.mappings import PAGE, Memory


def shift_of(stretches: Sequence[Stretch], page: int = PAGE) -> int | None:
    """How far into a page of memory the tensor has to begin; None where the stretches call for several."""
    shifts = {(stretch.offset - stretch.start) % page for stretch in stretches}
    return shifts.pop() if len(shifts) == 1 else None


def splice(stretches: Sequence[Stretch], files: Sources) -> memoryview | None:
    """Their bytes, one after another; None where they cannot be laid side by side. What is written there
    changes no file. Raises what reading does."""
    shift, last = shift_of(stretches), stretches[-1]
    if shift is None:
        return None
    try:
        memory = Memory(shift + last.start + last.nbytes)
        for stretch in stretches:
            source = files[stretch.file]
            if not isinstance(source, LocalFile):
                return None
            _lay(stretch, source, memory, shift + stretch.start)
    except OSError:  # a file system that maps none, no memory
        return None
    return memory.view[shift:]


def _lay(stretch: Stretch, source: LocalFile, memory: Memory, start: int) -> None:
    stop = start + stretch.nbytes
    first, end = -(-start // PAGE) * PAGE, stop // PAGE * PAGE
    offset = stretch.offset - start  # of what would lie at the memory's start
    if first >= end:
        first = end = stop
    else:
        source.lay(memory, offset + first, first, end - first)
    for begin, until in ((start, first), (end, stop)):
        if begin < until:
            source.read_into(offset + begin, memory.view[begin:until])

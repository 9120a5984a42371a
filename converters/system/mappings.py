"""Memory of a process that files are laid into, page by page.

Facts: the man-pages of mmap(2), proc_sys_vm(5) and proc_pid_maps(5).
"""

from __future__ import annotations

import ctypes
import mmap
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

PAGE = mmap.ALLOCATIONGRANULARITY
_FIXED = 0x10  # MAP_FIXED of Linux, macOS and the BSDs, which Python does not name
_USUAL = 65530  # vm.max_map_count where nobody changed it
_abandoned: list[mmap.mmap] = []


class Memory:
    """nbytes of zeros, at the start of a page, each page of which exists from when it is first looked at; it
    goes when its last user does. Raises OSError where there is no room."""

    def __init__(self, nbytes: int) -> None:
        self._mapped = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self._mapped))

    @property
    def view(self) -> memoryview:
        return memoryview(self._mapped)

    def lay(self, file: int, offset: int, start: int, nbytes: int) -> None:
        """Have these bytes of a file (a descriptor) take the place of what is there. What is written to them
        changes no file. offset, start, nbytes: multiples of PAGE. Raises OSError."""
        prot, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | _FIXED
        place = self._start + start
        if _mmap()(place, nbytes, prot, flags, file, offset) != place:
            # Kernels may have taken away what was there, where another thread's memory may lie by now.
            _abandoned.append(self._mapped)
            raise OSError(ctypes.get_errno(), "mmap")


def can_lay() -> bool:
    """Whether this system lays files into memory at a place of ours."""
    return hasattr(mmap, "MAP_PRIVATE") and ctypes.sizeof(ctypes.c_void_p) == ctypes.sizeof(ctypes.c_int64)


def spare_mappings() -> int:
    """How many more this process may have, with half of all left to others."""
    most, used = _USUAL, 0
    with suppress(OSError, ValueError):
        most = int(Path("/proc/sys/vm/max_map_count").read_text())
    with suppress(OSError):
        used = Path("/proc/self/maps").read_bytes().count(b"\n")
    return most // 2 - used


@cache
def _mmap() -> Any:
    function = ctypes.CDLL(None, use_errno=True).mmap
    number = ctypes.c_int
    function.argtypes = ctypes.c_void_p, ctypes.c_size_t, number, number, number, ctypes.c_int64
    function.restype = ctypes.c_void_p
    return function

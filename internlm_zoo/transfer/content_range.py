"""Which part of a file an answer says it holds, and how long it says the file is.

Numbers of strangers: a size beyond what a file can have is a violation, whatever it is for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import urllib3

from converters.system.filesystem import room
from internlm_zoo.errors import OversizeError
from internlm_zoo.net.addresses import host_of
from internlm_zoo.net.statuses import Recovery
from internlm_zoo.transfer.failures import TransferFailure, violation

LARGEST = 2**63 - 1
"""Bytes: no file system has larger files, for offsets are signed numbers of 64 bits."""

_COUNT = "[0-9]{1,19}"  # what fits into the offset of a file
_CONTENT_RANGE = re.compile(f"bytes ({_COUNT})-({_COUNT})/({_COUNT}|\\*)")
_NO_BYTES = re.compile(f"bytes \\*/({_COUNT})")
_ETAG = re.compile("[\x20-\x7e\x80-\xff]{1,1024}")

Extent = tuple[int, int | None, int | None]


def extent(url: str, answer: urllib3.BaseHTTPResponse, start: int) -> Extent:
    """First byte, bytes in this answer, bytes of the whole file; None where it does not say. Raises
    TransferFailure where that is not what was asked for, from `start` on, or cannot be."""
    declared = answer.headers.get("Content-Length", "").strip()
    length = _possible(url, declared) if declared.isdecimal() else None
    if answer.status == 200:
        return 0, length, length
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
    if match is None:
        raise violation(url, "sends part of the file without saying which")
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else _possible(url, match[3])
    if first != start or last < first or (total is not None and last >= total):
        sent = f"{match[1]}-{match[2]}/{match[3]}"
        raise violation(url, f"sends bytes {sent} when asked for those from {start} on")
    if length is not None and length != last - first + 1:
        raise violation(url, f"says {length} bytes and sends {last - first + 1}")
    return first, last - first + 1, total


def end_of_file(headers: Mapping[str, str]) -> int | None:
    """How long the file is, by an answer that there is no such part of it; None where it does not say."""
    match = _NO_BYTES.fullmatch(headers.get("Content-Range", "").strip())
    return int(match[1]) if match else None


def etag_of(headers: Mapping[str, str]) -> str | None:
    """The ETag, if it is one that can be sent back."""
    etag = headers.get("ETag", "")
    return etag if _ETAG.fullmatch(etag) else None


def check_room(url: str, part: Path, name: str, needed: int) -> None:
    """That the disk of a partial file has room for what an answer says is to come: for a file that no listing
    says the size of. Raises TransferFailure."""
    free = room(part)
    if free is not None and needed > free:
        what = f"{host_of(url)} says that {name} has {needed:,} more bytes, and the disk has {free:,}"
        error = OversizeError(what, fix="make room, or choose files with `include`")
        raise TransferFailure(error, Recovery.GIVE_UP)


def _possible(url: str, digits: str) -> int:
    if len(digits.lstrip("0")) > len(str(LARGEST)) or int(digits) > LARGEST:
        raise violation(url, "says that there are more bytes than a file can have")
    return int(digits)

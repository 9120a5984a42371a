"""The directory of an uncompressed zip file: which entries there are and where their bytes lie.

`zipfile` reads the central directory (zip64 included); the offset of an entry's bytes is then taken from
its local header, and both must agree. Facts: PKWARE APPNOTE 4.3 to 4.5.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

from converters.errors import IntegrityError, UnsupportedError
from converters.formats.bytesource import ByteSource, read_alone
from converters.formats.placeholders import refuse_damaged
from converters.values import shown

LOCAL_HEADER = struct.Struct("<4s5H3L2H")
LOCAL_MAGIC = b"PK\x03\x04"
END = struct.Struct("<4s4H2LH")
END_MAGIC = b"PK\x05\x06"
MAX_DIRECTORY = 8 << 20
"""In bytes. A record of torch's has some 70, so that is the directory of 100,000 tensors."""
ENCRYPTED = 0x1  # bit 0 of the flags, as UTF8_NAME is bit 11
# A local header with its name and padding, as torch writes them, and a little more.
_HEADER = 256
UTF8_NAME = 0x800

# What zipfile raises for directories it cannot make sense of.
BAD_ZIP = (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, OverflowError, EOFError)


@dataclass(frozen=True)
class ZipMember:
    """The bytes of one entry: offset .. offset + size of the file, and their CRC-32 by the directory."""

    name: str
    offset: int
    size: int
    crc: int


def read_directory(source: ByteSource) -> Mapping[str, ZipMember]:
    """Entries by name without their first folder, which torch names after the file.

    Raises IntegrityError for a truncated, contradictory or overlapping directory, UnsupportedError for
    compressed or encrypted entries.
    """
    infos, end = _central_directory(source)
    source.prefetch([(info.header_offset, _HEADER) for info in infos])
    entries: dict[str, ZipMember] = {}
    # From the last on: each has to end before the one behind it begins.
    for info in sorted(infos, key=lambda info: info.header_offset, reverse=True):
        entry = _entry(source, info, end)
        end = info.header_offset
        if entries.setdefault(entry.name, entry) is not entry:
            raise IntegrityError(f"two entries are called {shown(entry.name)}", source.name)
    return entries


def root_of(source: ByteSource) -> str:
    """The first folder in it, which torch names after the file it saves to. Raises as `read_directory`."""
    infos, _ = _central_directory(source)
    return infos[0].orig_filename.partition("/")[0] if infos else ""


def ends_with_directory(source: ByteSource) -> bool:
    """Whether nothing follows the record that ends the directory, which readers look for from the end."""
    return source.size >= END.size and read_alone(source, source.size - END.size, 4) == END_MAGIC


def _central_directory(source: ByteSource) -> tuple[list[zipfile.ZipInfo], int]:
    """The directory's records, and where the directory starts."""
    try:
        with zipfile.ZipFile(_Cursor(source)) as archive:
            return archive.infolist(), archive.start_dir
    except BAD_ZIP as error:
        refuse_damaged(f"the zip directory at the end of it is missing or damaged ({error})", source.name)


def _entry(source: ByteSource, info: zipfile.ZipInfo, end: int) -> ZipMember:
    """Checks one record against its local header; its bytes must end before `end`."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & ENCRYPTED:
        what = f"the entry {shown(info.filename)} is compressed or encrypted, torch.save writes neither"
        raise UnsupportedError(what, source.name, "load it with torch and save it again")
    header = LOCAL_HEADER.unpack(source.read(info.header_offset, LOCAL_HEADER.size))
    magic, name_size, extra_size = header[0], header[-2], header[-1]
    name = source.read(info.header_offset + LOCAL_HEADER.size, name_size)
    offset = info.header_offset + LOCAL_HEADER.size + name_size + extra_size
    # As zipfile has decoded it.
    listed = info.orig_filename.encode("utf-8" if info.flag_bits & UTF8_NAME else "cp437")
    if magic != LOCAL_MAGIC or name != listed or offset + info.file_size > end:
        refuse_damaged(f"the entry {shown(info.filename)} is not where the directory says", source.name)
    return ZipMember(info.orig_filename.partition("/")[2], offset, info.file_size, info.CRC)


class _Cursor(io.RawIOBase):
    """A ByteSource as the seekable file that zipfile wants; refuses reads no directory needs."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._at = 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size}[whence]
        if at < 0:
            raise ValueError("an offset before the start of the file")
        self._at = at
        return at

    def read(self, size: int = -1) -> bytes:
        left = max(self._source.size - self._at, 0)
        size = left if size < 0 else min(size, left)
        if size > MAX_DIRECTORY:
            raise ValueError("a directory larger than any checkpoint's")
        data = read_alone(self._source, self._at, size)
        self._at += size
        return data

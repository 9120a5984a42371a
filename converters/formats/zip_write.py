"""Lays out an uncompressed zip file as torch.save does, before the entries' bytes are known.

Every entry starts at a multiple of 64 behind an `FB` extra field of padding and is followed by a data
descriptor; an entry of 4 GiB, or one that starts beyond, carries a zip64 field, and the directory ends in
zip64 records always. Facts: caffe2/serialize/inline_container.cc, miniz, PKWARE APPNOTE 4.3 to 4.5; the
bytes are those of torch 2.13.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from converters.formats.tensors import Patch
from converters.formats.zip_read import END, END_MAGIC, LOCAL_HEADER, LOCAL_MAGIC, UTF8_NAME

ALIGNMENT = 64  # kFieldAlignment of inline_container.h
LIMIT = 0xFFFFFFFF  # in a field of 32 bits: the number is in the zip64 field
MAX_ENTRIES = 0xFFFF  # likewise, in one of 16 bits

DESCRIPTOR_FOLLOWS = 0x8


@dataclass(frozen=True)
class ZipEntry:
    """One entry: its name, where its local header starts, where its bytes lie."""

    name: str
    header: int
    offset: int
    size: int

    @property
    def descriptor(self) -> int:
        """Where the data descriptor lies."""
        return self.offset + self.size

    @property
    def end(self) -> int:
        if self.size == 0:
            return self.descriptor
        return self.descriptor + (24 if self.zip64 else 16)

    @property
    def zip64(self) -> bool:
        return self.size >= LIMIT or self.header >= LIMIT


def place(name: str, header: int, size: int) -> ZipEntry:
    """The entry whose local header starts at `header`: its bytes come at the next multiple of ALIGNMENT."""
    bare = ZipEntry(name, header, 0, size)
    start = header + 30 + len(name.encode()) + len(_zip64_field(bare)) + 4
    return ZipEntry(name, header, -(-start // ALIGNMENT) * ALIGNMENT, size)


def local_header(entry: ZipEntry) -> Patch:
    name = entry.name.encode()
    zip64 = _zip64_field(entry)
    room = entry.offset - entry.header - 30 - len(name) - len(zip64)
    extra = zip64 + b"FB" + struct.pack("<H", room - 4) + b"Z" * (room - 4)
    fields = LOCAL_HEADER.pack(LOCAL_MAGIC, 0, _flags(entry), 0, 0, 0, 0, 0, 0, len(name), len(extra))
    return entry.header, fields + name + extra


def descriptor(entry: ZipEntry, crc: int) -> Patch:
    """What follows an entry's bytes; an empty entry has none."""
    form = "<4sLQQ" if entry.zip64 else "<4s3L"
    packed = struct.pack(form, b"PK\x07\x08", crc, entry.size, entry.size)
    return entry.descriptor, packed if entry.size else b""


def directory(entries: list[ZipEntry], crcs: list[int]) -> Patch:
    """The central directory and the records that close the file; it starts where the last entry ends."""
    start = entries[-1].end
    records = b"".join(_record(entry, crc) for entry, crc in zip(entries, crcs, strict=True))
    return start, records + _closing(start, len(records), len(entries))


def directory_size(entries: list[ZipEntry]) -> int:
    return sum(len(_record(entry, 0)) for entry in entries) + len(_closing(0, 0, 0))


def _flags(entry: ZipEntry) -> int:
    return UTF8_NAME | (DESCRIPTOR_FOLLOWS if entry.size else 0)


def _zip64_field(entry: ZipEntry) -> bytes:
    values = [entry.size] * 2 if entry.size >= LIMIT else []
    values += [entry.header] if entry.header >= LIMIT else []
    return struct.pack(f"<2H{len(values)}Q", 1, 8 * len(values), *values) if values else b""


def _record(entry: ZipEntry, crc: int) -> bytes:
    name, zip64 = entry.name.encode(), _zip64_field(entry)
    size = min(entry.size, LIMIT)
    sizes = (crc, size, size, len(name), len(zip64))
    header = min(entry.header, LIMIT)
    fields = struct.pack(
        "<4s6H3L5H2L", b"PK\x01\x02", 0, 0, _flags(entry), 0, 0, 0, *sizes, 0, 0, 0, 0, header
    )
    return fields + name + zip64


def _closing(start: int, size: int, count: int) -> bytes:
    # 44 bytes follow; made by version 3.0 on Unix (0x031E), version 4.5 reads it.
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 0x031E, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, start + size, 1)
    short_count = min(count, MAX_ENTRIES)
    end = END.pack(END_MAGIC, 0, 0, short_count, short_count, min(size, LIMIT), min(start, LIMIT), 0)
    return record + locator + end

"""torch zip files (`.pt`, `pytorch_model*.bin`): where each tensor's bytes lie, and how to lay out new ones.

Reading parses the zip directory and the pickle beside it (`pickles.py`) and turns every tensor into an
absolute offset and strides; the tensors' own bytes are not touched. Writing gives a `FileLayout` equal to
what torch.save writes, with the tensors' bytes left out and their CRCs filled in by `finalize`.
Format facts: torch/serialization.py and caffe2/serialize/inline_container.cc of torch 2.13.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from converters.errors import IntegrityError, UnsupportedError
from converters.formats import zip_write
from converters.formats.bytesource import ByteSource, opened, read_alone
from converters.formats.pickle_names import TensorRef
from converters.formats.pickle_write import dump_object, dump_tensors
from converters.formats.pickles import MAX_BYTES, loads
from converters.formats.placeholders import refuse_damaged, refuse_placeholder
from converters.formats.tensors import (
    ELEMENT_TYPES,
    FileLayout,
    Patch,
    Span,
    StoredTensor,
    TensorLike,
    is_name,
    nbytes,
)
from converters.formats.zip_read import LOCAL_MAGIC, ZipMember, read_directory
from converters.system.filesystem import write_whole
from converters.values import shown

ARCHIVE = "archive"
ID_NAME = ".data/serialization_id"
ID_SIZE = 40  # two numbers of 64 bits, 20 digits each

# Before torch 1.6: a bare pickle that starts with this magic number, or a tar file.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
TAR_MAGIC_AT, TAR_MAGIC = 257, b"ustar"

NESTS = ("model", "state_dict", "module", "model_state_dict")
"""Under which keys Megatron, Lightning, DeepSpeed and hand-written loops save a state dict."""


@dataclass(frozen=True)
class TorchFile:
    """A state dict: its tensors by key, in the file's order, and every value that is not a tensor. under: the
    key in the file's dict under which it lies, where it is not that dict itself."""

    tensors: Mapping[str, StoredTensor]
    others: Mapping[str, object]
    under: str | None = None


def read_index(source: ByteSource | str | os.PathLike[str]) -> TorchFile:
    """Locate every tensor of a state dict.

    Raises IntegrityError for a damaged, truncated or hostile file, UnsupportedError for a legacy or
    big-endian one, for globals no state dict needs, and for tensors below the top level.
    """
    with opened(source) as file:
        entries = _open_zip(file)
        content = _unpickle(file, entries)
        if not isinstance(content, dict):
            raise UnsupportedError(f"it holds a {type(content).__name__}, not a state dict", file.name)
        under = _nest(content)
        tensors, others = {}, {}
        for key, value in (content[under] if under else content).items():
            _check_key(key, file.name)
            if isinstance(value, TensorRef):
                tensors[key] = _locate(file.name, key, value, entries)
            else:
                others[key] = _without_tensors(value, key, file.name)
        return TorchFile(tensors, others, under)


def _nest(content: Mapping[object, object]) -> str | None:
    """The key of a dict of tensors beside a trainer's own state; None for a bare state dict."""
    if any(isinstance(value, TensorRef) for value in content.values()):
        return None
    for key in NESTS:
        inner = content.get(key)
        if isinstance(inner, dict) and any(isinstance(value, TensorRef) for value in inner.values()):
            return key
    return None


def read_object(source: ByteSource | str | os.PathLike[str]) -> object:
    """The value in a file that holds no tensors, such as model_config.pt; dtypes come as `DType`.

    Raises as `read_index` does.
    """
    with opened(source) as file:
        content = _unpickle(file, _open_zip(file))
        return _without_tensors(content, "", file.name)


def layout(tensors: Sequence[TensorLike]) -> FileLayout:
    """A file holding the OrderedDict of these tensors in this order, each in a storage of its own."""
    return _layout(dump_tensors(tensors), tensors)


def write_object(path: str | os.PathLike[str], value: object) -> None:
    """Write a value of dict, list, tuple, str, int, float, bool, None and DType; complete or not at all."""
    plan = _layout(dump_object(value), ())
    content = bytearray(plan.size)
    for offset, data in plan.fixed + plan.finalize({}):
        content[offset : offset + len(data)] = data
    write_whole(Path(path), bytes(content))


def _open_zip(source: ByteSource) -> Mapping[str, ZipMember]:
    refuse_placeholder(source)
    head = read_alone(source, 0, min(source.size, TAR_MAGIC_AT + len(TAR_MAGIC)))
    if head.startswith(LEGACY_MAGIC) or head[TAR_MAGIC_AT:] == TAR_MAGIC:
        what = "this is a torch file of the format before 1.6, which is not a zip file"
        fix = "load it with torch.load(weights_only=True) and save it again"
        raise UnsupportedError(what, source.name, fix)
    if not head.startswith(LOCAL_MAGIC):
        raise IntegrityError("this is not a torch file: it does not start as a zip file", source.name)
    return read_directory(source)


def _unpickle(source: ByteSource, entries: Mapping[str, ZipMember]) -> object:
    order = entries.get("byteorder")
    if order is not None and read_alone(source, order.offset, min(order.size, 8)) != b"little":
        raise UnsupportedError("its byteorder is not little-endian", source.name)
    entry = entries.get("data.pkl")
    if entry is None:
        raise IntegrityError("this zip file holds no data.pkl, so torch.save did not write it", source.name)
    if entry.size > MAX_BYTES:
        raise IntegrityError(f"its pickle of {entry.size} bytes is larger than any state dict's", source.name)
    data = read_alone(source, entry.offset, entry.size)
    if zlib.crc32(data) != entry.crc:
        refuse_damaged("data.pkl does not match its CRC", source.name)
    return loads(data, source.name)


def _check_key(key: object, where: str) -> None:
    if not isinstance(key, str) or not key.isprintable() or not is_name(key):
        raise IntegrityError(
            f"a key of the state dict is not the name of a tensor or a setting: {shown(key)}", where
        )


def _locate(file: str, key: str, tensor: TensorRef, entries: Mapping[str, ZipMember]) -> StoredTensor:
    storage = tensor.storage
    itemsize = ELEMENT_TYPES[storage.dtype].itemsize
    entry = entries.get(f"data/{storage.key}")
    if entry is None or storage.numel * itemsize > entry.size:
        found = "is missing" if entry is None else f"holds {entry.size} bytes"
        refuse_damaged(f"the storage of {key} {found} where {storage.numel * itemsize} are needed", file)
    offset = entry.offset + tensor.offset * itemsize
    return StoredTensor(file, key, storage.dtype, tensor.shape, offset, tensor.strides)


def _without_tensors(value: object, key: str, where: str) -> object:
    """The value, refused if a tensor hides in it: one that nobody would convert."""
    if isinstance(value, TensorRef):
        place = f"under {key!r}" if key else "where a config should be"
        raise UnsupportedError(f"it holds tensors {place}", where, "save the bare state dict: name to tensor")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for item in inner:
        _without_tensors(item, key, where)
    return value


def _layout(pickle: bytes, tensors: Sequence[TensorLike]) -> FileLayout:
    # What lies before and behind the storages, in the order in which torch.save writes it.
    before = {
        "data.pkl": pickle,
        ".format_version": b"1",
        ".storage_alignment": b"64",
        "byteorder": b"little",
    }
    after = {"version": b"3\n"}
    sizes = {
        **{name: len(data) for name, data in before.items()},
        **{f"data/{n}": nbytes(t.dtype, t.shape) for n, t in enumerate(tensors)},
        **{name: len(data) for name, data in after.items()},
        ID_NAME: ID_SIZE,
    }
    entries = _place(sizes)
    contents = before | after
    spans = tuple(Span(t.name, t.dtype, t.shape, entries[f"data/{n}"].offset) for n, t in enumerate(tensors))
    return FileLayout(
        size=entries[ID_NAME].end + zip_write.directory_size(list(entries.values())),
        spans=spans,
        fixed=_fixed(entries, contents),
        finalize=partial(_finalize, entries, contents, tuple(t.name for t in tensors)),
        needs_crc=True,
    )


def _place(sizes: Mapping[str, int]) -> dict[str, zip_write.ZipEntry]:
    entries: dict[str, zip_write.ZipEntry] = {}
    at = 0
    for name, size in sizes.items():
        entries[name] = zip_write.place(f"{ARCHIVE}/{name}", at, size)
        at = entries[name].end
    return entries


def _fixed(entries: Mapping[str, zip_write.ZipEntry], contents: Mapping[str, bytes]) -> tuple[Patch, ...]:
    headers = [zip_write.local_header(entry) for entry in entries.values()]
    bodies = [(entries[name].offset, data) for name, data in contents.items()]
    descriptors = [zip_write.descriptor(entries[name], zlib.crc32(data)) for name, data in contents.items()]
    return tuple(headers + bodies + descriptors)


def _finalize(
    entries: Mapping[str, zip_write.ZipEntry],
    contents: Mapping[str, bytes],
    names: Sequence[str],
    crcs: Mapping[str, int],
) -> tuple[Patch, ...]:
    """The data descriptors, the serialization id and the central directory."""
    known = {name: zlib.crc32(data) for name, data in contents.items()}
    known |= {f"data/{n}": crcs[name] for n, name in enumerate(names)}
    identity = _serialization_id(known)
    known[ID_NAME] = zlib.crc32(identity)
    descriptors = [
        zip_write.descriptor(entry, known[name]) for name, entry in entries.items() if name not in contents
    ]
    ordered = list(entries.values())
    directory = zip_write.directory(ordered, [known[name] for name in entries])
    return (*descriptors, (entries[ID_NAME].offset, identity), directory)


def _serialization_id(crcs: Mapping[str, int]) -> bytes:
    """40 digits that depend on the entries' names and contents, as torch's do (its digits vary by build)."""
    digest = hashlib.sha256(repr(sorted(crcs.items())).encode()).digest()
    halves = (int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little"))
    return b"".join(b"%020d" % half for half in halves)

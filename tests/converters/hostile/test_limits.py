"""What a reader takes at most: beyond it a sentence, before the memory and the time are spent."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from converters.errors import IntegrityError, ZooError
from converters.formats import gguf, safetensors, shards, torchzip
from converters.formats.tensors import MAX_NAME
from tests.converters.formats.test_hostile_pickles import archive

EMPTY = b'{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
PICKLE = b"\x80\x02"
OPCODES = 4_000_000


def header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def gguf_pair(value: bytes) -> bytes:
    """A file of one pair, called a."""
    return b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + value


def gguf_array(kind: int, count: int, content: bytes = b"") -> bytes:
    return gguf_pair(struct.pack("<IIQ", 9, kind, count) + content)


def gguf_alignment(kind: int, value: bytes) -> bytes:
    key = b"general.alignment"
    head = b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, len(key))
    return head + key + struct.pack("<I", kind) + value


def gguf_tensors(*names: bytes) -> bytes:
    """Tensors of four floats, all in the same place."""
    infos = (struct.pack("<Q", len(name)) + name + struct.pack("<IQIQ", 1, 4, 0, 0) for name in names)
    data = b"GGUF" + struct.pack("<IQQ", 3, len(names), 0) + b"".join(infos)
    return data + bytes(-len(data) % 32 + 16)


LONG = b"n" * (MAX_NAME + 1)
OVER: Mapping[str, tuple[Callable[[Path], object], bytes]] = {
    "tensors of safetensors": (
        safetensors.read_index,
        header(b"{" + b",".join(b'"%d":' % n + EMPTY for n in range(150_000)) + b"}"),
    ),
    "name of safetensors": (safetensors.read_index, header(b'{"' + LONG + b'":' + EMPTY + b"}")),
    "surrogate of safetensors": (safetensors.read_index, header(b'{"\\ud800":' + EMPTY + b"}")),
    "dims of safetensors": (
        safetensors.read_index,
        header(b'{"a":{"dtype":"U8","shape":[' + b"0," * 64 + b'0],"data_offsets":[0,0]}}'),
    ),
    "digits of safetensors": (
        safetensors.read_index,
        header(b'{"a":{"dtype":"U8","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,0]}}'),
    ),
    "files of an index": (
        shards.read_index,
        json.dumps({"weight_map": {f"t{n}": f"{n}.safetensors" for n in range(10_001)}}).encode(),
    ),
    "values of an index": (shards.read_index, b'{"weight_map":[' + b"0," * 4_000_000 + b"0]}"),
    "way out of an index": (shards.read_index, b'{"weight_map":{"a":"../../etc/passwd"}}'),
    "name of an index": (shards.read_index, b'{"weight_map":{"' + LONG + b'":"a.safetensors"}}'),
    "pairs of GGUF": (gguf.read_index, b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 63)),
    "tensors of GGUF": (gguf.read_index, b"GGUF" + struct.pack("<IQQ", 3, 1 << 63, 0)),
    "text of GGUF": (gguf.read_index, b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 60)),
    "array of GGUF": (gguf.read_index, gguf_array(0, 5_000_000, bytes(5_000_000))),
    "texts of GGUF": (gguf.read_index, gguf_array(8, 1 << 62)),
    "nested arrays of GGUF": (gguf.read_index, gguf_pair(struct.pack("<IIQ", 9, 9, 1) * 50_000)),
    "alignment 0 of GGUF": (gguf.read_index, gguf_alignment(4, struct.pack("<I", 0))),
    "alignment 3 of GGUF": (gguf.read_index, gguf_alignment(4, struct.pack("<I", 3))),
    "alignment in words of GGUF": (gguf.read_index, gguf_alignment(8, struct.pack("<Q", 1) + b"x")),
    "overlap of GGUF": (gguf.read_index, gguf_tensors(b"a", b"b")),
    "twice the same of GGUF": (gguf.read_index, gguf_tensors(b"a", b"a")),
    "name of GGUF": (gguf.read_index, gguf_tensors(LONG)),
}
PICKLES = {
    "opcodes": PICKLE + b"N" * 2_000_001 + b".",
    "half of a surrogate pair": PICKLE + b"X\x03\x00\x00\x00\xed\xa0\x80.",
    "key": PICKLE + b"}X" + struct.pack("<I", len(LONG)) + LONG + b"Ns.",
    "number of a million digits": PICKLE + b"L" + b"9" * 1_000_000 + b"L\n.",
}


def refusal(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(IntegrityError) as caught:
        read(path)
    assert len(str(caught.value)) < 1000
    return caught.value.what


@pytest.mark.parametrize("what", OVER)
def test_more_than_any_file_has_is_refused(tmp_path, what):
    read, data = OVER[what]
    (tmp_path / "file").write_bytes(data)
    refusal(read, tmp_path / "file")


@pytest.mark.parametrize("what", PICKLES)
def test_a_pickle_of_more_than_any_file_has_is_refused(tmp_path, what):
    refusal(torchzip.read_index, archive(tmp_path / "m.pt", PICKLES[what]))


def test_a_header_of_99_megabytes_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 99_000_000))
        file.truncate(100_000_000)
    assert "header has 99,000,000 bytes" in refusal(safetensors.read_index, tmp_path / "model.safetensors")


def test_a_directory_of_a_zip_file_with_200000_entries_is_refused(tmp_path):
    record = struct.Struct("<4s6H3L5H2L")
    name = b"archive/data/%06d"
    records = b"".join(
        record.pack(b"PK\x01\x02", *[0] * 9, len(name % 0), *[0] * 6) + name % n for n in range(200_000)
    )
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(records), 30, 0)
    (tmp_path / "m.pt").write_bytes(b"PK\x03\x04" + bytes(26) + records + end)
    assert "larger than any" in refusal(torchzip.read_index, tmp_path / "m.pt")


def test_a_zip_bomb_is_refused_as_compressed(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(10 << 20))
    with pytest.raises(ZooError, match="compressed"):
        torchzip.read_index(tmp_path / "m.pt")


BOMBS: Mapping[str, Callable[[], bytes]] = {
    "emoji.safetensors": lambda: header(
        b'{"__metadata__":{"a":"' + "\U0001f600".encode() + b"x" * 33_000_000 + b'"}}'
    ),
    "dicts.safetensors": lambda: header(b'{"t":[' + b'{"":0},' * 490_000 + b"{}]}"),
    "tensors.safetensors": lambda: header(
        b"{" + b",".join(b'"%d":' % n + EMPTY for n in range(140_000)) + b"}"
    ),
    "texts.gguf": lambda: gguf_array(8, 3_900_000, (struct.pack("<Q", 8) + b"abcdefgh") * 3_900_000),
    "arrays.gguf": lambda: gguf_array(9, 1_900_000, struct.pack("<IQ", 0, 0) * 1_900_000),
    "lists.pkl": lambda: PICKLE + b"](" + b"]" * OPCODES + b"e.",
    "dicts.pkl": lambda: PICKLE + b"](" + b"}" * OPCODES + b"e.",
    "most-dicts.pkl": lambda: PICKLE + b"](" + b"}" * 1_990_000 + b"e.",
    "tuples.pkl": lambda: PICKLE + b")" + b"\x85" * OPCODES + b".",
    "doubled.pkl": lambda: PICKLE + b")q\x00" + b"h\x00h\x00\x86q\x00" * (OPCODES // 7) + b".",
}
READ = """
import re, sys
from pathlib import Path
from converters.errors import ZooError
from converters.formats import gguf, safetensors, torchzip
READERS = {".safetensors": safetensors.read_index, ".gguf": gguf.read_index, ".pt": torchzip.read_object}
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        READERS[path.suffix](path)
    except ZooError:
        pass
print(int(re.search("VmHWM:\\s+([0-9]+)", Path("/proc/self/status").read_text())[1]) >> 10)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the system does not say what was the most"
)
def test_files_made_to_take_all_memory_take_less_than_half_a_gigabyte(tmp_path):
    for name, made in BOMBS.items():
        if name.endswith(".pkl"):
            archive(tmp_path / f"{name}.pt", made())
        else:
            (tmp_path / name).write_bytes(made())
    run = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 500

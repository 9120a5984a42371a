"""Pickles that would do harm: each is refused, and none runs."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.errors import IntegrityError, UnsupportedError, ZooError
from converters.formats import torchzip
from converters.formats.pickles import MAX_BYTES, loads

TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
EMPTY_HOOKS = b"ccollections\nOrderedDict\n)R"


def archive(path, pickled):
    """A torch zip file around any pickle, with one storage of 16 bytes."""
    with zipfile.ZipFile(path, "w") as file:
        for name, data in {
            "data.pkl": pickled,
            "byteorder": b"little",
            "data/0": bytes(16),
            "version": b"3\n",
        }.items():
            file.writestr(f"archive/{name}", data)
    return path


def number(value):
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value


def storage(numel=4, kind=b"ctorch\nFloatStorage\n", key=b"0", tag=b"storage"):
    return b"(" + text(tag) + kind + text(key) + text(b"cpu") + number(numel) + b"tQ"


def tensor(offset=0, shape=(4,), strides=(1,), numel=4, **kind):
    sizes = b"(" + b"".join(map(number, shape)) + b"t", b"(" + b"".join(map(number, strides)) + b"t"
    return (
        TENSOR
        + b"("
        + storage(numel, **kind)
        + number(offset)
        + sizes[0]
        + sizes[1]
        + b"\x89"
        + EMPTY_HOOKS
        + b"tR"
    )


def state(value):
    return b"\x80\x02}" + text(b"w") + value + b"s."


class Reduces:
    def __init__(self, function, *arguments):
        self.what = function, arguments

    def __reduce__(self):
        return self.what


def test_the_benign_form_of_these_pickles_is_read(tmp_path):
    assert torchzip.read_index(archive(tmp_path / "m.pt", state(tensor()))).tensors["w"].shape == (4,)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "function", [os.system, eval, exec, __import__, getattr, open, os.remove, pickle.loads, io.open]
)
def test_global_is_refused_by_name_and_never_called(tmp_path, function, protocol):
    witness = tmp_path / "witness"
    bomb = pickle.dumps({"w": Reduces(function, f"touch {witness}")}, protocol)
    with pytest.raises((UnsupportedError, IntegrityError)) as caught:
        torchzip.read_index(archive(tmp_path / "m.pt", bomb))
    assert not witness.exists() and caught.value.where == str(tmp_path / "m.pt")
    if protocol == 2:
        assert function.__name__ in caught.value.what


@pytest.mark.parametrize(
    "name",
    [
        "os system",
        "builtins eval",
        "torch load",
        "torch._utils  _rebuild_tensor_v2",
        "torch.hub load",
        "torch Tensor",
        "_codecs encode",
    ],
)
def test_names_near_the_allowed_ones_are_refused(tmp_path, name):
    module, _, attribute = name.rpartition(" ")
    bomb = b"\x80\x02c" + module.encode() + b"\n" + attribute.encode() + b"\n)R."
    with pytest.raises(UnsupportedError, match=attribute):
        loads(bomb, "m.pt")


@pytest.mark.parametrize(
    "opcode",
    [
        b"\x93",
        b"(i",
        b"(o",
        b"\x82\x01",
        b"\x95" + bytes(8),
        b"I1\n",
        b"S'a'\n",
        b"P0\n",
        b"l",
        b"d",
        b"0",
        b"2",
    ],
)
def test_opcodes_torch_save_never_writes_are_refused(opcode):
    with pytest.raises(ZooError):
        loads(b"\x80\x02" + opcode + b".", "m.pt")


@pytest.mark.parametrize(
    "pickled",
    [
        state(tensor(offset=1)),
        state(tensor(shape=(5,), numel=4)),
        state(tensor(shape=(2, 2), strides=(3, 1))),
        state(tensor(offset=2**62)),
        state(tensor(offset=-1)),
        state(tensor(shape=(2**62,), strides=(0,))),
        state(tensor(shape=(-4,))),
        state(tensor(strides=(-1,))),
        state(tensor(shape=(2, 2), strides=(1,))),
        state(tensor(shape=(1,) * 65, strides=(1,) * 65)),
        state(tensor(numel=2**62)),
        state(tensor(numel=-1)),
        state(tensor(key=b"../../etc/passwd")),
        state(tensor(key=b"1")),
        state(tensor(tag=b"module")),
        state(tensor(kind=b"ctorch\nbfloat16\n")),
        state(tensor(kind=b"ccollections\nOrderedDict\n")),
        state(text(b"0") + b"Q"),
        state(TENSOR + b")R"),
        state(TENSOR),
        state(storage()),
        state(TENSOR + b"(" + text(b"storage") + number(0) + b")))" + EMPTY_HOOKS + b"tR"),
    ],
)
def test_tensors_that_reach_outside_their_storage_or_make_no_sense_are_refused(tmp_path, pickled):
    with pytest.raises(IntegrityError):
        torchzip.read_index(archive(tmp_path / "m.pt", pickled))


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02}q\x00" + text(b"a") + b"h\x00s.",  # a dict within itself
        b"\x80\x02]q\x00h\x00a.",  # a list within itself
        b"\x80\x02)" + b"".join(b"q%cM\x00\x00\x86" % 0 for _ in range(1)) + b"\x85" * 5000 + b".",  # deep
        b"\x80\x02)" + b"q\x00h\x00\x86" * 60 + b".",  # doubled sixty times
        b"\x80\x02}" + b"]" + b"N" + b"s.",  # a list for a key
        b"\x80\x02}" + b")" + b"\x85" * 100000 + b"Ns.",  # a tuple too deep to hash for a key
        b"\x80\x02}" + text(b"a") + b"Ns" + text(b"a") + b"Ns.",  # a key set twice
        b"\x80\x02]" + text(b"a") + b"Ns.",  # items of a list
        b"\x80\x02}Na.",  # appending to a dict
        b"\x80\x02}}" + text(b"__class__") + b"Nsb.",  # attributes of a dict
        b"\x80\x02ccollections\nOrderedDict\n}" + text(b"x") + b"Nsb.",  # attributes of a global
        b"\x80\x02ccollections\nOrderedDict\n(((KKttR.",  # an OrderedDict of arguments
        b"\x80\x02ccollections\nOrderedDict\n.",  # a bare global
        *(b"\x80\x02" + rest for rest in (b"h\x07.", b"NR.", b"R.", b"t.", b".", b"NN.", b"N")),
        b"", b"\x80",
        b"\x80\x02r\xff\xff\xff\xff.",
        b"\x80\x02X\xff\xff\xff\xffabc.",
        b"\x80\x02(N(N\x86.",
    ],
)  # fmt: skip
def test_broken_and_endless_pickles_are_refused(pickled):
    with pytest.raises(ZooError):
        loads(pickled, "m.pt")


def test_memo_slot_of_four_billion_costs_nothing():
    assert loads(b"\x80\x02Nr\xff\xff\xff\xffj\xff\xff\xff\xff\x86.", "m.pt") == (None, None)


def test_oversized_pickle_is_refused_before_it_is_read():
    with pytest.raises(IntegrityError, match="larger"):
        loads(b"\x80\x02" + b"N" * MAX_BYTES, "m.pt")


@settings(max_examples=300)
@given(st.binary(max_size=60), st.integers(0, 400), st.integers(1, 8))
def test_mutated_pickles_give_plain_values_or_a_refusal(noise, at, drop):
    good = state(tensor())
    mutated = good[: at % len(good)] + noise + good[at % len(good) + drop :]
    with contextlib.suppress(ZooError):
        assert plain(loads(mutated, "m.pt"))


def plain(value):
    if isinstance(value, dict | list | tuple):
        return all(plain(item) for item in (value.values() if isinstance(value, dict) else value))
    return value is None or type(value).__name__ in ("str", "int", "float", "bool", "DType", "TensorRef")

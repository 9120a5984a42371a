"""Writes the pickles that torch.save would write for a state dict or a config, without torch.

Protocol 2, the same opcodes in the same order as CPython's pickler gives torch.save: `torch.load`,
`weights_only=True` included, cannot tell them apart. Facts: torch/_tensor.py (`_reduce_ex_internal`),
torch/serialization.py (`persistent_id`), CPython's Modules/_pickle.c.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from converters.errors import UnsupportedError
from converters.formats.tensors import ELEMENT_TYPES, DType, TensorLike, contiguous_strides

BATCH = 1000  # BATCHSIZE of _pickle.c
TUPLES = {1: b"\x85", 2: b"\x86", 3: b"\x87"}  # TUPLE1 to TUPLE3
CONSTANTS = {None: b"N", True: b"\x88", False: b"\x89"}  # NONE, NEWTRUE, NEWFALSE

T = TypeVar("T")


def dump_tensors(tensors: Sequence[TensorLike]) -> bytes:
    """An OrderedDict of contiguous tensors, the n-th of them alone in storage str(n).

    Raises UnsupportedError for an element type that torch has no storage class for.
    """
    pickler = _Pickler()
    pickler.ordered_dict()
    pickler.items([(t.name, (str(n), t)) for n, t in enumerate(tensors)], pickler.tensor)
    return pickler.finished()


def dump_object(value: object) -> bytes:
    """A value of dict (text keys), list, tuple, str, int, float, bool, None and DType.

    Raises UnsupportedError for anything else.
    """
    pickler = _Pickler()
    pickler.value(value)
    return pickler.finished()


class _Pickler:
    """The opcodes so far, and the memo slots of text and globals, which may be referred to again."""

    def __init__(self) -> None:
        self.out = bytearray(b"\x80\x02")
        self.known: dict[tuple[str, ...], int] = {}
        self.slots = 0

    def finished(self) -> bytes:
        return bytes(self.out + b".")

    def value(self, value: object) -> None:
        if value is None or isinstance(value, bool):  # before int, of which bool is a kind
            self.out += CONSTANTS[value]
        elif isinstance(value, int):
            self.number(value)
        elif isinstance(value, float):
            self.out += b"G" + struct.pack(">d", value)
        elif isinstance(value, str):
            self.text(value)
        elif isinstance(value, DType):
            self.named("torch", value.name)
        else:
            self.container(value)

    def container(self, value: object) -> None:
        if isinstance(value, tuple):
            self.tuple(value, self.value)
        elif isinstance(value, list):
            self.out += b"]"
            self.memoize()
            self.batches(value, self.value, one=b"a", many=b"e")
        elif isinstance(value, Mapping):
            self.out += b"}"
            self.memoize()
            self.items(value.items(), self.value)
        else:
            raise UnsupportedError(f"a value of type {type(value).__name__} cannot be written to a .pt file")

    def tensor(self, stored: tuple[str, TensorLike]) -> None:
        key, tensor = stored
        self.named("torch._utils", "_rebuild_tensor_v2")
        self.out += b"("
        self.storage(key, tensor)
        self.number(0)
        self.tuple(tensor.shape, self.number)
        self.tuple(contiguous_strides(tensor.shape), self.number)
        self.out += CONSTANTS[False]
        self.ordered_dict()
        self.out += b"t"
        self.memoize()
        self.out += b"R"
        self.memoize()

    def storage(self, key: str, tensor: TensorLike) -> None:
        kind = ELEMENT_TYPES[tensor.dtype].storage
        if kind is None:
            raise UnsupportedError(f"torch files hold no storage of element type {tensor.dtype}", tensor.name)
        self.out += b"("
        self.text("storage")
        self.named("torch", kind)
        self.text(key)
        self.text("cpu")
        self.number(math.prod(tensor.shape))
        self.out += b"t"
        self.memoize()
        self.out += b"Q"

    def ordered_dict(self) -> None:
        self.named("collections", "OrderedDict")
        self.out += b")R"
        self.memoize()

    def items(self, pairs: Iterable[tuple[object, T]], write: Callable[[T], None]) -> None:
        def write_pair(pair: tuple[object, T]) -> None:
            key, value = pair
            if not isinstance(key, str):
                raise UnsupportedError(f"a key of type {type(key).__name__} cannot be written to a .pt file")
            self.text(key)
            write(value)

        self.batches(pairs, write_pair, one=b"s", many=b"u")

    def batches(self, values: Iterable[T], write: Callable[[T], None], one: bytes, many: bytes) -> None:
        """Fills the list or dict on top of the stack, BATCH at a time as CPython does."""
        values = iter(values)
        while batch := list(islice(values, BATCH)):
            self.out += b"(" if len(batch) > 1 else b""
            for value in batch:
                write(value)
            self.out += many if len(batch) > 1 else one

    def tuple(self, values: tuple[T, ...], write: Callable[[T], None]) -> None:
        if not values:
            self.out += b")"
            return
        self.out += b"" if len(values) in TUPLES else b"("
        for value in values:
            write(value)
        self.out += TUPLES.get(len(values), b"t")
        self.memoize()

    def number(self, value: int) -> None:
        if 0 <= value < 1 << 8:
            self.out += b"K" + struct.pack("<B", value)
        elif 0 <= value < 1 << 16:
            self.out += b"M" + struct.pack("<H", value)
        elif -(1 << 31) <= value < 1 << 31:
            self.out += b"J" + struct.pack("<i", value)
        else:
            size = value.bit_length() // 8 + 1  # with a bit for the sign
            self.out += b"\x8a" + struct.pack("<B", size) + value.to_bytes(size, "little", signed=True)

    def text(self, value: str) -> None:
        if not self.recall(value):
            encoded = value.encode()
            self.out += b"X" + struct.pack("<I", len(encoded)) + encoded
            self.memoize(value)

    def named(self, module: str, name: str) -> None:
        if not self.recall(module, name):
            self.out += f"c{module}\n{name}\n".encode()
            self.memoize(module, name)

    def recall(self, *key: str) -> bool:
        slot = self.known.get(key)
        if slot is not None:
            self.out += b"h" + bytes([slot]) if slot < 256 else b"j" + struct.pack("<I", slot)
        return slot is not None

    def memoize(self, *key: str) -> None:
        if key:
            self.known[key] = self.slots
        self.out += b"q" + bytes([self.slots]) if self.slots < 256 else b"r" + struct.pack("<I", self.slots)
        self.slots += 1

"""Reads the pickles that torch.save writes, opcode by opcode and without `pickle`: nothing is ever called.

`pickletools` splits the stream into opcodes; ACTIONS says what each of the few that a state dict or a
config needs does to a stack of plain values; `pickle_names.py` says which names may appear and what stands in
for them. Every other opcode or name is a refusal that names it. What comes out is made of dict, list, tuple,
str, int, float, bool, None, `DType` and `TensorRef` alone, without cycles, of bounded depth and size.

Format facts: pickle protocol 2 (CPython, pickletools), torch/serialization.py, torch/_utils.py, and
`internlm.core.context.parallel_context.Config`, the dict that InternEvo's model_config.pt may hold.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any

from converters.errors import IntegrityError, UnsupportedError
from converters.formats.pickle_names import CALLS, GLOBALS, Malformed, Name, Storage
from converters.formats.tensors import is_size
from converters.values import shown

MAX_BYTES = 32 << 20
MAX_OPCODES = 2_000_000
"""Of one stream. torch.save writes some 35 for a tensor, so that is 57,000 tensors in a file; each opcode
makes a value of at most some hundred bytes."""
MAX_DEPTH = 16
MAX_VALUES = 2_000_000
PROTOCOL = 2  # DEFAULT_PROTOCOL of torch.serialization
_LONGEST = 200


def loads(data: bytes, where: str) -> object:
    """The object a pickle describes.

    Raises UnsupportedError for an opcode or a global that no state dict or config needs, and
    IntegrityError for a stream that is damaged, hostile or too large. `where` names the file in both.
    """
    if len(data) > MAX_BYTES:
        raise IntegrityError(f"its pickle of {len(data)} bytes is larger than any state dict's", where)
    try:
        return _Tree().copy(_run(data, where))
    except (Malformed, IndexError, KeyError, TypeError, ValueError) as error:
        what = f"its pickle is malformed: {str(error)[:_LONGEST]}"
        raise IntegrityError(what, where, "fetch the file again") from None


def _run(data: bytes, where: str) -> object:
    machine = _Machine(where)
    for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if number > MAX_OPCODES:
            raise Malformed(f"it has more than {MAX_OPCODES} opcodes")
        if opcode.name == "STOP":
            break
        action = ACTIONS.get(opcode.name)
        if action is None:
            raise _refusal(f"the pickle opcode {opcode.name}", where)
        action(machine, argument)
    (result,) = machine.stack
    return result


def _refusal(subject: str, where: str) -> UnsupportedError:
    what = f"{subject} has no place in a state dict or a config, so the file is not read further"
    fix = "save the bare state dict with torch.save, if you trust where the file comes from"
    return UnsupportedError(what, where, fix)


class _Machine:
    """The pickle machine's stack, marks and memo."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self, count: int) -> tuple[Any, ...]:
        """The topmost values, lowest first; a mark is a floor."""
        at = len(self.stack) - count
        if at < (self.marks[-1] if self.marks else 0):
            raise Malformed("it takes more values than it put down")
        return self._pop_from(at)

    def pop_to_mark(self) -> tuple[Any, ...]:
        return self._pop_from(self.marks.pop())

    def _pop_from(self, at: int) -> tuple[Any, ...]:
        values = tuple(self.stack[at:])
        del self.stack[at:]
        return values

    def set_items(self, values: tuple[Any, ...]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(values) % 2:
            raise Malformed("it sets items of something that is not a dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) not in (str, int):
                raise Malformed("a key is neither text nor a whole number")
            if key in target:
                raise Malformed(f"the key {shown(key)} is set twice")
            target[key] = value

    def append_items(self, values: tuple[Any, ...]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise Malformed("it appends to something that is not a list")
        target.extend(values)

    def name(self, dotted: str) -> None:
        known = GLOBALS.get(dotted)
        if known is None:
            raise _refusal(f"the global {dotted[:_LONGEST].replace(' ', '.')}", self.where)
        self.push(known)

    def call(self) -> None:
        function, arguments = self.pop(2)
        action = CALLS.get(function) if type(function) is Name else None
        if action is None or type(arguments) is not tuple:
            raise Malformed("it calls something that cannot be called")
        self.push(action(*arguments))

    def build(self) -> None:
        """Drops the one attribute an OrderedDict may have: `_metadata`, which module.state_dict() leaves."""
        (state,) = self.pop(1)
        if type(self.stack[-1]) is not dict or type(state) is not dict or set(state) != {"_metadata"}:
            raise Malformed("it sets the attributes of an object")

    def load_storage(self) -> None:
        (pid,) = self.pop(1)
        if type(pid) is not tuple or len(pid) != 5 or pid[0] != "storage":
            raise Malformed("a persistent id is not that of a storage")
        _, kind, key, _, numel = pid
        if type(kind) is not Name or kind.dtype is None or type(key) is not str or not is_size(numel):
            raise Malformed("a persistent id is not that of a storage")
        self.push(Storage(key, kind.dtype, numel))


ACTIONS: dict[str, Callable[[_Machine, Any], object]] = {
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        lambda m, value: m.push(value),
    ),
    "BINUNICODE": lambda m, value: m.push(_text(value)),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda m, slot: m.memo.__setitem__(slot, m.stack[-1])),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda m, slot: m.push(m.memo[slot])),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda m, _: m.call()),
    "PROTO": lambda m, version: _check_protocol(version, m.where),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "TUPLE1": lambda m, _: m.push(m.pop(1)),
    "TUPLE2": lambda m, _: m.push(m.pop(2)),
    "TUPLE3": lambda m, _: m.push(m.pop(3)),
    "TUPLE": lambda m, _: m.push(m.pop_to_mark()),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "APPEND": lambda m, _: m.append_items(m.pop(1)),
    "APPENDS": lambda m, _: m.append_items(m.pop_to_mark()),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "SETITEM": lambda m, _: m.set_items(m.pop(2)),
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
    "GLOBAL": lambda m, dotted: m.name(dotted),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.load_storage(),
}


def _text(value: str) -> str:
    """pickletools lets halves of surrogate pairs pass, which are no text and cannot be written anywhere."""
    if not value.isascii():
        value.encode()  # UnicodeEncodeError is a ValueError
    return value


def _check_protocol(version: int, where: str) -> None:
    if version != PROTOCOL:
        what = f"it is pickled with protocol {version}, torch.save writes protocol {PROTOCOL}"
        raise UnsupportedError(what, where, "save it again with torch.save's default pickle protocol")


class _Tree:
    """Copies what a pickle describes into a tree, so that no cycle and no shared part reaches a caller."""

    def __init__(self) -> None:
        self.values = 0

    def copy(self, value: Any, depth: int = 0) -> Any:
        self.values += 1
        if depth > MAX_DEPTH or self.values > MAX_VALUES:
            raise Malformed("it nests or repeats values without end")
        if type(value) is dict:
            return {key: self.copy(item, depth + 1) for key, item in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self.copy(item, depth + 1) for item in value)
        if type(value) in (Name, Storage):
            raise Malformed("it holds a name where a value should be")
        return value

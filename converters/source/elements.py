"""The element types of a checkpoint: one for all of its tensors, or one for each.

Norms in float32 beside matrices in bfloat16 are what InternEvo trains with `use_fp32_norm`
(InternLM/InternLM#580), and reward heads are often kept in float32. What may not differ is the type of the
parts of one tensor, which different ranks hold.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

from converters.config.facts import dtype_name
from converters.errors import IntegrityError, UnsupportedError
from converters.formats.tensors import StoredTensor, TensorLike, nbytes
from converters.source.match import Match, Mismatch

FLOATS = ("BF16", "F16", "F32", "F64")

UNQUANTISED = "take the release in 16 bits that they were made from"

# What logical tensors are called together, by the first part of their names within a layer or outside.
_KINDS: Mapping[str, str] = {
    "attention_norm": "norms",
    "mlp_norm": "norms",
    "norm": "norms",
    "embed": "the embedding",
    "head": "the head",
    "reward": "the reward head",
    "attention": "attention's matrices",
    "mlp": "the MLP's matrices",
}
_BIASES = "biases"

Key = TypeVar("Key", bound=Hashable)


def usual(tensors: Iterable[TensorLike]) -> str:
    """The code that most of their bytes have. A config states one type for all, and transformers computes in
    it: this one."""
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.dtype] += nbytes(tensor.dtype, tensor.shape)
    return max(sizes, key=lambda code: (sizes[code], code), default=FLOATS[0])


def check_elements(settled: Match) -> None:
    """Raises UnsupportedError for a tensor of no floating-point type that weights are kept in, IntegrityError
    for a tensor whose ranks have different types."""
    for mismatch in no_floats(tensor for _, tensor in settled.pairs):
        raise UnsupportedError(mismatch.what, mismatch.where, UNQUANTISED)
    for mismatch in at_odds(((cell.stage, cell.name), tensor) for cell, tensor in settled.pairs):
        raise IntegrityError(mismatch.what, mismatch.where)


def no_floats(tensors: Iterable[StoredTensor]) -> Iterator[Mismatch]:
    for tensor in tensors:
        if tensor.dtype not in FLOATS:
            yield Mismatch(
                f"{tensor.name} has the element type {tensor.dtype}, and only {', '.join(FLOATS)} are "
                "supported: quantised weights cannot be converted",
                tensor.file,
            )


def at_odds(parts: Iterable[tuple[Key, StoredTensor]]) -> Iterator[Mismatch]:
    """Parts of a tensor that have another type than most of it has. parts: each with what it is part of."""
    together: defaultdict[Key, list[StoredTensor]] = defaultdict(list)
    for whole, tensor in parts:
        together[whole].append(tensor)
    overall = Counter(tensor.dtype for tensors in together.values() for tensor in tensors)
    for tensors in together.values():
        counts = Counter(tensor.dtype for tensor in tensors)
        expected = max(counts, key=lambda code: (counts[code], overall[code]))
        for tensor in tensors:
            if tensor.dtype != expected:
                yield Mismatch(
                    f"{tensor.name} has the element type {tensor.dtype} where {expected} is expected",
                    tensor.file,
                )


def mixture(tensors: Collection[TensorLike]) -> str | None:
    """Which logical tensors have which type, as "norms are float32, the rest bfloat16"; None if all have
    one."""
    most = usual(tensors)
    others = sorted({tensor.dtype for tensor in tensors} - {most})
    named = [f"{_named(code, tensors)} {dtype_name(code)}" for code in others]
    return ", ".join([*named, f"the rest {dtype_name(most)}"]) if named else None


def _named(code: str, tensors: Collection[TensorLike]) -> str:
    """Their subject and verb: by kinds where it is all of a kind, else by number and the first of them."""
    members: defaultdict[str, list[TensorLike]] = defaultdict(list)
    for tensor in tensors:
        members[_kind(tensor.name)].append(tensor)
    parts, count = [], 0
    for kind, alike in members.items():
        held = [tensor.name for tensor in alike if tensor.dtype == code]
        count += len(held)
        if held:
            some = f"{len(held)} of {len(alike)} {kind} (first {held[0]})"
            parts.append(kind if len(held) == len(alike) else some)
    return f"{' and '.join(parts)} {'is' if count == 1 else 'are'}"


def _kind(name: str) -> str:
    if name.endswith(".bias"):
        return _BIASES
    inside = name.split(".", 2)[2] if name.startswith("layers.") else name
    return _KINDS[inside.partition(".")[0]]

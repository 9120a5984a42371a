"""Tensors as their bits, which is how the tests compare them, and as torch holds them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

SIGNED = {2: torch.int16, 4: torch.int32}


def rows_of(array: np.ndarray, rank: int, tp: int) -> np.ndarray:
    size = array.shape[0] // tp
    return array[rank * size : (rank + 1) * size]


def columns_of(array: np.ndarray, rank: int, tp: int) -> np.ndarray:
    return rows_of(array.T, rank, tp).T


def to_torch(bits: np.ndarray, dtype: str) -> torch.Tensor:
    bits = np.ascontiguousarray(bits)
    return torch.from_numpy(bits.view(f"i{bits.itemsize}").copy()).view(getattr(torch, dtype))


def to_bits(tensor: torch.Tensor) -> np.ndarray:
    size = tensor.element_size()
    return tensor.contiguous().view(SIGNED[size]).numpy().view(f"u{size}")


def rounded(model: Mapping[str, np.ndarray], dtype: str, to: str) -> dict[str, np.ndarray]:
    """Every value as torch rounds it to another dtype; "keep" is the same dtype."""
    if to == "keep":
        return dict(model)
    return {name: to_bits(to_torch(bits, dtype).to(getattr(torch, to))) for name, bits in model.items()}


def stored(state: Mapping[str, np.ndarray], dtype: str, storage: str) -> dict[str, torch.Tensor]:
    """The state as torch tensors whose elements lie in memory as asked.

    own: row-major, alone. transposed: matrices column-major. shared: all are views of one storage. padded:
    every tensor is a slice of a wider one that is saved with it, as a chunk that nobody cloned would be.
    """
    tensors = {name: to_torch(bits, dtype) for name, bits in state.items()}
    if storage == "transposed":
        return {name: t.t().contiguous().t() if t.dim() == 2 else t for name, t in tensors.items()}
    if storage == "padded":
        return {
            name: torch.cat([t, t.flip(0), t])[len(t) : 2 * len(t)].copy_(t) for name, t in tensors.items()
        }
    if storage == "shared":
        flat = torch.cat([t.reshape(-1) for t in tensors.values()])
        parts = flat.split([t.numel() for t in tensors.values()])
        return {name: part.view(t.shape) for (name, t), part in zip(tensors.items(), parts, strict=True)}
    assert storage == "own"
    return tensors


def assert_same(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> None:
    """Same names, shapes, element sizes and bits, said for the first tensor that differs."""
    assert sorted(found) == sorted(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert np.array_equal(found[name], array), f"{name} differs"


def assert_same_cells(
    found: Mapping[tuple[int, int], Mapping[str, np.ndarray]],
    wanted: Mapping[tuple[int, int], Mapping[str, np.ndarray]],
) -> None:
    assert sorted(found) == sorted(wanted)
    for place, state in wanted.items():
        assert_same(found[place], state)

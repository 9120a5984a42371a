"""A rank's share of a checkpoint is what slices of the whole tensors are, and no more than that is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import converters
from converters.errors import UnsupportedError, UsageError
from converters.sinks.tensor_reader import TensorReader
from tests.converters.oracle import INTERNLM, INTERNLM2, make_model, write_hf, write_original, write_tied

# Large enough for what is said about files, and for norms, to vanish beside them.
PLAIN = replace(INTERNLM, layers=2, hidden=256, heads=8, kv_heads=8, inter=512, vocab=512)
GROUPED = replace(INTERNLM2, layers=2, hidden=256, heads=8, kv_heads=4, inter=512, vocab=512)
ROWS = ("o_proj.weight", "down_proj.weight")
WHOLE = ("norm.weight", "o_proj.bias")
WAYS = ("original", "original tp4 pp2", "hf", "llama")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    made = {}
    for dims in (PLAIN, GROUPED):
        model = make_model(dims)
        for way in WAYS:
            path = folder / f"{dims.family} {way}"
            if way.startswith("original"):
                grid = (4, (1, 1)) if "tp4" in way else (1, (2,))
                write_original(path, model, dims, *grid)
            else:
                write_hf(path, model, dims, way)
            made[dims, way] = model, path
    return made


def slice_of(name, whole, dims, rank, tp):
    """By hand: rows of what is cut by columns, columns of what is cut by rows, a key/value head whole."""
    if name.endswith(WHOLE):
        return whole
    if ".self_attn.k_proj" in name or ".self_attn.v_proj" in name:
        heads = np.split(whole, dims.kv_heads)
        if tp > dims.kv_heads:
            return heads[rank * dims.kv_heads // tp]
    return np.array_split(whole, tp, axis=1 if name.endswith(ROWS) else 0)[rank]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dims", [PLAIN, GROUPED], ids=lambda dims: dims.family)
def test_a_rank_gets_the_slices_of_the_whole_tensors(checkpoints, dims, way):
    model, path = checkpoints[dims, way]
    checkpoint = converters.open_checkpoint(path)
    for tp in (2, 8):
        for rank in (0, tp - 1):
            found = {
                name: (shape, bytes(data))
                for name, _, shape, data in converters.read_tensors(checkpoint, rank=rank, tp=tp)
            }
            slices = {name: slice_of(name, whole, dims, rank, tp) for name, whole in model.items()}
            assert found == {name: (part.shape, part.tobytes()) for name, part in slices.items()}


def count_read() -> int:
    """proc_pid_io(5): rchar."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux counts what is read")
@pytest.mark.parametrize("tp", [2, 8])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dims", [PLAIN, GROUPED], ids=lambda dims: dims.family)
def test_ranks_read_their_shares_and_together_little_more_than_the_checkpoint(checkpoints, dims, way, tp):
    model, path = checkpoints[dims, way]
    checkpoint, total = converters.open_checkpoint(path), 0
    cut = [name for name in model if not name.endswith(WHOLE)]
    kinds = {1.02: [name for name in cut if not name.endswith(ROWS)]}
    kinds[1.10] = [name for name in cut if name.endswith(ROWS)]
    for rank in range(tp):
        for most, names in kinds.items():
            before = count_read()
            parts = list(converters.read_tensors(checkpoint, names=names, rank=rank, tp=tp))
            read = count_read() - before
            assert read <= most * sum(len(data) for *_, data in parts) + replicas(model, way), (rank, most)
            total += read
    repeated = max(1, tp // dims.kv_heads) - 1
    keys = sum(whole.nbytes for name, whole in model.items() if "k_proj" in name or "v_proj" in name)
    stored = sum(model[name].nbytes for name in cut)
    assert total <= 1.05 * stored + repeated * keys + 2 * tp * replicas(model, way)


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux counts what is read")
def test_a_head_that_is_stored_again_is_held_against_the_embedding_row_by_row_of_a_rank(tmp_path):
    model = make_model(PLAIN)
    rows = model["model.embed_tokens.weight"]
    folder = write_tied(tmp_path / "again", model, PLAIN, head=rows)
    before = count_read()
    with TensorReader(converters.open_checkpoint(folder), 1, 4):
        read = count_read() - before
    assert 2 * rows.nbytes / 4 <= read <= 2 * rows.nbytes / 4 + 20_000
    other = rows.copy()
    other[-1] ^= 1
    folder = write_tied(tmp_path / "other", model, PLAIN, head=other)
    checkpoint = converters.open_checkpoint(folder)
    with TensorReader(checkpoint, 0, 4):
        pass
    with pytest.raises(UsageError, match="is not"), TensorReader(checkpoint, 3, 4):
        pass


def replicas(model, way):
    """What the files' ranks all hold is compared by whoever reads them."""
    copies = 4 if "tp4" in way else 0
    return 2000 + copies * sum(whole.nbytes for name, whole in model.items() if name.endswith(WHOLE))


def test_what_a_rank_has_in_one_stretch_of_a_file_is_mapped(checkpoints):
    _, path = checkpoints[PLAIN, "original tp4 pp2"]
    checkpoint = converters.open_checkpoint(path)
    with TensorReader(checkpoint, 1, 4) as reader:
        mapped = {tensor.name for tensor in reader.tensors if reader.mapped(tensor) is not None}
    layer = "model.layers.1."
    assert {f"{layer}mlp.down_proj.weight", f"{layer}mlp.gate_proj.weight", "lm_head.weight"} <= mapped


def test_a_rank_there_is_not_and_ranks_that_share_no_heads_are_refused(checkpoints):
    _, path = checkpoints[GROUPED, "llama"]
    checkpoint = converters.open_checkpoint(path)
    with pytest.raises(UsageError, match="no rank 2 of 2"):
        list(converters.read_tensors(checkpoint, rank=2, tp=2))
    with pytest.raises(UnsupportedError, match="3 ranks cannot share the 4 kv_heads"):
        list(converters.read_tensors(checkpoint, rank=0, tp=3))

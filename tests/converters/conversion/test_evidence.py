"""The result is read back from the disk, and held against the bytes that were read of the source."""

from __future__ import annotations

import pytest
import torch

import converters
from converters.errors import IntegrityError
from converters.progress import NullProgress
from tests.converters.oracle import BOTH, INTERNLM2, make_model, write_hf, write_original

FAMILY = pytest.mark.parametrize("dims", BOTH, ids=lambda dims: dims.family)
WRITTEN, READ_BACK = "fingerprint of the source", "fingerprint of the result"


class Meanwhile(NullProgress):
    """Does something when a task begins."""

    def __init__(self, task, deed):
        self.task, self.deed = task, deed

    def start(self, task, total, done=0):
        if task == self.task:
            self.deed()


def staged(tmp_path):
    (folder,) = (path for path in tmp_path.iterdir() if path.name.startswith(".") and path.is_dir())
    return folder


def flip_last_byte(path):
    with path.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))


@FAMILY
def test_one_bit_that_the_disk_lost_stops_the_run(tmp_path, dims):
    src = write_original(tmp_path / "src", make_model(dims), dims, 2)
    lost = Meanwhile(WRITTEN, lambda: flip_last_byte(staged(tmp_path) / "model.safetensors"))
    with pytest.raises(IntegrityError, match="not in the result what it is in the source"):
        converters.convert(src, tmp_path / "dst", to="hf", progress=lost)
    assert not (tmp_path / "dst").exists()


@FAMILY
def test_two_tensors_that_changed_places_are_named(tmp_path, dims):
    src = write_hf(tmp_path / "src", make_model(dims), dims)
    gates = {
        "internlm": ("blocks.0.mlp.w1.weight", "blocks.1.mlp.w1.weight"),
        "internlm2": ("layers.0.feed_forward.w1.weight", "layers.1.feed_forward.w1.weight"),
    }[dims.family]

    def swap():
        path = staged(tmp_path) / "model_tp1_pp0.pt"
        state = torch.load(path, weights_only=True)
        one, other = (state[name].clone() for name in gates)
        torch.save(state | {gates[0]: other, gates[1]: one}, path)

    with pytest.raises(IntegrityError, match=r"layers\.[01]\.mlp\.gate\.weight"):
        converters.convert(src, tmp_path / "dst", to="original", tp=2, progress=Meanwhile(WRITTEN, swap))
    assert not (tmp_path / "dst").exists()


def test_without_evidence_nothing_is_read_back(tmp_path):
    src = write_original(tmp_path / "src", make_model(INTERNLM2), INTERNLM2, 2)
    begun = []
    progress = Meanwhile(READ_BACK, lambda: begun.append(READ_BACK))
    report = converters.convert(src, tmp_path / "dst", to="hf", evidence=False, progress=progress)
    assert (begun, report.fingerprints) == ([], {})

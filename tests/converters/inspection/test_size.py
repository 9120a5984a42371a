"""`inspect` of 40 GB reads megabytes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import converters
from converters.formats import safetensors, torchzip
from converters.formats.tensors import TensorSpec
from tests.converters.inspection.looking import with_tokenizer
from tests.converters.oracle import INTERNLM, INTERNLM2, make_model, write_hf

HEAVY = """
import sys
import converters
found = converters.inspect(sys.argv[1], deep=True, workers=4)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(found.nbytes, len(found.statistics), int(status["VmHWM"].split()[0]) << 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts the parent, and VmHWM is Linux's")
def test_deep_takes_little_memory_whatever_the_largest_tensor(tmp_path):
    """Two tensors of 400 MB, and all in one file."""
    small = replace(INTERNLM2, layers=2, hidden=1024, inter=2048, vocab=64)
    folder = write_hf(tmp_path / "hf", make_model(small), small)
    (path,) = folder.glob("*.safetensors")
    resize(path, safetensors, {64: 200_000})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 200_000}))
    done = subprocess.run(
        [sys.executable, "-c", HEAVY, str(folder)], capture_output=True, text=True, check=True
    )
    nbytes, tensors, peak = map(int, done.stdout.split())
    assert nbytes > 800e6
    assert tensors == 3 + 9 * small.layers
    assert peak < 300e6


COUNT = """
import sys, builtins
from converters.formats import bytesource
read = [0]
for name in ("_read_some", "_read_some_into"):
    def counted(self, offset, what, inner=getattr(bytesource.LocalFile, name)):
        read[0] += what if isinstance(what, int) else len(what)
        return inner(self, offset, what)
    setattr(bytesource.LocalFile, name, counted)
import converters
found = converters.inspect(sys.argv[1])
print(len(found.findings), found.nbytes, read[0], "torch" in sys.modules, "socket" in sys.modules)
"""


@pytest.mark.parametrize("form", ["original", "hf"])
def test_forty_gigabytes_are_looked_at_by_their_headers(tmp_path, form):
    """A sparse checkpoint of 64 layers: megabytes are read of it, and no torch is loaded."""
    folder = with_tokenizer(sparse(tmp_path, form))
    done = subprocess.run(
        [sys.executable, "-c", COUNT, str(folder)], capture_output=True, text=True, check=True
    )
    findings, nbytes, read, torch_loaded, _ = done.stdout.split()
    assert int(nbytes) > 40e9
    assert (findings, torch_loaded) == ("0", "False")
    assert int(read) < 64e6


def sparse(tmp_path, form):
    """40 GB in the shape of InternLM-20B, none of it on the disk."""
    small = replace(INTERNLM, layers=64, vocab=2048)
    src = write_hf(tmp_path / "small", make_model(small), small, names="llama")
    folder = tmp_path / form
    options = {"given": {"family": "internlm"}, **({"tp": 4, "pp": 2} if form == "original" else {})}
    converters.convert(src, folder, to=form, **options)
    scale = {small.hidden: 5120, 3 * small.hidden: 15360, small.inter: 13824, small.vocab: 2048}
    if form == "original":
        scale |= {size // 4: big // 4 for size, big in scale.items()}
    for path in [*folder.glob("*.safetensors"), *folder.glob("model_tp*.pt")]:
        resize(path, safetensors if form == "hf" else torchzip, scale)
    rescale_config(folder, form)
    return folder


def resize(path, container, scale):
    """Tensors of other extents in the place of those of a file, none of them on the disk."""
    specs = [
        TensorSpec(name, tensor.dtype, tuple(scale.get(size, size) for size in tensor.shape))
        for name, tensor in container.read_index(path).tensors.items()
    ]
    layout = container.layout(specs)
    with path.open("wb") as file:
        file.truncate(layout.size)
        for offset, data in (*layout.fixed, *layout.finalize({spec.name: 0 for spec in specs})):
            file.seek(offset)
            file.write(data)


def rescale_config(folder, form):
    sizes = {"hidden_size": 5120, "intermediate_size": 13824}
    if form == "hf":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | sizes))
    else:
        config = torch.load(folder / "model_config.pt", weights_only=False)
        config["hidden_size"] = 5120
        torch.save(config, folder / "model_config.pt")

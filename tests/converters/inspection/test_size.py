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
from tests.converters.oracle import INTERNLM, make_model, write_hf

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
    options = {"tp": 4, "pp": 2} if form == "original" else {}
    converters.convert(src, folder, to=form, **options)
    scale = {small.hidden: 5120, 3 * small.hidden: 15360, small.inter: 13824, small.vocab: 2048}
    if form == "original":
        scale |= {size // 4: big // 4 for size, big in scale.items()}
    for path in [*folder.glob("*.safetensors"), *folder.glob("model_tp*.pt")]:
        reader, writer = (safetensors, safetensors) if form == "hf" else (torchzip, torchzip)
        specs = [
            TensorSpec(name, tensor.dtype, tuple(scale[size] for size in tensor.shape))
            for name, tensor in reader.read_index(path).tensors.items()
        ]
        layout = writer.layout(specs)
        with path.open("wb") as file:
            file.truncate(layout.size)
            for offset, data in (*layout.fixed, *layout.seal({spec.name: 0 for spec in specs})):
                file.seek(offset)
                file.write(data)
    rescale_config(folder, form)
    return folder


def rescale_config(folder, form):
    sizes = {"hidden_size": 5120, "intermediate_size": 13824}
    if form == "hf":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | sizes))
    else:
        config = torch.load(folder / "model_config.pt", weights_only=False)
        config["hidden_size"] = 5120
        torch.save(config, folder / "model_config.pt")

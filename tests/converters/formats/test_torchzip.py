"""torch zip files against torch.save and torch.load, zipfile and unzip."""

from __future__ import annotations

import collections
import io
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters.errors import IntegrityError, UnsupportedError
from converters.formats import torchzip
from converters.formats.bytesource import LocalFile
from converters.formats.tensors import ELEMENT_TYPES, DType, TensorSpec
from tests.converters.formats.filling import fill, fill_sparse, save, stored_bytes, tensor_bytes

torch = pytest.importorskip("torch")

STORED = [row for row in ELEMENT_TYPES.values() if row.storage]
DTYPES = {code: getattr(torch, row.torch) for code, row in ELEMENT_TYPES.items()}
CODES = {dtype: code for code, dtype in DTYPES.items()}


def layout_of(state):
    return torchzip.layout([TensorSpec(k, CODES[v.dtype], tuple(v.shape)) for k, v in state.items()])


def bytes_of(state):
    return {name: tensor_bytes(tensor) for name, tensor in state.items()}


def random_tensor(shape, row):
    size = max(1, row.itemsize)
    raw = torch.randint(0, 2 if row.code == "BOOL" else 256, (*shape, size), dtype=torch.uint8)
    return raw.view(getattr(torch, row.torch)).reshape(shape)


STATES = st.dictionaries(
    st.text(st.characters(blacklist_categories=("C", "Z")), min_size=1, max_size=12),
    st.tuples(st.lists(st.integers(0, 5), max_size=5).map(tuple), st.sampled_from(STORED)),
    max_size=6,
)
QUICK = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(STATES)
def test_every_state_dict_of_torch_save_is_located_byte_for_byte(tmp_path, shapes):
    state = {name: random_tensor(*kind) for name, kind in shapes.items()}
    path = save(tmp_path / "model.pt", state)
    index = torchzip.read_index(path)
    assert list(index.tensors) == list(state)
    for name, stored in index.tensors.items():
        assert (stored.shape, stored.dtype) == (tuple(state[name].shape), CODES[state[name].dtype])
        assert stored.contiguous
        assert stored_bytes(path, stored) == tensor_bytes(state[name])


@QUICK
@given(STATES)
def test_written_files_load_with_weights_only_and_mmap(tmp_path, shapes):
    state = {name: random_tensor(*kind) for name, kind in shapes.items()}
    path = tmp_path / "model.pt"
    path.write_bytes(fill(layout_of(state), bytes_of(state)))
    for loaded in (torch.load(path, weights_only=True), torch.load(path, weights_only=True, mmap=True)):
        assert bytes_of(loaded) == bytes_of(state)
        assert isinstance(loaded, collections.OrderedDict) and list(loaded) == list(state)
    assert zipfile.ZipFile(path).testzip() is None


@pytest.mark.parametrize("count", [0, 1, 2, 300, 1000, 1001])
def test_written_bytes_equal_torch_save_but_for_the_serialization_id(count):
    shapes = [(3, 4), (), (0, 2), (1, 2, 3, 4, 5), (70000,)]
    state = collections.OrderedDict(
        (f"layers.{n}.weight", torch.full(shapes[n % 5] if n < 5 else (n % 7,), n % 100, dtype=torch.float16))
        for n in range(count)
    )
    buffer = io.BytesIO()
    torch.save(state, buffer)
    theirs, ours = buffer.getvalue(), fill(layout_of(state), bytes_of(state))
    at = theirs.find(b"serialization_id")
    assert len(ours) == len(theirs) and ours[:at] == theirs[:at]
    assert sum(a != b for a, b in zip(ours, theirs, strict=True)) <= 40 + 4 + 4


def test_writing_twice_gives_the_same_bytes():
    state = {"a": torch.arange(10), "b": torch.ones(3)}
    assert fill(layout_of(state), bytes_of(state)) == fill(layout_of(state), bytes_of(state))


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")
def test_written_file_passes_unzip(tmp_path):
    state = {"a": torch.arange(1000), "empty": torch.zeros(0), "b": torch.ones(3, 3)}
    path = tmp_path / "model.pt"
    path.write_bytes(fill(layout_of(state), bytes_of(state)))
    assert subprocess.run(["unzip", "-tq", path], capture_output=True).returncode == 0


def test_file_beyond_4_gib_has_the_headers_torch_writes(tmp_path):
    specs = [
        TensorSpec("a", "F32", (3,)),
        TensorSpec("big", "BF16", (2**31 + 5,)),
        TensorSpec("c", "F16", (7,)),
    ]
    specs.append(TensorSpec("none", "F32", (0,)))
    layout = torchzip.layout(specs)
    ours, theirs = tmp_path / "ours.pt", tmp_path / "theirs.pt"
    fill_sparse(layout, ours, {}, dict.fromkeys(("a", "big", "c", "none"), 0))
    with torch.serialization.skip_data(), open(theirs, "wb") as file:
        torch.save(
            collections.OrderedDict((s.name, torch.empty(s.shape, dtype=DTYPES[s.dtype])) for s in specs),
            file,
        )
    assert ours.stat().st_size == theirs.stat().st_size == layout.size > 2**32
    big = layout.spans[1]
    assert differing_bytes(ours, theirs, (0, big.offset)) == 2  # torch leaves the second of two sizes 0
    assert differing_bytes(ours, theirs, (big.offset + big.nbytes, layout.size)) <= 40 + 4 + 4
    located = torchzip.read_index(ours).tensors
    assert [(t.name, t.offset) for t in located.values()] == [(s.name, s.offset) for s in layout.spans]


def differing_bytes(one, other, window):
    parts = []
    for path in (one, other):
        with open(path, "rb") as file:
            file.seek(window[0])
            parts.append(file.read(window[1] - window[0]))
    return sum(a != b for a, b in zip(*parts, strict=True))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")
def test_file_beyond_4_gib_loads_and_passes_unzip(tmp_path):
    specs = [TensorSpec("big", "U8", (2**32 + 7,)), TensorSpec("after", "F32", (3,))]
    after, path = struct.pack("<3f", 1, 2, 3), tmp_path / "model.pt"
    crc = 0
    for _ in range(2**8):
        crc = zlib.crc32(bytes(2**24), crc)
    fill_sparse(
        torchzip.layout(specs),
        path,
        {"after": after},
        {"big": zlib.crc32(bytes(7), crc), "after": zlib.crc32(after)},
    )
    assert torch.load(path, weights_only=True, mmap=True)["after"].tolist() == [1, 2, 3]
    assert subprocess.run(["unzip", "-tq", path], capture_output=True).returncode == 0


@pytest.mark.slow
def test_more_than_65535_tensors_round_trip(tmp_path):
    specs = [TensorSpec(f"t{n}", "U8", (1,)) for n in range(66000)]
    path = tmp_path / "many.pt"
    path.write_bytes(fill(torchzip.layout(specs), {s.name: b"\x07" for s in specs}))
    assert len(torchzip.read_index(path).tensors) == 66000
    assert len(torch.load(path, weights_only=True)) == 66000


def test_views_shared_storages_and_parameters_keep_their_strides(tmp_path):
    base = torch.arange(60, dtype=torch.float32).reshape(6, 10)
    state = {"base": base, "t": base.T, "slice": base[1:5:2, 2:9:3], "param": torch.nn.Parameter(base[3])}
    path = save(tmp_path / "views.pt", state)
    index = torchzip.read_index(path).tensors
    assert index["t"].strides == (1, 10) and not index["t"].contiguous
    assert index["slice"].offset - index["base"].offset == 4 * 12
    for name, stored in index.items():
        assert stored_bytes(path, stored) == tensor_bytes(state[name])


def test_state_dict_of_a_module_with_its_metadata_is_read(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    index = torchzip.read_index(save(tmp_path / "module.pt", module.state_dict()))
    assert list(index.tensors) == list(module.state_dict()) and not index.others


def test_values_beside_the_tensors_are_given_too(tmp_path):
    index = torchzip.read_index(save(tmp_path / "m.pt", {"w": torch.ones(2), "step": 7, "lr": [0.5, None]}))
    assert list(index.tensors) == ["w"] and index.others == {"step": 7, "lr": [0.5, None]}


@pytest.mark.parametrize("key", torchzip.NESTS)
def test_a_state_dict_under_the_key_of_a_trainer_is_found(tmp_path, key):
    state = {"w": torch.ones(2), "v": torch.zeros(3)}
    path = save(tmp_path / "m.pt", {"step": 1, key: state, "optimizer": {"state": [torch.ones(1)]}})
    index = torchzip.read_index(path)
    assert (list(index.tensors), index.others, index.under) == (["w", "v"], {}, key)


@pytest.mark.parametrize(
    "content",
    [
        {"ema": {"w": torch.ones(2)}},
        {"w": torch.ones(2), "model": {"v": torch.ones(2)}},
        {"model": {"deeper": {"w": torch.ones(2)}}},
        {"model": {"w": torch.ones(2), "deeper": [torch.ones(1)]}},
    ],
)
def test_tensors_in_other_places_are_refused_by_place(tmp_path, content):
    with pytest.raises(UnsupportedError, match=r"ema|model|deeper"):
        torchzip.read_index(save(tmp_path / "m.pt", content))


CONFIG = {
    "num_layers": 32,
    "layer_norm_epsilon": 1e-5,
    "dtype": DType("bfloat16"),
    "no_bias": False,
    "norm_type": "rmsnorm",
    "big": 2**40,
    "negative": -70000,
    "list": [1, "二", None, True],
    "tuple": (1, 2, 3, 4),
    "nested": {"x": []},
    "one": [0],
}


def test_config_round_trips_and_torch_reads_the_same(tmp_path):
    path = tmp_path / "model_config.pt"
    torchzip.write_object(path, CONFIG)
    assert torchzip.read_object(path) == CONFIG
    assert torch.load(path, weights_only=True) == CONFIG | {"dtype": torch.bfloat16}
    assert [p.name for p in tmp_path.iterdir()] == ["model_config.pt"]


def test_config_of_torch_save_is_read(tmp_path):
    path = save(tmp_path / "c.pt", CONFIG | {"dtype": torch.float16, "shape": torch.Size([2, 3])})
    assert torchzip.read_object(path) == CONFIG | {"dtype": DType("float16"), "shape": (2, 3)}


def test_internevo_config_class_is_read_as_a_dict_without_the_package(tmp_path):
    module = type(sys)("internlm.core.context.parallel_context")
    module.Config = type("Config", (dict,), {"__module__": module.__name__})
    names = ["internlm", "internlm.core", "internlm.core.context", module.__name__]
    sys.modules.update(dict.fromkeys(names, module))
    try:
        path = save(tmp_path / "c.pt", module.Config({"hidden_size": 64, "nested": module.Config({"a": 1})}))
    finally:
        for name in names:
            del sys.modules[name]
    assert torchzip.read_object(path) == {"hidden_size": 64, "nested": {"a": 1}}


def test_config_that_torch_could_not_express_is_refused(tmp_path):
    for value in ({1: 2}, {"a": object()}, {"a": b"bytes"}):
        with pytest.raises(UnsupportedError):
            torchzip.write_object(tmp_path / "c.pt", value)
    with pytest.raises(UnsupportedError, match="F8_E4M3"):
        torchzip.layout([TensorSpec("w", "F8_E4M3", (1,))])


def test_local_file_gives_exactly_what_is_asked(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(bytes(range(100)))
    with LocalFile(path) as file:
        assert (file.size, file.read(3, 4), file.read(100, 0)) == (100, bytes([3, 4, 5, 6]), b"")
        for offset, length in ((99, 2), (-1, 2), (0, -1)):
            with pytest.raises(IntegrityError):
                file.read(offset, length)

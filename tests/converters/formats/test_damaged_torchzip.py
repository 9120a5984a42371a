"""torch zip files that are damaged, of another kind, or of an older torch."""

from __future__ import annotations

import zipfile

import pytest

from converters.errors import IntegrityError, NotFoundError, UnsupportedError
from converters.formats import torchzip
from tests.converters.formats.filling import save, stored_bytes, tensor_bytes

torch = pytest.importorskip("torch")


def test_legacy_file_is_refused_by_name(tmp_path):
    path = tmp_path / "old.pt"
    torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(UnsupportedError, match=r"before 1\.6"):
        torchzip.read_index(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n", "LFS pointer"),
        (b"\n<!DOCTYPE html><html></html>", "web page"),
        (b"", "empty"),
        (b"\x00" * 500, "not a torch file"),
    ],
)
def test_what_is_no_weights_file_is_recognised(tmp_path, content, said):
    path = tmp_path / "model_tp0_pp0.pt"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=said) as caught:
        torchzip.read_index(path)
    assert caught.value.where == str(path)


def test_absent_file_is_not_found(tmp_path):
    with pytest.raises(NotFoundError):
        torchzip.read_index(tmp_path / "absent.pt")


def repack(path, change=lambda name, data: data, **options):
    """The archive written anew by zipfile, entry by entry."""
    entries = [(i.filename, zipfile.ZipFile(path).read(i)) for i in zipfile.ZipFile(path).infolist()]
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in entries:
            changed = change(name, data)
            if changed is not None:
                archive.writestr(name, changed)
    return path


def test_big_endian_compressed_and_encrypted_files_are_refused(tmp_path):
    path = save(tmp_path / "m.pt", {"w": torch.ones(40)})
    repack(path, lambda name, data: b"big" if name.endswith("byteorder") else data)
    with pytest.raises(UnsupportedError, match="byteorder"):
        torchzip.read_index(path)
    path = repack(save(tmp_path / "m.pt", {"w": torch.ones(40)}), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UnsupportedError, match="compressed"):
        torchzip.read_index(path)
    data = bytearray(save(tmp_path / "m.pt", {"w": torch.ones(40)}).read_bytes())
    data[data.find(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(UnsupportedError, match="encrypted"):
        torchzip.read_index(path)


def test_file_without_byteorder_is_read_as_older_torch_wrote_it(tmp_path):
    path = save(tmp_path / "m.pt", {"w": torch.ones(40)})
    repack(
        path,
        lambda name, data: (
            None if name.endswith(("byteorder", "alignment", "id", "format_version")) else data
        ),
    )
    assert stored_bytes(path, torchzip.read_index(path).tensors["w"]) == tensor_bytes(torch.ones(40))


@pytest.mark.parametrize("wrong", [b"", b"\x00" * 156])
def test_missing_or_short_storage_is_an_integrity_error(tmp_path, wrong):
    path = save(tmp_path / "m.pt", {"w": torch.ones(40)})
    repack(path, lambda name, data: (wrong or None) if name.endswith("data/0") else data)
    with pytest.raises(IntegrityError, match="storage of w"):
        torchzip.read_index(path)


def test_every_truncation_is_an_integrity_error(tmp_path):
    data = save(tmp_path / "m.pt", {"w": torch.arange(9), "v": torch.ones(3)}).read_bytes()
    path = tmp_path / "cut.pt"
    for length in [*range(1, len(data), 37), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(IntegrityError):
            torchzip.read_index(path)


def test_every_flipped_byte_of_the_structure_is_refused_or_harmless(tmp_path):
    whole = save(tmp_path / "m.pt", {"w": torch.arange(9), "v": torch.ones(3)})
    data = whole.read_bytes()
    expected = {n: stored_bytes(whole, t) for n, t in torchzip.read_index(whole).tensors.items()}
    path = tmp_path / "flipped.pt"
    refused = 0
    for at in range(0, len(data), 3):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :])
        try:
            index = torchzip.read_index(path)
        except (IntegrityError, UnsupportedError):
            refused += 1
        else:
            assert {n: (t.shape, t.dtype) for n, t in index.tensors.items()} == {
                "w": ((9,), "I64"),
                "v": ((3,), "F32"),
            }
            assert all(len(stored_bytes(path, t)) == len(expected[n]) for n, t in index.tensors.items())
    assert refused > len(data) // 12

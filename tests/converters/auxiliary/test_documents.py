"""Licences, model cards and notices go with the weights, byte for byte, and `verify` holds them."""

from __future__ import annotations

import json
import os
import shutil

import pytest

import converters
from converters.auxiliary.documents import documents_in
from converters.formats.folder import LocalFolder
from tests.converters.oracle import INTERNLM2, make_model, write_hf, write_original

DOCUMENTS = {
    "LICENSE": b"Apache\n",
    "LICENSE-MODEL.txt": b"no harm\r\n",
    "MODEL_LICENSE": b"x",
    "NOTICE": b"\xff\xfe not UTF-8",
    "README.md": "# 书生".encode(),
    "README_zh-CN.md": b"",
    "CITATION.cff": b"cff",
}
OTHERS = {
    "modeling_internlm2.py": b"import os",
    "mit_license.py": b"import os",
    "requirements.txt": b"torch",
    "notes.txt": b"mine",
    "license.json": b"{}",
    "optimizer.pt": b"not a tensor",
    ".gitattributes": b"x",
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("documents"), make_model(INTERNLM2)
    made = {
        "hf": write_hf(folder / "hf", model, INTERNLM2),
        "original": write_original(folder / "original", model, INTERNLM2, 2),
    }
    for source in made.values():
        for name, content in {**DOCUMENTS, **OTHERS}.items():
            (source / name).write_bytes(content)
    return made


@pytest.mark.parametrize("to", ["hf", "llama", "original"])
@pytest.mark.parametrize("start", ["hf", "original"])
def test_documents_are_carried_and_nothing_else_is(zoo, tmp_path, sources, start, to):
    dst = tmp_path / "dst"
    assert zoo("convert", sources[start], dst, "--to", to, "--set", "max_position_embeddings=64")[0] == 0
    assert {name: (dst / name).read_bytes() for name in DOCUMENTS} == DOCUMENTS
    assert not {path.name for path in dst.iterdir()} & set(OTHERS)
    recorded = json.loads((dst / "conversion.json").read_text())["target"]["other_files"]
    assert set(DOCUMENTS) <= {file["name"] for file in recorded}
    assert zoo("verify", dst)[0] == 0
    (dst / "LICENSE").write_bytes(b"Apachf\n")
    (dst / "README.md").unlink()
    code, out, _ = zoo("verify", dst, "--json")
    (found,) = json.loads(out)["folders"]
    assert (code, found["missing"]) == (1, ["README.md"])
    assert [file["path"] for file in found["wrong"]] == ["LICENSE"]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_link_that_leads_out_is_left_out_and_said(zoo, tmp_path, sources):
    src = shutil.copytree(sources["hf"], tmp_path / "src")
    (tmp_path / "secret").write_text("secret")
    (src / "README.md").unlink()
    (src / "README.md").symlink_to("../secret")
    (src / "NOTICE").unlink()
    (src / "NOTICE").symlink_to("LICENSE")
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "llama")
    assert code == 0
    assert "README.md was left out: it is a link that leads out" in err
    assert not (tmp_path / "dst/README.md").exists()
    assert (tmp_path / "dst/NOTICE").read_bytes() == DOCUMENTS["LICENSE"]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_release_in_a_cache_of_links_to_blobs_has_its_documents(tmp_path, sources):
    """As huggingface_hub and this program keep them."""
    snapshot = tmp_path / "models--x/snapshots/abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--x/blobs").mkdir()
    for number, path in enumerate(sources["hf"].iterdir()):
        shutil.copyfile(path, tmp_path / f"models--x/blobs/{number}")
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    converters.convert(snapshot, tmp_path / "dst", to="llama")
    assert (tmp_path / "dst/LICENSE").read_bytes() == DOCUMENTS["LICENSE"]


def test_a_text_that_is_too_large_for_people_is_left_out_and_said(zoo, tmp_path, sources):
    src = shutil.copytree(sources["hf"], tmp_path / "src")
    (src / "README.md").write_bytes(bytes(5_000_000))
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "llama")
    assert code == 0 and "README.md was left out: it has 5,000,000 bytes" in err
    assert not (tmp_path / "dst/README.md").exists()


def test_documents_that_are_too_many_to_be_held_are_left_out_and_said(tmp_path):
    for number in range(18):
        with (tmp_path / f"LICENSE-{number:02d}.txt").open("wb") as file:
            file.truncate(4 << 20)
    found = documents_in(LocalFolder(tmp_path))
    assert len(found.files) == 16
    assert ["with the others" in note for note in found.notes] == [True] * 2

"""A directory as a hub holds files, and nothing of its links or pipes is fetched, waited for or read."""

from __future__ import annotations

import os
import shutil

import pytest

from converters.errors import IntegrityError
from internlm_zoo.errors import AccessError, NotFoundError
from internlm_zoo.registry.schema import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources.directory import DirectorySource

if os.name == "nt":
    pytest.skip("its links and pipes are others", allow_module_level=True)

REPO, FILE = "acme/m", "special_tokens_map.json"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "hub" / REPO).mkdir(parents=True)
    (tmp_path / "hub" / REPO / FILE).write_text("{}")
    (tmp_path / "secret").write_text("of another")
    return tmp_path / "hub"


def resolve(root):
    return DirectorySource(
        Hub(name="here", title="here", protocol="huggingface", endpoint=str(root)), str(root), Settings({})
    ).resolve(REPO)


OUT = "leads out of the directory"


def a_link_out(path):
    path.symlink_to("../../../secret")


def weights_out(path):
    a_link_out(path.with_name("model.safetensors"))


FAULTS = {
    "a link out": (a_link_out, IntegrityError, OUT),
    "weights out": (weights_out, IntegrityError, OUT),
    "a pipe": (os.mkfifo, AccessError, "a file is expected"),
    "an endless device": (lambda path: path.symlink_to("/dev/zero"), AccessError, "a file is expected"),
    "a loop": (lambda path: path.symlink_to(path.name), AccessError, "symbolic links"),
    "a link to nowhere": (lambda path: path.symlink_to("nowhere"), NotFoundError, "no such file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_file_of_the_directory_is_named(root, fault):
    spoil, error, said = FAULTS[fault]
    (root / REPO / FILE).unlink()
    spoil(root / REPO / FILE)
    with pytest.raises(error, match=said) as raised:
        resolve(root)
    assert str(root / REPO) in raised.value.where


def test_a_repository_that_is_a_link_out_of_the_directory_is_refused(root, tmp_path):
    shutil.move(root / REPO, tmp_path / "elsewhere")
    (root / REPO).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="leads out of the directory"):
        resolve(root)


def test_links_within_the_directory_are_files(root):
    (root / "shared").write_text("{}")
    (root / REPO / "other.json").symlink_to("../../shared")
    digests = {file.sha256 for file in resolve(root).files}
    assert len(resolve(root).files) == 2 and len(digests) == 1


def test_a_file_that_is_written_to_while_it_is_hashed_is_named(root, monkeypatch):
    real = os.preadv

    def preadv(*args):
        with (root / REPO / FILE).open("r+") as file:
            file.write("[]")
        return real(*args)

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(IntegrityError, match="while it was read"):
        resolve(root)

"""Links in a checkpoint: followed within it, to weights, and in caches; to nothing else of this machine."""

from __future__ import annotations

import os
import shutil

import pytest

import converters
from converters.formats.links import opener_of
from tests.converters.oracle import INTERNLM2, make_model, write_hf

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links are not everybody's to make there")
WEIGHTS, CONFIG = "model.safetensors", "config.json"
COPIED = ["special_tokens_map.json", "tokenizer.model", "chat_template.jinja", "generation_config.json"]
READ = [CONFIG, "tokenizer_config.json", "conversion.json"]
SECRET = '{"secret": "of another"}'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_hf(tmp_path_factory.mktemp("links") / "src", make_model(INTERNLM2), INTERNLM2)


@pytest.fixture
def src(tmp_path, made):
    return shutil.copytree(made, tmp_path / "src")


@pytest.fixture
def secret(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "shadow").write_text(SECRET)
    return tmp_path / "etc" / "shadow"


def linked(link, target):
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def assert_refused(zoo, tmp_path, link, *options):
    code, out, err = zoo("convert", tmp_path / "src", tmp_path / "new", "--to", "original", *options)
    assert (code, out) == (6, "")
    assert "leads out of the directory" in err and str(link) in err and "put a copy" in err
    assert SECRET not in err and not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", [*COPIED, *READ])
def test_a_link_that_leads_out_of_the_directory_is_refused_by_name(zoo, tmp_path, src, secret, name):
    linked(src / name, "../etc/shadow")
    assert_refused(zoo, tmp_path, src / name)


def test_a_folder_of_templates_that_is_a_link_out_of_the_directory_is_refused(zoo, tmp_path, src, secret):
    secret.rename(secret.with_name("shadow.jinja"))
    (src / "additional_chat_templates").symlink_to(secret.parent)
    assert_refused(zoo, tmp_path, src / "additional_chat_templates" / "shadow.jinja")


def test_blobs_that_are_a_link_to_anything_are_no_cache(zoo, tmp_path, src, secret):
    (tmp_path / "blobs").symlink_to(secret.parent)
    linked(src / COPIED[0], "../blobs/shadow")
    assert_refused(zoo, tmp_path, src / COPIED[0])


def test_a_tokenizer_that_is_named_may_be_a_link_and_hold_none_that_leads_out(zoo, tmp_path, src, secret):
    (tmp_path / "tokens").mkdir()
    linked(tmp_path / "tokens" / "tokenizer.model", secret)
    assert_refused(zoo, tmp_path, tmp_path / "tokens" / "tokenizer.model", "--tokenizer", tmp_path / "tokens")
    linked(tmp_path / "mine", secret)
    code, _, err = zoo("convert", src, tmp_path / "new", "--to", "hf", "--tokenizer", tmp_path / "mine")
    assert code == 2 and "this is no tokenizer" in err


@pytest.mark.parametrize("verb", ["inspect", "fingerprint", "compare"])
def test_other_verbs_follow_no_such_link_either(zoo, src, secret, verb):
    linked(src / CONFIG, secret)
    code, _, err = zoo(verb, src, *([src] if verb == "compare" else ["--json"] if verb == "inspect" else []))
    assert code in (1, 6) and SECRET not in err


def test_a_link_that_takes_a_files_place_while_it_is_opened_is_refused(src, secret, monkeypatch):
    real, name = os.open, src / CONFIG

    def swapped(path, flags, *rest, **more):
        if path == str(name) and not name.is_symlink():
            linked(name, secret)
            descriptor = real(path, flags, *rest, **more)
            name.unlink()
            name.write_text("{}")  # and is put back
            return descriptor
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(converters.errors.IntegrityError, match=r"leads out of the directory|took its place"):
        opener_of(src, CONFIG)(str(name), os.O_RDONLY)


def whole(src, tmp_path):
    """What it is converted to, all of its files."""
    report = converters.convert(src, tmp_path / "new", to="llama")
    assert report.fingerprints == converters.fingerprint(src)
    return sorted(path.name for path in report.path.iterdir())


def test_weights_may_lie_anywhere(tmp_path, src):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (src / WEIGHTS).rename(scratch / WEIGHTS)
    (src / WEIGHTS).symlink_to(scratch / WEIGHTS)
    whole(src, tmp_path)


def as_snapshot(tmp_path, src):
    """As huggingface_hub and openMind keep it."""
    blobs, folder = tmp_path / "models--x--y" / "blobs", tmp_path / "models--x--y" / "snapshots" / "main"
    return folder, blobs, "../../blobs"


def as_release(tmp_path, src):
    """As our store has it."""
    folder = tmp_path / "home" / "releases" / "hub" / "x--y" / "main"
    return folder, tmp_path / "home" / "blobs" / "sha256" / "ab", "../../../../blobs/sha256/ab"


@pytest.mark.parametrize("moved", [False, True], ids=["there", "on another disk"])
@pytest.mark.parametrize("kept", [as_snapshot, as_release])
def test_a_cache_that_shows_links_to_its_blobs_is_read(tmp_path, src, kept, moved):
    folder, blobs, way = kept(tmp_path, src)
    folder.mkdir(parents=True)
    blobs.mkdir(parents=True)
    for number, file in enumerate(sorted(src.iterdir())):
        digest = f"{number:064x}"
        file.rename(blobs / digest)
        (folder / file.name).symlink_to(f"{way}/{digest}")
    if moved:
        above = next(place for place in (blobs, *blobs.parents) if place.name == "blobs")
        above.rename(tmp_path / "disk")
        above.symlink_to(tmp_path / "disk")
    whole(folder, tmp_path)


def test_links_within_a_directory_that_is_a_link_itself_are_followed(tmp_path, src):
    """As a mounted ConfigMap has it."""
    (src / "..data").mkdir()
    (src / CONFIG).rename(src / "..data" / CONFIG)
    (src / CONFIG).symlink_to(f"..data/{CONFIG}")
    (tmp_path / "link").symlink_to("src")
    whole(tmp_path / "link", tmp_path)

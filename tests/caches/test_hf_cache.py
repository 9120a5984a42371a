"""`download --hf-cache`: what unmodified clients find offline, and what they have there already."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from internlm_zoo import download
from internlm_zoo.errors import IntegrityError, UnsupportedError, UsageError
from internlm_zoo.integrity.verify import verify_all
from internlm_zoo.settings import Settings
from tests.caches.official import HF, cached, python
from tests.hubs import FaultyHub
from tests.world import FILES, WEIGHTS, World, content_below, write

DEMO = "demo-internlm-base"
LOCAL = {"local_files_only": True}


def cache(world: World) -> Path:
    return world.folder / ".cache" / "huggingface" / "hub" / "models--acme--tiny"


def cached_offline(world: World, **options: object) -> str:
    asked = world.requests
    found = cached(world, HF, **LOCAL, **options)
    assert world.requests == asked
    return found


@pytest.mark.parametrize(
    "moved", [{}, {"HF_HOME": "h"}, {"HF_HUB_CACHE": "c"}], ids=["home", "HF_HOME", "HF_HUB_CACHE"]
)
def test_the_official_client_finds_it_offline(world: World, moved: dict[str, str]) -> None:
    world.environ |= {name: str(world.folder / place) for name, place in moved.items()}
    done = world.download(source="huggingface", hf_cache=True)
    found = cached_offline(world)
    assert (found, Path(found).name) == (str(done.shown_in), done.revision)
    assert content_below(Path(found)) == FILES
    assert str(world.folder.joinpath(*moved.values())) in found


def test_the_layout_is_the_clients_own(world: World, tmp_path: Path) -> None:
    """Blobs under the names that it gives them, so that both share them."""
    world.download(source="huggingface", hf_cache=True)
    world.environ["HF_HOME"] = str(tmp_path / "theirs")
    cached(world, HF)
    theirs = tmp_path / "theirs" / "hub" / "models--acme--tiny"
    for part in ("blobs", "refs", "snapshots"):
        assert content_below(cache(world) / part) == content_below(theirs / part)
    assert {path.name for path in cache(world).iterdir()} == {"blobs", "refs", "snapshots"}


def test_the_bytes_are_on_the_disk_once(world: World) -> None:
    done = world.download(source="huggingface", hf_cache=True)
    blob = (done.path / WEIGHTS).stat()
    shown = (cache(world) / "snapshots" / done.revision / WEIGHTS).stat()
    if blob.st_nlink == 1:
        pytest.skip("this file system shares blocks, not files")
    assert blob.st_ino == shown.st_ino


def test_an_edit_in_the_cache_is_noticed(world: World) -> None:
    done = world.download(source="huggingface", hf_cache=True)
    shown = cache(world) / "snapshots" / done.revision / WEIGHTS
    shown.chmod(0o644)
    shown.write_bytes(bytes(len(FILES[WEIGHTS])))
    if (done.path / WEIGHTS).stat().st_ino == shown.stat().st_ino:
        assert [wrong.path for wrong in verify_all("tiny", settings=world.settings)[0].wrong] == [WEIGHTS]
    assert content_below(world.download(source="huggingface").path) == FILES
    with pytest.raises(IntegrityError, match=f"other bytes for {WEIGHTS}") as caught:
        world.download(source="huggingface", hf_cache=True)
    assert "move it elsewhere" in str(caught.value.fix)
    assert shown.read_bytes() == bytes(len(FILES[WEIGHTS]))


def test_showing_it_again_changes_nothing(world: World) -> None:
    world.download(source="huggingface", hf_cache=True)
    before = {path: path.lstat().st_ino for path in cache(world).rglob("*")}
    world.download(source="huggingface", hf_cache=True)
    assert {path: path.lstat().st_ino for path in cache(world).rglob("*")} == before


def test_what_the_client_began_is_completed(world: World) -> None:
    cached(world, HF, allow_patterns=["*.json"])
    world.download(source="huggingface", hf_cache=True)
    assert content_below(Path(cached_offline(world))) == FILES


def test_what_a_killed_run_left_goes(world: World) -> None:
    left = python(
        world,
        "import os, pathlib, sys; from internlm_zoo.fs.ownership import Owner\n"
        f"part = Owner(pathlib.Path({str(cache(world))!r})).name('internlm-zoo')\n"
        "part.write_bytes(b'x'); print(part); sys.stdout.flush(); os._exit(0)",
    )
    assert Path(left).exists()
    world.download(source="huggingface", hf_cache=True)
    assert not [*cache(world).rglob("*.part"), *cache(world).rglob("*.life")]


def test_a_branch_that_leads_elsewhere_is_left_alone(world: World) -> None:
    other = "0123456789abcdef0123456789abcdef01234567"
    write(cache(world), {"refs/main": other.encode()})
    done = world.download(source="huggingface", hf_cache=True)
    assert (cache(world) / "refs" / "main").read_text() == other
    assert any(f"ask for revision {done.revision}" in note for note in done.notes)
    assert content_below(Path(cached_offline(world, revision=done.revision))) == FILES


@pytest.mark.parametrize("source", ["modelscope", "openxlab"])
def test_a_release_of_another_hub_has_its_name_on_hugging_face(world: World, source: str) -> None:
    """With the commit of the same content there where it is known, else with one that stands for it."""
    strange = world.download(source=source, format="hf", hf_cache=True)
    assert any(f"{source} does not tell the commit" in note for note in strange.notes)
    assert content_below(Path(cached_offline(world))) == FILES
    known = world.download(source="huggingface")
    assert world.download(source=source, format="hf", hf_cache=True).shown_in.name == known.revision
    assert content_below(Path(cached_offline(world, revision=known.revision))) == FILES


def test_online_the_client_shares_what_lies_there(world: World) -> None:
    """Of a release that came from ModelScope it fetches the small files only, whose names were not known."""
    world.download(source="modelscope", hf_cache=True)
    assert content_below(Path(cached(world, HF))) == FILES
    assert {seen.file for seen in world.hubs["huggingface"].downloads()}.isdisjoint(
        {WEIGHTS, "tokenizer.model"}
    )


def test_a_directory_that_stands_in_for_the_hub_will_do(world: World) -> None:
    done = world.download(source=str(world.root), format="hf", hf_cache=True)
    assert any("does not tell the commit" in note for note in done.notes)
    assert content_below(Path(cached_offline(world))) == FILES


def test_a_model_that_hugging_face_does_not_have_has_no_name_there(world: World) -> None:
    overlay = world.folder / "overlay.yaml"
    lines = overlay.read_text().splitlines(keepends=True)
    overlay.write_text("".join(line for line in lines if "{hub: huggingface" not in line))
    with pytest.raises(UnsupportedError, match="tiny has no name on Hugging Face"):
        world.download(hf_cache=True)
    assert world.requests == 0


@pytest.mark.parametrize(
    "options", [{"format": "original"}, {"local_dir": Path("x")}, {"include": ["*.json"]}], ids=str
)
def test_parts_and_other_formats_are_refused_before_a_request(world: World, options: dict) -> None:
    with pytest.raises(UsageError, match="whole releases"):
        world.download(hf_cache=True, **options)
    assert world.requests == 0


def test_a_dry_run_shows_nothing(world: World) -> None:
    world.plan(source="huggingface", hf_cache=True)
    assert not cache(world).exists()


@pytest.mark.slow
def test_transformers_finds_the_model_offline(tmp_path: Path) -> None:
    """The same numbers as from the folder that the hub serves."""
    from internlm_zoo import convert
    from internlm_zoo.demo.environment import BUNDLED, OVERLAY

    served = tmp_path / "hub" / "internlm-zoo" / DEMO
    quiet = Settings(home=tmp_path / "build", offline=True)
    convert(BUNDLED / DEMO, served, settings=quiet, to="llama", known_as=DEMO)
    environ = {"HOME": str(tmp_path), "INTERNLM_ZOO_HOME": str(tmp_path / "store")}
    environ["INTERNLM_ZOO_REGISTRY"] = str(OVERLAY)
    with FaultyHub(tmp_path / "hub") as hub:
        environ |= hub.env
        download(DEMO, settings=Settings.from_environment(environ), source="huggingface", hf_cache=True)
    program = (
        "import json, torch, transformers as t\n"
        "def numbers(place, **how):\n"
        "    config = t.AutoConfig.from_pretrained(place, **how)\n"
        "    ids = t.AutoTokenizer.from_pretrained(place, **how)('Hello', return_tensors='pt')['input_ids']\n"
        "    base = t.AutoModel.from_pretrained(place, **how)\n"
        "    model = t.AutoModelForCausalLM.from_pretrained(place, **how)\n"
        "    with torch.no_grad(): logits = model(ids).logits[0, -1].float().tolist()\n"
        "    return [config.model_type, type(base).__name__, ids.tolist(), logits]\n"
        f"found = [numbers('internlm-zoo/{DEMO}', local_files_only=True), numbers({str(served)!r})]\n"
        "print(json.dumps(found))"
    )
    by_name, by_folder = json.loads(python(World(tmp_path, {}, environ), program))
    assert by_name == by_folder
    assert by_name[:2] == ["llama", "LlamaModel"]

"""The Python API against the command line's engine: a model from the package's own hub, all the way."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

import internlm_zoo as zoo
from internlm_zoo.settings import Settings
from tests.world import open_world

MODEL = "demo-internlm2-chat"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("home"), offline=True)


def test_models_are_listed_and_found_by_name(settings: Settings) -> None:
    names = [model.name for model in zoo.list_models(settings=settings)]
    assert "internlm-chat-20b" in names and MODEL in names
    chosen = zoo.list_models(family="internlm2", kind="chat", settings=settings)
    assert chosen and {(model.family, model.kind) for model in chosen} == {("internlm2", "chat")}
    assert zoo.get_model("internlm-20b", settings=settings).architecture.num_layers == 60


def test_a_misspelt_model_is_an_error_that_suggests(settings: Settings) -> None:
    with pytest.raises(zoo.ZooError, match="internlm-20") as raised:
        zoo.get_model("internlm-20", settings=settings)
    assert "internlm-20b" in str(raised.value.fix)


def test_download_verify_convert(settings: Settings, tmp_path: Path) -> None:
    folder = zoo.download(MODEL, source="bundled", settings=settings)
    assert isinstance(folder, os.PathLike)
    assert Path(folder) == Path(str(folder)) == (folder / "any").parent == folder.path
    assert (folder.hub, folder.fetched_bytes) == ("bundled", sum(file.size or 0 for file in folder.files))
    shipped = Path(zoo.__file__).parent / "demo/models" / MODEL / "model_tp0_pp0.pt"
    assert sha256(folder / "model_tp0_pp0.pt") == sha256(shipped)
    assert zoo.verify(MODEL, settings=settings).ok
    made = zoo.convert(MODEL, tmp_path / "hf", to="hf", engine="threads", settings=settings)
    assert Path(made) == tmp_path / "hf" and (made / "model.safetensors").exists()
    assert zoo.compare(folder, made).same and zoo.fingerprint(folder) == made.fingerprints
    assert zoo.inspect(made, settings=settings).sound


def test_a_conversion_is_planned_and_nothing_is_written(settings: Settings, tmp_path: Path) -> None:
    plan = zoo.plan_conversion(MODEL, zoo.ConversionOptions("original", tp=2), settings=settings)
    assert len(plan.files) == 2 and plan.nbytes > 0


def test_releases_are_held_against_their_hubs_and_mirrors_planned(settings: Settings, tmp_path: Path) -> None:
    with ExitStack() as stack:
        world = open_world(tmp_path, stack)
        assert {one.state for one in zoo.status(["tiny"], settings=world.settings)} >= {"first", "same"}
        file = tmp_path / "locked.yaml"
        locked = zoo.lock(["tiny"], file=file, settings=world.settings)
        assert locked and file.exists()
        (tmp_path / "mirror.yaml").write_text("destination: mirror\nmodels: [tiny]\n")
        planned = zoo.plan_mirror(tmp_path / "mirror.yaml", include=["*.json"], settings=world.settings)
        assert planned.result == "changes" and not (tmp_path / "mirror").exists()
        assert zoo.apply_mirror(tmp_path / "mirror.yaml", settings=world.settings).result == "changed"
        assert zoo.diff_mirror(tmp_path / "mirror.yaml", settings=world.settings).result == "no change"


def test_load_and_smoke_test(settings: Settings) -> None:
    pytest.importorskip("torch")
    model, tokenizer = zoo.load(MODEL, devices=["cpu"], dtype="float32", settings=settings)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert tokenizer is not None and tokenizer.bos_token_id == 1
    result = zoo.smoke_test(MODEL, settings=settings)
    assert result.ok, result.sentence


def test_a_model_answers_and_a_plan_stands_for_it(settings: Settings) -> None:
    pytest.importorskip("torch")
    plan = zoo.plan_load(MODEL, devices=["cpu"], dtype="float32", settings=settings)
    assert (plan.directory.title, plan.dtype) == (MODEL, "float32")
    answer = zoo.generate(
        MODEL, "Hello", max_new_tokens=8, devices=["cpu"], dtype="float32", settings=settings
    )
    assert answer.text and answer.text == zoo.generate(plan, "Hello", max_new_tokens=8).text
    assert answer.text != zoo.generate(plan, "Hello", max_new_tokens=8, raw=True).text
    with pytest.raises(zoo.ZooError, match="no reward model"):
        zoo.scores(plan, ["Hello"])


def test_every_format_of_a_model_is_verified(tmp_path: Path) -> None:
    with ExitStack() as stack:
        world = open_world(tmp_path, stack)
        for format in ("hf", "original"):
            folder = zoo.download("tiny", format=format, settings=world.settings)
            (folder / "mine.txt").write_text("mine")
        found = zoo.verify("tiny", settings=world.settings)
        assert not found.ok and len(found.folders) == 2
        assert found.extra == ("mine.txt", "mine.txt") and not found.wrong and not found.missing


def test_functions_keep_their_names_after_every_module_is_imported() -> None:
    pytest.importorskip("torch")
    code = (
        "import internlm_zoo as zoo, pkgutil, importlib\n"
        "for module in pkgutil.walk_packages(zoo.__path__, 'internlm_zoo.'):\n"
        "    importlib.import_module(module.name)\n"
        "print([name for name in zoo.__all__ if not callable(getattr(zoo, name))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()

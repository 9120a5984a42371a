"""The models that the family began with, and the demo models, come from every source that the registry
names."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from internlm_zoo import download
from internlm_zoo.demo.environment import OVERLAY
from internlm_zoo.registry import Release, load_registry
from internlm_zoo.settings import Settings
from tests.hubs import FaultyHub
from tests.world import ENDPOINTS, content_below, write

SEEDS = ("internlm-7b", "internlm-chat-7b", "internlm-20b", "internlm-chat-20b")
DEMOS = ("demo-internlm-base", "demo-internlm2-chat")
NAMES: dict[str | None, tuple[str, ...]] = {
    "hf": ("config.json", "pytorch_model-00001-of-00002.bin", "tokenizer.model"),
    "original": ("model_config.pt", "model_tp0_pp0.pt", "tokenizer.model"),
    "awq": ("config.json", "pytorch_model-00001-of-00002.bin", "quant_config.json"),
}
REGISTRY = load_registry(Settings(Path("unused"), registry=OVERLAY))
RELEASES = [(model, release) for model in (*SEEDS, *DEMOS) for release in REGISTRY.model(model).releases]
FAR = [(model, release) for model, release in RELEASES if release.hub in ENDPOINTS]


def content_of(release: Release) -> dict[str, bytes]:
    """Of a kind with the format; the hubs of one model hold the same, under whatever name."""
    seed = f"{release.repo.rpartition('/')[2].lower()} {release.format}"
    return {name: random.Random(f"{seed} {name}").randbytes(20_000) for name in NAMES[release.format]}


@pytest.fixture(scope="module")
def hubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, FaultyHub]]:
    with ExitStack() as stack:
        hubs = {}
        for name in ENDPOINTS:
            root = tmp_path_factory.mktemp(name)
            for _, release in FAR:
                if release.hub == name:
                    write(root / release.repo, content_of(release))
            hubs[name] = stack.enter_context(FaultyHub(root))
        yield hubs


def test_each_has_its_sources() -> None:
    for model in (*SEEDS, *DEMOS):
        own = [release for name, release in FAR if name == model and not release.quantised]
        found = {(release.hub, release.format) for release in own}
        expected = {("huggingface", "hf"), ("modelscope", "hf"), ("openxlab", "hf"), ("openxlab", "original")}
        # The models of 2023 are not on Modelers; the demo models are served as on every hub.
        assert found == expected | ({("modelers", "hf")} if model in DEMOS else set())


@pytest.mark.parametrize(("model", "release"), FAR, ids=[f"{name}-{release.id}" for name, release in FAR])
def test_it_comes_from_each_of_them(
    hubs: dict[str, FaultyHub], tmp_path: Path, model: str, release: Release
) -> None:
    environ = {variable: hubs[name].url for name, variable in ENDPOINTS.items()}
    settings = Settings(tmp_path, registry=OVERLAY, environ={**environ, "HOME": str(tmp_path)})
    done = download(model, settings=settings, source=release.hub, format=release.format)
    assert (done.hub, done.repo) == (release.hub, release.repo)
    assert content_below(done.path) == content_of(release)
    assert set(done.served) == {release.hub}

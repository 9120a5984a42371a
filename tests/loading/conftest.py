"""The demo models in every format that can be loaded, converted once."""

from __future__ import annotations

import shutil

import pytest

from tests.loading.demo import FORMS, MODELS, Directories, home_of


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Both sides of a comparison on one thread, as sums over parts come out otherwise on several."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def directories(tmp_path_factory) -> Directories:
    """(model, form) -> directory."""
    from internlm_zoo import convert
    from internlm_zoo.demo.environment import BUNDLED

    folder = tmp_path_factory.mktemp("forms")
    made = {}
    for model in MODELS:
        for form, how in FORMS.items():
            if how is None:
                # A smoke test writes there.
                made[model, form] = shutil.copytree(BUNDLED / model, folder / model)
                continue
            made[model, form] = folder / f"{model}-{form}"
            convert(
                BUNDLED / model,
                made[model, form],
                settings=home_of(folder),
                known_as=model,
                evidence=False,
                **how,
            )
    return made

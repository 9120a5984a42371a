"""internlm-zoo: get InternLM models from any hub, know they are intact, convert, load and try them.

    import internlm_zoo as zoo
    path = zoo.download("internlm-chat-7b", format="hf", source="auto")

Everything here is in `internlm_zoo.api` and `internlm_zoo.running`, imported on first use:
`import internlm_zoo` itself loads nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from internlm_zoo.api import convert as convert
    from internlm_zoo.api import download as download
    from internlm_zoo.api import get_model as get_model
    from internlm_zoo.api import list_models as list_models
    from internlm_zoo.api import plan_download as plan_download
    from internlm_zoo.api import verify as verify
    from internlm_zoo.display.notebook import NotebookProgress as NotebookProgress
    from internlm_zoo.errors import Cancelled as Cancelled
    from internlm_zoo.errors import ZooError as ZooError
    from internlm_zoo.progress import Progress as Progress
    from internlm_zoo.running import load as load
    from internlm_zoo.running import score as score
    from internlm_zoo.running import smoke_test as smoke_test

__all__ = [
    "Cancelled",
    "NotebookProgress",
    "Progress",
    "ZooError",
    "convert",
    "download",
    "get_model",
    "list_models",
    "load",
    "plan_download",
    "score",
    "smoke_test",
    "verify",
]


# Of the names that are not in `api`.
_HOMES = {
    "Cancelled": "errors",
    "NotebookProgress": "display.notebook",
    "Progress": "progress",
    "ZooError": "errors",
    "load": "running",
    "score": "running",
    "smoke_test": "running",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("internlm-zoo")
        except PackageNotFoundError:  # run from a source tree that was never installed
            return "0+unknown"
    if name in __all__:
        return getattr(import_module(f"internlm_zoo.{_HOMES.get(name, 'api')}"), name)
    raise AttributeError(f"module 'internlm_zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

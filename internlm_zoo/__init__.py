"""internlm-zoo: get InternLM models from any hub, know they are intact, convert, load and try them.

    import internlm_zoo as zoo
    path = zoo.download("internlm-chat-7b", format="hf", source="auto")

Everything here is in the modules of `internlm_zoo.api`, imported on first use: `import internlm_zoo` itself
loads nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converters.options import ConversionOptions as ConversionOptions
    from internlm_zoo.api.catalogue import get_model as get_model
    from internlm_zoo.api.catalogue import list_models as list_models
    from internlm_zoo.api.catalogue import lock as lock
    from internlm_zoo.api.catalogue import status as status
    from internlm_zoo.api.chat import chat as chat
    from internlm_zoo.api.checkpoints import compare as compare
    from internlm_zoo.api.checkpoints import compare_logits as compare_logits
    from internlm_zoo.api.checkpoints import convert as convert
    from internlm_zoo.api.checkpoints import fingerprint as fingerprint
    from internlm_zoo.api.checkpoints import inspect as inspect
    from internlm_zoo.api.checkpoints import plan_conversion as plan_conversion
    from internlm_zoo.api.downloads import download as download
    from internlm_zoo.api.downloads import plan_download as plan_download
    from internlm_zoo.api.downloads import verify as verify
    from internlm_zoo.api.fitting import fit as fit
    from internlm_zoo.api.mirrors import apply_mirror as apply_mirror
    from internlm_zoo.api.mirrors import diff_mirror as diff_mirror
    from internlm_zoo.api.mirrors import plan_mirror as plan_mirror
    from internlm_zoo.api.running import bench_load as bench_load
    from internlm_zoo.api.running import generate as generate
    from internlm_zoo.api.running import load as load
    from internlm_zoo.api.running import plan_load as plan_load
    from internlm_zoo.api.running import score as score
    from internlm_zoo.api.running import scores as scores
    from internlm_zoo.api.smoke import smoke_miniatures as smoke_miniatures
    from internlm_zoo.api.smoke import smoke_test as smoke_test
    from internlm_zoo.api.training import checkpoint_reader as checkpoint_reader
    from internlm_zoo.api.training import iter_tensors as iter_tensors
    from internlm_zoo.display.notebook import NotebookProgress as NotebookProgress
    from internlm_zoo.errors import Cancelled as Cancelled
    from internlm_zoo.errors import ZooError as ZooError
    from internlm_zoo.progress import Progress as Progress

# Where each name is.
_HOMES = {
    "Cancelled": "internlm_zoo.errors",
    "chat": "internlm_zoo.api.chat",
    "ConversionOptions": "converters.options",
    "fit": "internlm_zoo.api.fitting",
    "NotebookProgress": "internlm_zoo.display.notebook",
    "Progress": "internlm_zoo.progress",
    "ZooError": "internlm_zoo.errors",
    **dict.fromkeys(("get_model", "list_models", "lock", "status"), "internlm_zoo.api.catalogue"),
    **dict.fromkeys(("compare", "compare_logits", "convert"), "internlm_zoo.api.checkpoints"),
    **dict.fromkeys(("fingerprint", "inspect", "plan_conversion"), "internlm_zoo.api.checkpoints"),
    **dict.fromkeys(("download", "plan_download", "verify"), "internlm_zoo.api.downloads"),
    **dict.fromkeys(("apply_mirror", "diff_mirror", "plan_mirror"), "internlm_zoo.api.mirrors"),
    **dict.fromkeys(("bench_load", "generate", "load"), "internlm_zoo.api.running"),
    **dict.fromkeys(("plan_load", "score", "scores"), "internlm_zoo.api.running"),
    **dict.fromkeys(("smoke_miniatures", "smoke_test"), "internlm_zoo.api.smoke"),
    **dict.fromkeys(("checkpoint_reader", "iter_tensors"), "internlm_zoo.api.training"),
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("internlm-zoo")
        except PackageNotFoundError:  # run from a source tree that was never installed
            return "0+unknown"
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'internlm_zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

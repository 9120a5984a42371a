"""The command line: one module per group of verbs, no logic of its own."""

from __future__ import annotations

import importlib
import os
import sys

from converters.system.threads import available

# Module -> its commands and groups, in the order `--help` shows them.
_MODULES = {
    "catalogue": ("list", "show", "evals", "registry"),
    "download": ("download", "pull", "verify"),
    "cache": ("cache",),
    "lock": ("lock",),
    "status": ("status",),
    "convert": ("convert",),
    "checkpoints": ("fingerprint", "compare", "inspect"),
    "fit": ("fit",),
    "models": ("load", "generate", "score"),
    "smoke": ("smoke",),
    "chat": ("chat",),
    "mirror": ("mirror",),
    "serve": ("serve",),
    "demo": ("demo",),
}

# Libraries that make one for every processor and, where they get none, interrupt the process (OpenBLAS raises
# SIGINT in blas_thread_init), end it (OpenMP) or panic (Rust's rayon, in tokenizers).
_FEW_THREADS = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1"
)


def main(args: list[str] | None = None) -> None:
    """The `internlm-zoo` entry point. args: defaults to the process's own; always exits."""
    from internlm_zoo.cli.signals import code_of, install_handlers, outcome

    install_handlers()
    try:
        from internlm_zoo.cli.shell import run
        from internlm_zoo.cli.streams import reserve_descriptors

        reserve_descriptors()
        _ask_for_few_threads()
        args = sys.argv[1:] if args is None else args
        load_commands(*args[:1])
        code = run(args)
    except KeyboardInterrupt as error:
        code = code_of(error)
    except SystemExit as error:  # of a library that has handlers of its own, as Ray's
        code = error.code if isinstance(error.code, int) else 1
    sys.exit(outcome(code))


def load_commands(name: str | None = None) -> None:
    """Registers every command with `internlm_zoo.cli.shell.app`; of one that is named, its module's alone."""
    for module in [one for one, names in _MODULES.items() if name in names] or _MODULES:
        importlib.import_module(f"internlm_zoo.cli.{module}")


def _ask_for_few_threads() -> None:
    """Where there is not one for every processor. Tokenizers get one text at a time, and need none."""
    from internlm_zoo.settings import set_for_libraries

    few = {} if available(os.cpu_count() or 1) else _FEW_THREADS
    set_for_libraries({"TOKENIZERS_PARALLELISM": "false", **few})

"""The command line: one module per group of verbs, no logic of its own."""

from __future__ import annotations

import importlib
import sys

# In the order `--help` shows them.
_MODULES = (
    "catalogue",
    "download",
    "cache",
    "lock",
    "status",
    "convert",
    "compare",
    "inspect",
    "models",
    "score",
    "mirror",
    "serve",
    "demo",
)


def main(args: list[str] | None = None) -> None:
    """The `internlm-zoo` entry point. args: defaults to the process's own; always exits."""
    from internlm_zoo.cli.signals import code_of, heed, outcome

    heed()
    try:
        from internlm_zoo.cli.outlets import own_the_descriptors
        from internlm_zoo.cli.shell import run

        own_the_descriptors()
        for module in _MODULES:
            importlib.import_module(f"internlm_zoo.cli.{module}")
        code = run(sys.argv[1:] if args is None else args)
    except KeyboardInterrupt as error:
        code = code_of(error)
    sys.exit(outcome(code))

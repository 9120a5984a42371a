"""Imports torch, transformers and accelerate: there or a clear error, and quiet while they work."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout

from internlm_zoo.errors import UnsupportedError, UsageError

_PACKAGES = ("torch", "transformers", "accelerate", "sentencepiece")
_CHATTY = ("accelerate", "transformers")


def require_torch() -> None:
    """Raises UnsupportedError if what the `torch` extra installs is not there, and UsageError if it does not
    start: huggingface_hub reads variables as it is imported."""
    for package in _PACKAGES:
        try:
            with redirect_stdout(sys.stderr):  # where it says what it thinks of them
                importlib.import_module(package)
        except ValueError as error:
            what = f"{package} does not start with the variables of this environment: {error}"
            raise UsageError(what, fix="correct or unset those that it reads; HF_ENDPOINT is one") from error
        except ModuleNotFoundError as error:
            if error.name != package:
                raise
            raise UnsupportedError(
                f"loading a model needs {package}, which is not installed",
                fix="pip install 'internlm-zoo[torch]'",
            ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """No advice from transformers and accelerate inside; their errors still come through. Where it is quiet
    already nothing is done: another level makes every logger forget what it knows."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    with ExitStack() as stack:
        for logger in (one for one in loggers if one.level != logging.ERROR):
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread inside: on small matrices threads only wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

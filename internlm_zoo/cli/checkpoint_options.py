"""Options of every command that reads a checkpoint: what a user knows of it and its files do not say."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from converters.formats.jsontext import json_value
from internlm_zoo.errors import UsageError

_MOST = 1 << 20  # bytes of one value

KnownAs = Annotated[str | None, typer.Option("--as", help="The registry model that the directory holds.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Threads; default: one per processor, at most 4.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A fact that the checkpoint does not state."),
]

Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="NAME",
        help="Which of several sets of weights: original, hf or the name of a file.",
    ),
]


def facts_given(pairs: list[str]) -> dict[str, Any]:
    """KEY=VALUE: VALUE as JSON where it is JSON, else as text."""
    given = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise UsageError(
                f"{pair!r} is not KEY=VALUE", "--set", "write for example --set rms_norm_eps=1e-5"
            )
        try:
            given[key] = json_value(text.encode("utf-8", "surrogateescape"), _MOST)
        except ValueError:
            given[key] = text
    return given

"""Options of every command that reads a checkpoint: what a user knows of it and its files do not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from converters.formats.jsontext import json_value
from internlm_zoo.cli.option_groups import Options
from internlm_zoo.errors import UsageError

_MOST = 1 << 20  # bytes of one value

Workers = Annotated[int | None, "Threads; default: one per processor, at most 4."]
TargetModel = Annotated[
    str, typer.Argument(help="Registry name, or a directory in hf, llama or original format.")
]
MaxMemory = Annotated[
    str | None,
    typer.Option("--max-memory", metavar="SIZE", help="Of each device: 20GB, or cuda:0=20GB,cpu=8GB."),
]
Context = Annotated[int | None, "Tokens of one text to keep room for; default: as trained, or fewer."]
KnownAs = Annotated[str | None, typer.Option("--as", help="The registry model that the directory holds.")]


@dataclass(frozen=True)
class GivenOptions(Options):
    """What it is, as the user says."""

    given: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A fact that the checkpoint does not state."),
    ] = None

    def keywords(self) -> dict[str, Any]:
        return {**super().keywords(), "given": facts_given(self.given or [])}


@dataclass(frozen=True)
class WeightsOptions(GivenOptions):
    """And which of its weights."""

    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", metavar="NAME", help="Which of several sets: original, hf or a file's name."
        ),
    ] = None


@dataclass(frozen=True)
class CheckpointOptions(WeightsOptions):
    """And whose."""

    known_as: KnownAs = None


@dataclass(frozen=True)
class DeviceOptions(CheckpointOptions):
    """And where it runs."""

    devices: Annotated[
        str | None, "For consecutive layers, or one for each rank: cuda:0,cuda:1 or cuda:0,cpu,disk."
    ] = None
    parallel: Annotated[
        str, "How to split: layers puts consecutive ones on each device, tensor a share of all on each rank."
    ] = "layers"
    pp: Annotated[int, "Stages that the ranks are divided into, each with consecutive layers."] = 1

    def keywords(self) -> dict[str, Any]:
        names = self.devices and [name.strip() for name in self.devices.split(",")]
        return {**super().keywords(), **({"devices": names} if names else {})}


@dataclass(frozen=True)
class ModelOptions(DeviceOptions):
    """And in which element type."""

    dtype: Annotated[str | None, "float32, float16, bfloat16, float64; default: that of most bytes."] = None
    mmap: Annotated[
        bool,
        typer.Option(
            "--mmap/--no-mmap",
            help="Leave tensors in files that lie as they are needed, or read them all (network disks).",
        ),
    ] = True


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

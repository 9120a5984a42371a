"""What everything written in the registry has in common."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from internlm_zoo.names import fault_in

Text = Annotated[str, Field(min_length=1)]
Scalar = bool | int | float | str | None
Config = Mapping[str, Scalar | Mapping[str, Scalar]]
# A day, or a month where the day is not known.
Day = date | Annotated[str, Field(pattern="^[0-9]{4}-[0-9]{2}$")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
GitSha1 = Annotated[str, Field(pattern="^[0-9a-f]{40}$")]


def _file_path(path: str) -> str:
    if fault := fault_in(path):
        raise ValueError(f"refused the file name {path!r}: {fault}")
    return path


FilePath = Annotated[str, AfterValidator(_file_path)]
"""Of a file inside a release."""
Size = Annotated[int, Field(ge=0, lt=1 << 63)]
"""Of a file, in bytes; no system has a larger one."""


class RegistryEntry(BaseModel):
    """Anything written in the registry."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, use_attribute_docstrings=True)


class Named(RegistryEntry):
    name: SkipJsonSchema[str]
    """The key it stands under in the file."""

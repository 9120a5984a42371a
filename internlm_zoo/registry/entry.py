"""What everything written in the registry has in common."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetPydanticSchema
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import CoreSchema, core_schema

from internlm_zoo.files import ALGORITHMS, File
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

LINE = ("path", "size", "sha256")
"""What the line of a file has always, null or not."""


def _line(_: object, handler: GetCoreSchemaHandler) -> CoreSchema:
    """A file with its digests beside path and size, each in the form that it must have."""
    kinds: dict[str, Any] = {"path": FilePath, "size": Size | None}
    for name, algorithm in ALGORITHMS.items():
        kinds[name] = Annotated[str, Field(pattern=f"^{algorithm.form.pattern}$")] | None
    fields = {
        name: core_schema.typed_dict_field(handler.generate_schema(kind), required=name in LINE)
        for name, kind in kinds.items()
    }
    return core_schema.no_info_after_validator_function(
        File.of,
        core_schema.typed_dict_schema(fields, extra_behavior="forbid"),
        serialization=core_schema.plain_serializer_function_ser_schema(lambda file: file.facts),
    )


FileLine = Annotated[File, GetPydanticSchema(_line)]
"""A file as the lock and records have it."""


class RegistryEntry(BaseModel):
    """Anything written in the registry."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, use_attribute_docstrings=True)


class Named(RegistryEntry):
    name: SkipJsonSchema[str]
    """The key it stands under in the file."""

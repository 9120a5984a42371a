"""Where each logical tensor lives: one table per family and format. To add a family, add its tables here."""

from __future__ import annotations

from converters.errors import UnsupportedError
from converters.layouts import gguf, internlm, internlm2, internlm3, llama
from converters.layouts.table import Layout

LAYOUTS: tuple[Layout, ...] = (
    internlm.ORIGINAL,
    internlm.HF,
    internlm2.ORIGINAL,
    internlm2.HF,
    internlm3.HF,
    llama.LLAMA,
    gguf.GGUF,
)
FORMATS = tuple(dict.fromkeys(layout.format for layout in LAYOUTS))
# What any family is written in: Llama's architecture.
EVERYONES = (llama.LLAMA, gguf.GGUF)


def is_everyones(format: str) -> bool:
    """Whether checkpoints of any family are written in it, and it does not say of which they are."""
    return any(layout.format == format for layout in EVERYONES)


def layout_of(family: str, format: str) -> Layout:
    """The table for a family in a format. Raises UnsupportedError where none was ever published."""
    formats = {layout.format: layout for layout in LAYOUTS if layout.family == family or layout in EVERYONES}
    if format not in formats:
        what = f"there is no {format} format of the family {family}: none was published"
        raise UnsupportedError(what, "`to`", f"convert to {' or '.join(sorted(formats))}")
    return formats[format]


def is_self_contained(format: str) -> bool:
    """Whether config and tokenizer lie in the file of weights."""
    return any(layout.container.self_contained for layout in layouts_in(format))


def layouts_in(format: str) -> tuple[Layout, ...]:
    """Every family's table for a format."""
    return tuple(layout for layout in LAYOUTS if layout.format == format)

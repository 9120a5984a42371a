"""Where each logical tensor lives: one table per family and format. To add a family, add its tables here."""

from __future__ import annotations

from converters.errors import UnsupportedError
from converters.layouts import internlm, internlm2, internlm3, llama
from converters.layouts.table import Layout

LAYOUTS: tuple[Layout, ...] = (
    internlm.ORIGINAL,
    internlm.HF,
    internlm2.ORIGINAL,
    internlm2.HF,
    internlm3.HF,
    llama.LLAMA,
)


def layout_of(family: str, format: str) -> Layout:
    """The table for a family in a format. Raises UnsupportedError where none was ever published."""
    if format == "llama":
        return llama.LLAMA
    for layout in LAYOUTS:
        if (layout.family, layout.format) == (family, format):
            return layout
    raise UnsupportedError(
        f"there is no {format} format of the family {family}: none was published",
        "--to",
        "convert to " + " or ".join(sorted({x.format for x in LAYOUTS if x.family == family} | {"llama"})),
    )


def layouts_in(format: str) -> tuple[Layout, ...]:
    """Every family's table for a format."""
    return tuple(layout for layout in LAYOUTS if layout.format == format)

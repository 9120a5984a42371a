"""The most that one apply may remove. What goes unseen otherwise: a hub that lists half of its files, a glob
with a typing error, a model that left the registry."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from converters.progress import byte_count

if TYPE_CHECKING:
    from internlm_zoo.mirror.values import FileCounts, MirrorPlan

_WRITTEN = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*(%?)", re.ASCII)  # digits that float keeps exact
_WHOLE = 100


@dataclass(frozen=True)
class Limit:
    """A number of files, or a percentage of the files and of the bytes that lie there: of the whole mirror,
    and of each release that stays in it."""

    amount: Fraction
    percent: bool

    @classmethod
    def parse(cls, text: str | int) -> Limit:
        """Raises ValueError, in words, for what is neither."""
        written = None if isinstance(text, bool) else _WRITTEN.fullmatch(str(text).strip())
        amount, percent = (Fraction(written[1]), bool(written[2])) if written else (Fraction(-1), False)
        whole = percent or amount.denominator == 1
        if written is None or not whole or (percent and amount > _WHOLE):
            neither = "is neither a number of files, such as 20, nor a percentage, such as 25%"
            raise ValueError(f"{text!r} {neither}")
        return cls(amount, percent)

    def __str__(self) -> str:
        number = f"{float(self.amount):.6f}".rstrip("0").rstrip(".")
        return f"{number}%" if self.percent else number

    def allows(self, counts: FileCounts) -> bool:
        going, here = counts.delete, counts.here
        if not self.percent:
            return going.files <= self.amount
        return all(
            part * _WHOLE <= self.amount * whole
            for part, whole in ((going.files, here.files), (going.bytes, here.bytes))
        )


DEFAULT = Limit.parse("25%")


def excess(plan: MirrorPlan, limit: Limit) -> str | None:
    """What the plan removes beyond the limit, in a sentence; None if nothing."""
    if not limit.allows(plan.counts):
        return _sentence(plan.counts, "that lie in the mirror", limit)
    for item in plan.items if limit.percent else ():
        if not limit.allows(item.counts):
            return _sentence(item.counts, f"of {item.entry.path}", limit)
    return None


def _sentence(counts: FileCounts, where: str, limit: Limit) -> str:
    going, here = counts.delete, counts.here
    size = f"{byte_count(going.bytes)} of {byte_count(here.bytes)}"
    return f"{going.files} of the {here.files} files {where} would be removed, {size}; max_delete is {limit}"

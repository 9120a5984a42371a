"""Which layout a checkpoint follows: by the names of its tensors, or by what its config says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from converters import layouts
from converters.containers.container import FolderContents
from converters.errors import UnsupportedError
from converters.layouts.table import Layout
from converters.source.match import Stored
from converters.source.other_models import refuse_foreign
from converters.values import shown

_NUMBER = re.compile(r"\.\d+\.")
_LAYER = re.compile(r"[0-9]{1,6}")


def recognise(found: FolderContents) -> Layout:
    """By the names of most tensors of an original checkpoint, else by the config's model_type.

    Raises UnsupportedError if it is of no layout that is known, or of another kind of model.
    """
    refuse_foreign(found)
    names = [tensor.name for tensor in found.tensors]
    known = tuple(layout for layout in layouts.LAYOUTS if layout.container == found.container)
    if not found.container.says_layout:
        best = max(known, key=partial(_like, names))
        if _like(names, best):
            return best
        raise UnsupportedError("its tensors are named as in no family that is known", found.folder.name)
    if len(known) == 1:
        return known[0]
    kind = found.config.get("model_type")
    for layout in known:
        if layout.template["model_type"] == kind:
            _check_names(found, layout, names)
            return layout
    kinds = sorted(str(layout.template["model_type"]) for layout in known)
    raise UnsupportedError(
        f"model_type {shown(kind)} is not one of {', '.join(kinds)}", found.folder.where(found.config_file)
    )


def _like(names: Sequence[str], layout: Layout) -> int:
    """How many names begin as those of the layout's layers do."""
    return sum(name.removeprefix(layout.prefix).startswith(_layer_names(layout)) for name in names)


def _check_names(found: FolderContents, layout: Layout, names: Sequence[str]) -> None:
    """Raises UnsupportedError if the layers are named as in another layout, so that the config is of another
    model."""
    patterns = {pattern for name in names if ".N." in (pattern := _NUMBER.sub(".N.", name))}
    if not patterns or patterns & _of_layers(layout):
        return
    known = (*layouts.layouts_in("llama"), *layouts.LAYOUTS)
    like = next((other.name for other in known if patterns & _of_layers(other)), "nothing known")
    what = f"its config says {layout.template['model_type']}, and its tensors are named as in {like}"
    fix = "put the config.json of these weights there"
    raise UnsupportedError(what, found.folder.where(found.config_file), fix)


def _of_layers(layout: Layout) -> frozenset[str]:
    return frozenset(name for row in layout.rows for name in row.stored if ".N." in name)


def stages_of(layout: Layout, stored: Stored, pp: int) -> tuple[range, ...]:
    """The layers of each stage, by the numbers in the names of its first rank."""
    heads = _layer_names(layout)
    stages, start = [], 0
    for stage in range(pp):
        numbers = {
            number
            for name in stored[0, stage]
            for head in heads
            if name.startswith(head) and _LAYER.fullmatch(number := name[len(head) :].partition(".")[0])
        }
        stages.append(range(start, start + len(numbers)))
        start += len(numbers)
    return tuple(stages)


def _layer_names(layout: Layout) -> tuple[str, ...]:
    """What stands before the number of a layer in the stored names."""
    return tuple({name.partition("N.")[0] for row in layout.rows for name in row.stored if ".N." in name})

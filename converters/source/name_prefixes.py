"""Names that wrappers put before, or into, the names of a model's tensors; they are taken off, and said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from converters.containers.container import FolderContents, StoredFile


@dataclass(frozen=True)
class Wrapper:
    """prefix: of all names. becomes: what stands there instead. heads: names of those that need not have it.
    inside: what some names must have after it, where the prefix alone says nothing."""

    prefix: str
    by: str
    becomes: str = ""
    heads: tuple[str, ...] = ()
    inside: str = ""


_HEADS = ("lm_head.", "output.", "v_head.", "score.")
WRAPPERS = (
    Wrapper("module.", "DistributedDataParallel or DeepSpeed"),
    Wrapper("_orig_mod.", "torch.compile"),
    Wrapper("_fsdp_wrapped_module.", "FSDP"),
    Wrapper("_forward_module.", "Lightning Fabric"),
    Wrapper("base_model.model.", "peft"),
    Wrapper("pretrained_model.", "TRL"),
    Wrapper("model.language_model.", "a model of more than text", "model.", _HEADS),
    Wrapper("language_model.", "a model of more than text"),
    Wrapper("llm.", "a model of more than text"),
    Wrapper("transformer.", "an older modeling file"),
    Wrapper("model.", "a module that holds the model", inside="model."),
)
MARKS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")
"""What FSDP, activation checkpointing and torch.compile put inside names, too."""


def unwrapped(found: FolderContents) -> FolderContents:
    """The same with the tensors called by the names of the model, and a note of what was taken off.

    The keys of a file's tensors stay the names that it has.
    """
    names = [name for file in found.weight_files for name in file.tensors]
    taken: list[str] = []
    new = list(names)
    while wrapper := _common(new):
        new = [_without(wrapper, name) for name in new]
        taken.append(f"{wrapper.prefix} ({wrapper.by})")
    inner = [_unmarked(name) for name in new]
    taken += [mark for mark in MARKS if any(mark in name for name in new)]
    if inner == names:
        return found
    spelt = iter(inner)
    files = {place: tuple(_renamed(members, spelt)) for place, members in found.files.items()}
    note = f"the names of its tensors have {', '.join(taken)} before or in them, which was taken off"
    return replace(found, files=files, notes=(*found.notes, note))


def _common(names: Sequence[str]) -> Wrapper | None:
    return next((wrapper for wrapper in WRAPPERS if _fits(wrapper, names)), None)


def _fits(wrapper: Wrapper, names: Sequence[str]) -> bool:
    prefix = wrapper.prefix
    having = [name for name in names if name.startswith(prefix)]
    others = [name for name in names if not name.startswith((prefix, *wrapper.heads))]
    return bool(having) and not others and any(name.startswith(prefix + wrapper.inside) for name in having)


def _without(wrapper: Wrapper, name: str) -> str:
    return wrapper.becomes + name.removeprefix(wrapper.prefix) if name.startswith(wrapper.prefix) else name


def _unmarked(name: str) -> str:
    for mark in MARKS:
        name = name.replace(mark, "")
    return name


def _renamed(members: Sequence[StoredFile], spelt: Iterator[str]) -> Iterator[StoredFile]:
    for file in members:
        tensors = {key: replace(tensor, name=next(spelt)) for key, tensor in file.tensors.items()}
        yield replace(file, tensors=tensors)

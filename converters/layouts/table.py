"""What a layout is: a table of where each logical tensor lives in one file format.

A row says: this stored tensor holds these logical tensors, laid out over these axes, cut for tensor parallel
along this one. `dims` names, per stored dimension (`|` between them), the axes that are flattened into it,
outermost first; `parts` stands where the logical tensors of the row follow one another. An axis that one of
them does not have is skipped for it. So the grouped wqkv of InternLM2 is

    kv_heads parts q_per_kv halves pairs head_dim | hidden

per group its queries, then its key, then its value; and the packed Wqkv of InternLM is

    parts kv_heads q_per_kv halves pairs head_dim | hidden

first all queries, then all keys, then all values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from converters.containers.container import Container
from converters.containers.safetensors_shards import SAFETENSORS_SHARDS

PARTS = "parts"
ANY_READS: Mapping[str, str] = {"unpadded_vocab_size": "$unpadded_vocab_size"}
"""Keys of every format's config that only this program writes: converters/source/vocabulary.py."""
Choices = Mapping[str, object]


@dataclass(frozen=True)
class Row:
    """stored: its name, N for the layer's number within its stage; other spellings that are read follow it.
    holds: logical tensors. split: the axis that ranks divide; None: every rank holds all of it.
    when: the choices of the layout under which the row holds."""

    stored: tuple[str, ...]
    holds: tuple[str, ...]
    dims: tuple[tuple[str, ...], ...]
    split: str | None = None
    when: Choices = field(default_factory=dict)

    def applies(self, choices: Choices) -> bool:
        return all(choices.get(key) == value for key, value in self.when.items())

    @property
    def place(self) -> str:
        """Where in a pipeline: `layer`, `first` stage or `last` stage."""
        if self.holds[0].startswith("layers."):
            return "layer"
        return "first" if self.holds[0] == "embed.weight" else "last"


def row(stored: str, holds: str, dims: str, split: str | None = None, **when: object) -> Row:
    """A row from text: names separated by spaces, dimensions by `|`."""
    return Row(
        tuple(stored.split()),
        tuple(holds.split()),
        tuple(tuple(dim.split()) for dim in dims.split("|")),
        split,
        when,
    )


def biased(stored: str, holds: str, dims: str, split: str, switch: str) -> tuple[Row, Row]:
    """A matrix and its bias, which runs along its rows. switch: the choice that says whether there is one."""
    rows = dims.partition(" |")[0]
    along = split if split in rows.split() else None
    return (
        row(f"{stored}.weight", f"{holds}.weight", dims, split),
        row(f"{stored}.bias", f"{holds}.bias", rows, along, **{switch: True}),
    )


@dataclass(frozen=True)
class Layout:
    """One family in one format.

    choices: what may differ between checkpoints of this layout, each with its values, the one that is written
    first; what neither config nor options state is decided by the tensors' names and shapes.
    container: how its tensors become files. vectors: the element type of what has one dimension, where it is
    one of its own. prefix: may stand before every name.
    template: the config file as data: key -> literal or `$fact`, read and written by the same table.
    reads: keys that are read as well, where other versions wrote them.
    constants: facts that hold for every checkpoint of the layout unless its config says otherwise, as the
    format's own code has it. by_kind: further config entries, by what the model is for (causal: the next
    token, reward: a score). demands: config keys whose other values are not supported. agree: pairs of keys
    that must say the same. inert: config keys that are not read, as they do not change what is computed.
    omits: kinds of rotary scaling that it cannot say, and that change nothing up to the stated length.
    readers: of choices that programs disagree about, by value: who reads what is written so, who does not.
    """

    family: str
    format: str
    rows: tuple[Row, ...]
    template: Mapping[str, object]
    choices: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    reads: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, object] = field(default_factory=dict)
    by_kind: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    demands: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    agree: tuple[tuple[str, str], ...] = ()
    inert: frozenset[str] = frozenset()
    container: Container = SAFETENSORS_SHARDS
    omits: tuple[str, ...] = ()
    vectors: str | None = None
    readers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    prefix: str = ""

    @property
    def name(self) -> str:
        return f"{self.family}/{self.format}"

"""Mistakes that conversions make and that can be put right: a table, and what its rows do.

Every row says what was done wrong, and the correction: what has to be done to the model's tensors to undo
that. All of them put things in another order: whole tensors among their places (`Places`), lines of tensors
(`Lines`), or the two axes of a matrix (`Turned`). How things are counted is a text of axes, outermost first:
`heads` = `kv` x `group` of `dim` = `two` x `half`, `fused` = group + 2, `layers`, `tensors` (those named);
numbers are counts, `rest` is what is left.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Transpose:
    """The same axes in another order."""

    to: str


@dataclass(frozen=True)
class Roll:
    """Every entry of an axis `by` places on, the last ones in front."""

    axis: str
    by: int = 1


@dataclass(frozen=True)
class Flip:
    """An axis backwards."""

    axis: str


@dataclass(frozen=True)
class Slabs:
    """Of `kv fused dim`: all queries, then all keys, then all values, instead of a group's one after the
    other. back: the other way."""

    back: bool = False


Step = Transpose | Roll | Flip | Slabs


@dataclass(frozen=True)
class Places:
    """tensors: what changes places, layer by layer, then those beyond the layers; the weights among
    themselves, and the biases."""

    tensors: str
    axes: str
    step: Step


@dataclass(frozen=True)
class Lines:
    """Rows (or columns) of each of the tensors. joined: counted through all tensors of a layer, one after
    the other."""

    tensors: str
    axes: str
    step: Step
    columns: bool = False
    joined: bool = False


@dataclass(frozen=True)
class Turned:
    """Square matrices, transposed."""

    tensors: str


Correction = Places | Lines | Turned


@dataclass(frozen=True)
class Mistake:
    """what: what was done wrong, as part of a sentence."""

    what: str
    correction: Correction


_ATTENTION, _MLP, _NORMS = "q k v o", "gate up down", "attention_norm ffn_norm"
_LAYER = f"{_ATTENTION} {_MLP} {_NORMS}"
_BIASES = "q.bias k.bias v.bias o.bias"
_EACH, _PAIRS, _HALVES = "layers tensors", "rest half two", "rest two half"
_AT_HOME = Roll("tensors")
_TO_HALVES, _TO_PAIRS = Transpose(_HALVES), Transpose(_PAIRS)
_LATER, _EARLIER = 1, -1  # what stands early has to go to a later place

# Cheap ones first: references, then vectors, then matrices.
MISTAKES = (
    # ------- whole tensors of a layer
    Mistake("k and v are exchanged", Places("k v", _EACH, _AT_HOME)),
    Mistake("gate and up are exchanged", Places("gate up", _EACH, _AT_HOME)),
    Mistake("q and k are exchanged", Places("q k", _EACH, _AT_HOME)),
    Mistake("q and v are exchanged", Places("q v", _EACH, _AT_HOME)),
    Mistake("q and o are exchanged", Places("q o", _EACH, _AT_HOME)),
    Mistake("k, v and q stand for q, k and v", Places("q k v", _EACH, Roll("tensors", 1))),
    Mistake("v, q and k stand for q, k and v", Places("q k v", _EACH, Roll("tensors", -1))),
    Mistake("the norms of attention and MLP are exchanged", Places(_NORMS, _EACH, _AT_HOME)),
    Mistake("the biases of k and v are exchanged", Places("k.bias v.bias", _EACH, _AT_HOME)),
    Mistake("the biases of q and k are exchanged", Places("q.bias k.bias", _EACH, _AT_HOME)),
    Mistake("the biases of q and o are exchanged", Places("q.bias o.bias", _EACH, _AT_HOME)),
    # ------- layers
    Mistake("the layers stand one place early", Places(_LAYER, _EACH, Roll("layers", _LATER))),
    Mistake("the layers stand one place late", Places(_LAYER, _EACH, Roll("layers", _EARLIER))),
    Mistake("the layers are in reverse order", Places(_LAYER, _EACH, Flip("layers"))),
    Mistake("the halves of the layers are exchanged", Places(_LAYER, "2 rest tensors", Roll("2"))),
    Mistake("every second layer is exchanged with the next", Places(_LAYER, "rest 2 tensors", Flip("2"))),
    Mistake(
        "the layers are dealt to two stages in turn",
        Places(_LAYER, "2 rest tensors", Transpose("rest 2 tensors")),
    ),
    Mistake(
        "the layers of two stages are taken in turn",
        Places(_LAYER, "rest 2 tensors", Transpose("2 rest tensors")),
    ),
    Mistake("attention stands one layer early", Places(_ATTENTION, _EACH, Roll("layers", _LATER))),
    Mistake("attention stands one layer late", Places(_ATTENTION, _EACH, Roll("layers", _EARLIER))),
    Mistake("the norms stand one layer early", Places(_NORMS, _EACH, Roll("layers", _LATER))),
    Mistake("the norms stand one layer late", Places(_NORMS, _EACH, Roll("layers", _EARLIER))),
    Mistake(
        "attention's norms stand one layer early", Places("attention_norm", _EACH, Roll("layers", _LATER))
    ),
    Mistake(
        "attention's norms stand one layer late", Places("attention_norm", _EACH, Roll("layers", _EARLIER))
    ),
    Mistake("the MLP's norms stand one layer early", Places("ffn_norm", _EACH, Roll("layers", _LATER))),
    Mistake("the MLP's norms stand one layer late", Places("ffn_norm", _EACH, Roll("layers", _EARLIER))),
    Mistake("all norms stand one place early", Places(f"{_NORMS} norm", "rest", Roll("rest", _LATER))),
    Mistake("all norms stand one place late", Places(f"{_NORMS} norm", "rest", Roll("rest", _EARLIER))),
    Mistake("the biases stand one layer early", Places(_BIASES, _EACH, Roll("layers", _LATER))),
    Mistake("the biases stand one layer late", Places(_BIASES, _EACH, Roll("layers", _EARLIER))),
    # ------- matrices
    Mistake("embedding and head are exchanged", Places("embedding head", "rest", Roll("rest"))),
    Mistake("o is transposed", Turned("o")),
    Mistake("q is transposed", Turned("q")),
    Mistake("q, k, v and o are transposed", Turned(_ATTENTION)),
    # ------- rotary embedding
    Mistake("q and k are in rotary pairs, not halves", Lines("q k", _PAIRS, _TO_HALVES)),
    Mistake("q and k were taken from pairs to halves twice", Lines("q k", _HALVES, _TO_PAIRS)),
    Mistake("q is in rotary pairs, not halves", Lines("q", _PAIRS, _TO_HALVES)),
    Mistake("q was taken from pairs to halves twice", Lines("q", _HALVES, _TO_PAIRS)),
    Mistake("k is in rotary pairs, not halves", Lines("k", _PAIRS, _TO_HALVES)),
    Mistake("k was taken from pairs to halves twice", Lines("k", _HALVES, _TO_PAIRS)),
    Mistake("the biases of q and k are in rotary pairs", Lines("q.bias k.bias", _PAIRS, _TO_HALVES)),
    Mistake("the biases of q and k were taken to halves twice", Lines("q.bias k.bias", _HALVES, _TO_PAIRS)),
    Mistake("v was put into rotary pairs", Lines("v", _PAIRS, _TO_HALVES)),
    Mistake("v was taken from rotary pairs to halves", Lines("v", _HALVES, _TO_PAIRS)),
    Mistake("the rotary halves of q and k are exchanged", Lines("q k", _HALVES, Roll("two"))),
    Mistake("the rotary halves of q are exchanged", Lines("q", _HALVES, Roll("two"))),
    Mistake("the rotary halves of k are exchanged", Lines("k", _HALVES, Roll("two"))),
    # ------- heads
    Mistake("the heads of q stand one place early", Lines("q", "heads dim", Roll("heads", _LATER))),
    Mistake("the heads of q stand one place late", Lines("q", "heads dim", Roll("heads", _EARLIER))),
    Mistake("the heads of k stand one place early", Lines("k", "kv dim", Roll("kv", _LATER))),
    Mistake("the heads of k stand one place late", Lines("k", "kv dim", Roll("kv", _EARLIER))),
    Mistake("the heads of v stand one place early", Lines("v", "kv dim", Roll("kv", _LATER))),
    Mistake("the heads of v stand one place late", Lines("v", "kv dim", Roll("kv", _EARLIER))),
    Mistake("the heads of k and v stand one place early", Lines("k v", "kv dim", Roll("kv", _LATER))),
    Mistake("the heads of k and v stand one place late", Lines("k v", "kv dim", Roll("kv", _EARLIER))),
    Mistake(
        "the heads of o stand one place early", Lines("o", "heads dim", Roll("heads", _LATER), columns=True)
    ),
    Mistake(
        "the heads of o stand one place late", Lines("o", "heads dim", Roll("heads", _EARLIER), columns=True)
    ),
    Mistake(
        "the heads of q are not in the order of kv groups",
        Lines("q", "group kv dim", Transpose("kv group dim")),
    ),
    Mistake(
        "the heads of q were put into kv groups twice", Lines("q", "kv group dim", Transpose("group kv dim"))
    ),
    Mistake(
        "the heads of each kv group of q are in reverse order", Lines("q", "kv group dim", Flip("group"))
    ),
    Mistake(
        "the fused wqkv was cut as q, k, v and is by kv groups",
        Lines("q k v", "kv fused dim", Slabs(), joined=True),
    ),
    Mistake(
        "the fused wqkv was cut by kv groups and is q, k, v",
        Lines("q k v", "kv fused dim", Slabs(back=True), joined=True),
    ),
    # ------- tensor parallel ranks
    Mistake(
        "two ranks of q, k and v were put together whole",
        Lines("q k v", "2 3 rest", Transpose("3 2 rest"), joined=True),
    ),
    Mistake(
        "four ranks of q, k and v were put together whole",
        Lines("q k v", "4 3 rest", Transpose("3 4 rest"), joined=True),
    ),
    Mistake(
        "two ranks of gate and up were put together whole",
        Lines("gate up", "2 two rest", Transpose("two 2 rest"), joined=True),
    ),
    Mistake(
        "four ranks of gate and up were put together whole",
        Lines("gate up", "4 two rest", Transpose("two 4 rest"), joined=True),
    ),
    Mistake(
        "gate and up are row by row in turn", Lines("gate up", "rest two", Transpose("two rest"), joined=True)
    ),
    Mistake(
        "gate and up were taken as row by row in turn",
        Lines("gate up", "two rest", Transpose("rest two"), joined=True),
    ),
    Mistake("two ranks of gate are exchanged", Lines("gate", "2 rest", Roll("2"))),
    Mistake("two ranks of the MLP's down are exchanged", Lines("down", "2 rest", Roll("2"), columns=True)),
    Mistake(
        "four ranks of the MLP's down are in reverse order", Lines("down", "4 rest", Flip("4"), columns=True)
    ),
    Mistake("two ranks of o are exchanged", Lines("o", "2 rest", Roll("2"), columns=True)),
    Mistake("four ranks of o are in reverse order", Lines("o", "4 rest", Flip("4"), columns=True)),
    Mistake("two ranks of the head are exchanged", Lines("head", "2 rest", Roll("2"))),
    Mistake("four ranks of the head are in reverse order", Lines("head", "4 rest", Flip("4"))),
    Mistake("two ranks of the embedding's rows are exchanged", Lines("embedding", "2 rest", Roll("2"))),
    Mistake(
        "two ranks of the embedding's columns are exchanged",
        Lines("embedding", "2 rest", Roll("2"), columns=True),
    ),
    Mistake(
        "four ranks of the embedding's columns are in reverse order",
        Lines("embedding", "4 rest", Flip("4"), columns=True),
    ),
    # ------- vocabulary
    Mistake(
        "the rows of the embedding stand one place early", Lines("embedding", "rest", Roll("rest", _LATER))
    ),
    Mistake(
        "the rows of the embedding stand one place late", Lines("embedding", "rest", Roll("rest", _EARLIER))
    ),
    Mistake("the rows of the head stand one place early", Lines("head", "rest", Roll("rest", _LATER))),
    Mistake("the rows of the head stand one place late", Lines("head", "rest", Roll("rest", _EARLIER))),
)

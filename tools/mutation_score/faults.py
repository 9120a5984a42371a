"""The faults, as a table: what is made wrong in a copy of a model, and what names it.

The list came before the checks it measures: no fault is taken out because it is missed, and no check may know
one. Those that a conversion makes in every layer are `tests/smoke/seeded.py`; none of it shares code with
`internlm_zoo/smoke`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.smoke.seeded import ALL, ATTENTION, EMBEDDING, NORM, SEEDS, Seed, exchanged_halves
from tools.mutation_score import damaged as d
from tools.mutation_score import reordered as r
from tools.mutation_score import stated as s
from tools.mutation_score.subject import Make, of_weights


@dataclass(frozen=True)
class Fault:
    """cause: what a sentence has to hold to have named it; None where it cannot be undone, and nothing can
    be tried that would name it. same: what it is called in a model of four layers, where that is the same."""

    what: str
    group: str
    make: Make
    cause: str | None = None
    same: str | None = None

    def is_named_in(self, sentence: str) -> str | None:
        """The text of it that names this fault."""
        return next((text for text in (self.cause, self.same) if text and text in sentence), None)


GROUPS = {
    "order": "In another order, in all layers",
    "parts": "In another order, in a part",
    "values": "Other values",
    "config": "Config",
    "tokenizer": "Tokenizer",
    "turns": "Chat template and stop tokens",
}

# Of the seeds as many as tell something of their own; tests/smoke/test_mistakes.py makes all of them.
ORDER = (
    "k and v are exchanged",
    "gate and up are exchanged",
    "q and k are exchanged",
    "the norms of attention and MLP are exchanged",
    "the biases of k and v are exchanged",
    "the biases of q and k are in rotary pairs",
    "the layers stand one place early",
    "the layers are in reverse order",
    "the layers are dealt to two stages in turn",
    "attention stands one layer late",
    "the MLP's norms stand one layer early",
    "all norms stand one place late",
    "embedding and head are exchanged",
    "o is transposed",
    "q and k are in rotary pairs, not halves",
    "q and k were taken from pairs to halves twice",
    "q is in rotary pairs, not halves",
    "the rotary halves of q and k are exchanged",
    "v was put into rotary pairs",
    "the heads of q stand one place early",
    "the heads of k and v stand one place late",
    "the heads of q are not in the order of kv groups",
    "the fused wqkv was cut as q, k, v and is by kv groups",
    "the fused wqkv was cut by kv groups and is q, k, v",
    "two ranks of q, k and v were put together whole",
    "four ranks of gate and up were put together whole",
    "gate and up are row by row in turn",
    "four ranks of o are in reverse order",
    "two ranks of the head are exchanged",
    "two ranks of the embedding's columns are exchanged",
    "the rows of the embedding stand one place late",
)

# In one layer, or in two: what is said of it, and what has to be named.
PARTS: Sequence[tuple[str, Seed, str | None]] = (
    (
        "k and v are exchanged in one layer",
        r.in_one_layer(SEEDS["k and v are exchanged"]),
        "k and v are exchanged (in",
    ),
    (
        "gate and up are exchanged in one layer",
        r.in_one_layer(SEEDS["gate and up are exchanged"]),
        "gate and up are exchanged (in",
    ),
    (
        "both norms are exchanged in one layer",
        r.in_one_layer(SEEDS["the norms of attention and MLP are exchanged"]),
        "the norms of attention and MLP are exchanged (in",
    ),
    (
        "q and k of one layer are in rotary pairs",
        r.in_one_layer(SEEDS["q and k are in rotary pairs, not halves"]),
        "q and k are in rotary pairs, not halves (in",
    ),
    ("two layers are exchanged", r.two_layers(ALL), "with each other)"),
    ("attention of two layers is exchanged", r.two_layers(ATTENTION), "with each other)"),
    ("two heads of q are exchanged", r.two_heads("q"), None),
    ("two heads of k are exchanged, those of v are not", r.two_heads("k"), None),
    ("q of the first and the last group are exchanged", r.within_layers("q", r.first_and_last_group), None),
    ("blocks of 64 rows of the embedding are exchanged", r.of_embedding(r.blocks_of_64), None),
    ("the embedding's upper half of rows is in reverse order", r.of_embedding(r.upper_half_backwards), None),
    (
        "the rotary halves of q of one layer are exchanged",
        r.in_one_layer(r.within_layers("q", exchanged_halves)),
        "the rotary halves of q are exchanged (in",
    ),
)

# Of four layers the two in the middle are exchanged by that.
SAME = {"two layers are exchanged": "the layers are dealt to two stages in turn"}

VALUES = (
    ("down of one layer is zero", d.middle(["down"], d.zeros)),
    ("one layer is written over another", d.copied_layer),
    ("the biases of o are lost", d.everywhere(["o"], d.zeros, "bias")),
    ("all norms are one", d.all_norms(d.ones)),
    ("the last norm is one", d.one(NORM, d.ones)),
    ("norms are stored less one", d.all_norms(d.minus_one)),
    ("the head is the embedding", d.head_is_embedding),
    ("the last quarter of the embedding is zero", d.one(EMBEDDING, d.last_quarter_of_rows_zero)),
    ("all matrices of the layers are random", d.everywhere([n for n in ALL if "norm" not in n], d.random)),
    ("gate of one layer is random", d.middle(["gate"], d.random)),
    ("q is divided by the root of its head's size", d.everywhere("q", d.by_root_of_dim)),
    ("the embedding is multiplied by the root of the width", d.one(EMBEDDING, d.by_root_of_width)),
    ("o of every layer is doubled", d.everywhere("o", d.times(2))),
    ("k has the other sign", d.everywhere("k", d.negative)),
    ("one rank of down is lost", d.everywhere(["down"], d.last_half_of_columns_zero)),
    ("one rank of o stands for two", d.everywhere("o", d.first_half_of_columns_twice)),
    ("one rank of gate and up stands for two", d.everywhere(["gate", "up"], d.first_half_of_rows_twice)),
    ("one value of a norm is no number", d.one(NORM, d.not_a_number)),
    ("v of one layer is bfloat16 read as float16", d.middle("v", d.as_float16)),
    ("up of one layer has its bytes exchanged", d.middle(["up"], d.bytes_exchanged)),
    ("the matrices are rounded to 7 steps", d.everywhere([n for n in ALL if "norm" not in n], d.rounded(3))),
    ("outliers of the matrices are clipped", d.everywhere([n for n in ALL if "norm" not in n], d.clipped)),
    ("down of one layer is read one value late", d.middle(["down"], d.one_place_on)),
)

# What is wrong beside the weights, and the field that has to be named.
BESIDE: Sequence[tuple[str, str, Make, str | None]] = (
    ("config", "rope_theta is another generation's", s.other_theta, "rope_theta"),
    ("config", "rope_theta is half of it", s.half_theta, "rope_theta"),
    ("config", "rope_scaling is linear by 2", s.scaling("linear"), "rope_scaling"),
    ("config", "rope_scaling is dynamic by 2", s.scaling("dynamic"), "rope_scaling"),
    ("config", "rms_norm_eps is 0.01", s.config(rms_norm_eps=0.01), "rms_norm_eps"),
    ("config", "rms_norm_eps is 1e-8", s.config(rms_norm_eps=1e-8), "rms_norm_eps"),
    ("config", "twice as many heads, half as wide", s.narrow_heads, "num_attention_heads"),
    ("config", "embedding and head are said to be tied", s.tied, None),
    ("config", "the biases of attention are not said", s.biases_unsaid, None),
    ("config", "hidden_act is gelu", s.config(hidden_act="gelu"), "hidden_act"),
    ("config", "the last layer is lost", s.last_layer_lost, "num_layers"),
    ("config", "a middle layer is lost", s.middle_layer_lost, "num_layers"),
    (
        "config",
        "max_position_embeddings is 10000",
        s.config(max_position_embeddings=10_000),
        "max_position_embeddings",
    ),
    ("config", "bos_token_id is 0", s.config(bos_token_id=0), "bos_token_id"),
    ("tokenizer", "every piece is one place late", s.pieces(s.one_place_late), None),
    ("tokenizer", "neighbouring pieces are exchanged", s.pieces(s.neighbours_exchanged), None),
    ("tokenizer", "it merges nothing", s.without_merges, None),
    ("tokenizer", "the later half of merges is lost", s.later_merges_lost, None),
    ("tokenizer", "no bos in front", s.without_bos, None),
    ("tokenizer", "blanks stay as they are", s.blanks_as_they_are, None),
    ("tokenizer", "a blank in front of every text", s.blank_in_front, None),
    ("tokenizer", "the last two special tokens are exchanged", s.special_tokens_exchanged, None),
    ("tokenizer", "tokens of turns are cut into pieces", s.special_tokens_in_pieces, None),
    ("turns", "the template is InternLM's first", s.of_internlm, "chat_template"),
    ("turns", "the template has no line ends", s.without_line_ends, "chat_template"),
    ("turns", "the template does not begin the answer", s.without_answer, "chat_template"),
    ("turns", "the template says user for everybody", s.all_users, "chat_template"),
    ("turns", "the end of a turn does not stop", s.ends(s.first_end), "eos_token_id"),
    ("turns", "a comma stops", s.ends(s.common_token), "eos_token_id"),
    ("turns", "a token that is not there stops", s.ends(s.beyond), "eos_token_id"),
)


def _faults() -> Iterator[Fault]:
    for what in ORDER:
        yield Fault(what, "order", of_weights(SEEDS[what]), what)
    for what, seed, cause in PARTS:
        yield Fault(what, "parts", of_weights(seed), cause, SAME.get(what))
    for what, seed in VALUES:
        yield Fault(what, "values", of_weights(seed))
    for group, what, make, cause in BESIDE:
        yield Fault(what, group, make, cause)


FAULTS = tuple(_faults())

"""What one rank holds while it generates, in bytes: a formula for each part.

Weights and the cache of keys and values are exact. Activations are the most that lives at one time beside
them while `generate` of transformers 5 reads a prompt in one piece, with the layers of
models/llama/modeling_llama.py and scaled_dot_product_attention, whose kernels keep no matrix of scores. Later
tokens need less: one layer's keys once more, while `DynamicLayer.update` (cache_utils.py) lengthens them.

With n tokens in the prompts together and e bytes an element, let

    h = n hidden e            the stream between the layers
    f = n hidden 4            the same in float32, which the norms compute in
    q, k = n heads dim e      queries, and keys or values, of this rank's heads
    i = n inter e             this rank's part of the mlp
    s                         1 of a single layer, else 2: the embedding stays beside the layer's input

Alive at once are, at most,

    norm    (s + 1) h + 2 f   the square beside the input; in float32 no copy is made, but one of the result
    query   (s + 1) h + 4 q   q itself, q cos, the turned half, and that times sin (apply_rotary_pos_emb)
    key     (s + 1) h + 2 q + 3 k   the same of k beside both q, while the cache has no k and v of this layer
    mlp     (s + 2) h + 3 i   act(gate), up and their product (LlamaMLP.forward)
    scores  (s + 1) h + 5 q + (2 e + 1) heads n context + e context^2   on GPUs that have to keep them

and beside each of them 2 n dim e of cosines and sines (LlamaRotaryEmbedding), and ids, positions and mask of
8 bytes a token. When the logits are made the activations are gone: those of the last token of each text, and
the same again in float32 (`GenerationMixin._sample`), are vocab (e + 4) of each text, beside the indices and
the ids once more. What counts is the larger of the two. A reward model is not asked by `generate`: its texts
share their positions. docs/fit.md holds this against what was measured.

On GPUs the kernels that keep no scores take 16 bits, and float32 where every query head has keys of its own
(sdp_utils.cpp of torch). Else `_scaled_dot_product_attention_math` (attention.cpp) keeps the scores, their
softmax and a byte for each that says which are infinite, beside the mask, q, keys and values repeated for
every query head, and q and keys scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from converters.geometry.logical import pattern_of
from converters.values import MAX_COUNT, shown
from internlm_zoo.errors import UsageError
from internlm_zoo.fitting.network import CACHE_ITEMSIZE, ITEMSIZE, Network

_FLOAT32 = 4
_INDEX = 8  # bytes of a token's id, position or mask

# Which extent tensor parallelism cuts, as `base_model_tp_plan` of LlamaConfig, `_tp_plan` of LlamaForCausalLM
# and `init_parallel_plans` say, the last for the embedding; what is not here every rank holds whole.
_CUT: Mapping[str, str] = {
    **dict.fromkeys((f"layers.N.attention.{part}" for part in ("q.weight", "q.bias", "o.weight")), "heads"),
    **dict.fromkeys(
        (f"layers.N.attention.{part}" for part in ("k.weight", "k.bias", "v.weight", "v.bias")), "kv_heads"
    ),
    **dict.fromkeys(
        (f"layers.N.mlp.{part}" for part in ("gate.weight", "up.weight", "gate.bias", "up.bias")), "inter"
    ),
    "layers.N.mlp.down.weight": "inter",
    "embed.weight": "vocab",
    "head.weight": "vocab",
}


def check_count(name: str, value: int | None) -> None:
    """Raises UsageError for less than 1, and for more than any model could take."""
    if value is not None and not 1 <= value < MAX_COUNT:
        raise UsageError(f"it is {shown(value)}, and has to be 1 or more, below {MAX_COUNT:,}", f"`{name}`")


@dataclass(frozen=True)
class Workload:
    """What is asked of a model. context: tokens of each text, prompt and answer. batch: texts at once. dtype:
    of weights and activations, cache_dtype: of keys and values, as torch names them. gpu: whether it runs on
    one, whose kernels differ from the CPU's."""

    context: int
    batch: int
    dtype: str
    cache_dtype: str
    gpu: bool = True

    @property
    def itemsize(self) -> int:
        return ITEMSIZE[self.dtype]

    @property
    def tokens(self) -> int:
        return self.context * self.batch


@lru_cache(maxsize=64)
def weight_bytes(network: Network, tp: int, itemsize: int) -> tuple[int, tuple[int, ...], int]:
    """Of one of tp ranks: before the layers, of every layer, and after them."""
    layers = [0] * network.layers
    first = last = 0
    for name, count in network.counts:
        size = itemsize * _of_rank(name, count, network, tp)
        head, _, rest = name.partition(".")
        if head == "layers":
            layers[int(rest.partition(".")[0])] += size
        elif head == "embed":
            first += size
        else:
            last += size
    return first, tuple(layers), last


def _of_rank(name: str, count: int, network: Network, tp: int) -> int:
    """Elements: key/value heads fewer than ranks are on several of them, the last rank has fewer rows of an
    uneven vocabulary."""
    axis = _CUT.get(pattern_of(name))
    if axis is None:
        return count
    extent = int(getattr(network, axis))
    return count // extent * -(-extent // tp)


def cache_bytes(network: Network, work: Workload, tp: int = 1) -> int:
    """Keys and values of one layer on one of tp ranks: two of every key/value head for every token."""
    kv_heads = -(-network.kv_heads // tp)
    return 2 * kv_heads * network.head_dim * work.tokens * CACHE_ITEMSIZE[work.cache_dtype]


def activation_bytes(network: Network, work: Workload, tp: int, layers: int) -> int:
    """The most of one of tp ranks with so many of the layers, see above."""
    stream = work.tokens * network.hidden * work.itemsize
    wide = work.tokens * network.hidden * _FLOAT32
    query = work.tokens * network.heads // tp * network.head_dim * work.itemsize
    key = work.tokens * -(-network.kv_heads // tp) * network.head_dim * work.itemsize
    inner = work.tokens * network.inter // tp * work.itemsize
    scores = score_bytes(network, work, tp)
    kept = 1 if layers == 1 else 2
    most = max(
        (kept + 1) * stream + 2 * wide,
        (kept + 1) * stream + 4 * query,
        (kept + 1) * stream + 2 * query + 3 * key,
        (kept + 2) * stream + 3 * inner,
        (kept + 1) * stream + 5 * query + scores if scores else 0,
    )
    positions = work.context if network.scores else work.tokens
    rotary = 2 * positions * network.head_dim * work.itemsize
    return most + rotary + (1 if network.scores else 3) * _INDEX * positions


def score_bytes(network: Network, work: Workload, tp: int) -> int:
    """What attention of one of tp ranks keeps of every pair of tokens of a text: nothing, where a kernel for
    its element type and heads puts them together as it goes."""
    heads, kv_heads = network.heads // tp, -(-network.kv_heads // tp)
    if not work.gpu or work.itemsize < _FLOAT32 or (work.itemsize == _FLOAT32 and heads == kv_heads):
        return 0
    mask = work.itemsize * work.context * work.context
    return (2 * work.itemsize + 1) * heads * work.tokens * work.context + mask


def logit_bytes(network: Network, work: Workload) -> int:
    """Of the last token of each text, gathered on every rank; a reward model scores every token."""
    if network.scores:
        return work.tokens * work.itemsize
    return work.batch * network.vocab * (work.itemsize + _FLOAT32) + 4 * _INDEX * work.tokens

"""Faults of what lies beside the weights: config, generation_config, tokenizer, chat template."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.smoke.seeded import ALL, BOTH, PATHS
from tools.mutation_score.subject import (
    CONFIG,
    GENERATION,
    SETTINGS,
    TEMPLATE,
    TOKENIZER,
    Draft,
    ImpossibleError,
    Make,
)

Json = dict[str, Any]


def config(**changes: Any) -> Make:
    return lambda draft: draft.edit(CONFIG, **changes)


def other_theta(draft: Draft) -> None:
    """That of another generation: 10,000 or a million."""
    usual = _theta(draft) == 10000
    _set_theta(draft, 1_000_000 if usual else 10_000)


def half_theta(draft: Draft) -> None:
    _set_theta(draft, _theta(draft) / 2)


def _theta(draft: Draft) -> float:
    stated = draft.json(CONFIG)
    return float(stated.get("rope_theta") or (stated.get("rope_parameters") or {}).get("rope_theta") or 10000)


def _set_theta(draft: Draft, theta: float) -> None:
    stated = draft.json(CONFIG)
    if stated.get("rope_parameters"):
        stated["rope_parameters"]["rope_theta"] = theta
    draft.write(CONFIG, stated | {"rope_theta": theta})


def scaling(kind: str) -> Make:
    """By two; of a model that has none."""

    def make(draft: Draft) -> None:
        stated = draft.json(CONFIG)
        if stated.get("rope_scaling"):
            raise ImpossibleError("it is scaled already")
        stated["rope_scaling"] = {"type": kind, "rope_type": kind, "factor": 2.0}
        draft.write(CONFIG, stated)

    return make


def narrow_heads(draft: Draft) -> None:
    """Twice as many, half as wide: all tensors keep their shapes."""
    stated, shape = draft.json(CONFIG), draft.shape
    stated |= {"num_attention_heads": 2 * shape.heads, "num_key_value_heads": 2 * shape.kv}
    draft.write(CONFIG, stated | {"head_dim": shape.dim // 2})


def last_layer_lost(draft: Draft) -> None:
    """And the config says one less."""
    last = draft.shape.layers - 1
    for name in [name for name in draft.tensors if name.startswith(f"model.layers.{last}.")]:
        del draft.tensors[name]
    draft.edit(CONFIG, num_hidden_layers=last)


def middle_layer_lost(draft: Draft) -> None:
    """Those behind it move up."""
    middle = draft.shape.layers // 2
    for layer in range(middle, draft.shape.layers - 1):
        for path in (PATHS[name] for name in ALL):
            for leaf in BOTH:
                name = f"model.layers.{{}}.{path}.{leaf}"
                if name.format(layer) in draft.tensors:
                    draft.tensors[name.format(layer)] = draft.tensors[name.format(layer + 1)]
    last_layer_lost(draft)


def biases_unsaid(draft: Draft) -> None:
    if not draft.json(CONFIG).get("attention_bias"):
        raise ImpossibleError("no biases")
    draft.edit(CONFIG, attention_bias=False)


def tied(draft: Draft) -> None:
    if draft.json(CONFIG).get("tie_word_embeddings"):
        raise ImpossibleError("it is tied")
    draft.edit(CONFIG, tie_word_embeddings=True)


# ------- stop tokens


def ends(find: Callable[[Draft], int | list[int]]) -> Make:
    """Another eos, wherever one is stated."""

    def make(draft: Draft) -> None:
        found = find(draft)
        if (draft.folder / GENERATION).exists():
            draft.edit(GENERATION, eos_token_id=found)
        draft.edit(CONFIG, eos_token_id=found)

    return make


def first_end(draft: Draft) -> int:
    """Of several the first: the end of a text, not that of a turn."""
    found = draft.json(CONFIG).get("eos_token_id")
    if not isinstance(found, list) or len(found) < 2:
        raise ImpossibleError("one end alone")
    return int(found[0])


def common_token(draft: Draft) -> int:
    """A token that most texts hold: in both languages' scripts something as frequent as a comma."""
    vocabulary = _vocabulary(draft.json(TOKENIZER))
    return next(vocabulary[one] for one in (",", "，", ".") if one in vocabulary)


def beyond(draft: Draft) -> int:
    return int(draft.json(CONFIG)["vocab_size"]) + 7


# ------- tokenizer


def _vocabulary(tokenizer: Json) -> dict[str, int]:
    found = tokenizer["model"]["vocab"]
    if not isinstance(found, dict):
        raise ImpossibleError("no table of pieces")
    return found


def pieces(change: Callable[[dict[str, int]], dict[str, int]]) -> Make:
    """Other numbers for the pieces of a tokenizer that are no special tokens."""

    def make(draft: Draft) -> None:
        tokenizer = draft.json(TOKENIZER)
        vocabulary = _vocabulary(tokenizer)
        special = {token["content"] for token in tokenizer["added_tokens"]}
        plain = {piece: number for piece, number in vocabulary.items() if piece not in special}
        made = {**vocabulary, **change(plain)}
        tokenizer["model"]["vocab"] = dict(sorted(made.items(), key=lambda row: row[1]))
        draft.write(TOKENIZER, tokenizer)

    return make


def one_place_late(plain: dict[str, int]) -> dict[str, int]:
    numbers = sorted(plain.values())
    following = dict(zip(numbers, [*numbers[1:], numbers[0]], strict=True))
    return {piece: following[number] for piece, number in plain.items()}


def neighbours_exchanged(plain: dict[str, int]) -> dict[str, int]:
    numbers = sorted(plain.values())
    pairs = dict(zip(numbers[::2], numbers[1::2], strict=False))
    other = {**pairs, **{b: a for a, b in pairs.items()}}
    return {piece: other.get(number, number) for piece, number in plain.items()}


def without_merges(draft: Draft) -> None:
    tokenizer = draft.json(TOKENIZER)
    if not tokenizer["model"].get("merges"):
        raise ImpossibleError("no merges")
    tokenizer["model"]["merges"] = []
    draft.write(TOKENIZER, tokenizer)


def later_merges_lost(draft: Draft) -> None:
    tokenizer = draft.json(TOKENIZER)
    merges = tokenizer["model"].get("merges") or []
    if len(merges) < 10:
        raise ImpossibleError("no merges")
    tokenizer["model"]["merges"] = merges[: len(merges) // 2]
    draft.write(TOKENIZER, tokenizer)


def without_bos(draft: Draft) -> None:
    tokenizer = draft.json(TOKENIZER)
    if not (tokenizer.get("post_processor") or {}).get("special_tokens"):
        raise ImpossibleError("it puts no token in front")
    tokenizer["post_processor"] = None
    draft.write(TOKENIZER, tokenizer)
    draft.edit(SETTINGS, add_bos_token=False)


def blanks_as_they_are(draft: Draft) -> None:
    """The normalizer that makes ▁ of them is lost."""
    tokenizer = draft.json(TOKENIZER)
    if not tokenizer.get("normalizer"):
        raise ImpossibleError("no normalizer")
    tokenizer["normalizer"] = None
    draft.write(TOKENIZER, tokenizer)


def blank_in_front(draft: Draft) -> None:
    tokenizer = draft.json(TOKENIZER)
    before = tokenizer.get("normalizer")
    if not before or before.get("type") != "Sequence":
        raise ImpossibleError("no normalizer")
    before["normalizers"].insert(0, {"type": "Prepend", "prepend": "▁"})
    draft.write(TOKENIZER, tokenizer)


def special_tokens_exchanged(draft: Draft) -> None:
    """The last two, as those that begin and end a turn are."""
    tokenizer = draft.json(TOKENIZER)
    added = tokenizer["added_tokens"]
    if len(added) < 2:
        raise ImpossibleError("no special tokens")
    one, other = added[-2]["content"], added[-1]["content"]
    added[-2]["content"], added[-1]["content"] = other, one
    vocabulary = _vocabulary(tokenizer)
    if one in vocabulary and other in vocabulary:
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    draft.write(TOKENIZER, tokenizer)


def special_tokens_in_pieces(draft: Draft) -> None:
    """Those of turns are text like any other."""
    tokenizer = draft.json(TOKENIZER)
    kept = [token for token in tokenizer["added_tokens"] if token["id"] < 3]
    if len(kept) == len(tokenizer["added_tokens"]):
        raise ImpossibleError("no tokens of turns")
    tokenizer["added_tokens"] = kept
    draft.write(TOKENIZER, tokenizer)
    settings = draft.json(SETTINGS)
    decoder = settings.get("added_tokens_decoder") or {}
    settings["added_tokens_decoder"] = {id: token for id, token in decoder.items() if int(id) < 3}
    settings.pop("additional_special_tokens", None)
    draft.write(SETTINGS, settings)


# ------- chat template


def template(change: Callable[[str], str]) -> Make:
    """Of a model that takes turns, wherever its template lies."""

    def make(draft: Draft) -> None:
        if not draft.turns:
            raise ImpossibleError("it takes no turns")
        if (draft.folder / TEMPLATE).exists():
            draft.write(TEMPLATE, change((draft.folder / TEMPLATE).read_text(encoding="utf-8")))
            return
        text = draft.json(SETTINGS).get("chat_template")
        if not isinstance(text, str):
            raise ImpossibleError("no template")
        draft.edit(SETTINGS, chat_template=change(text))

    return make


_OF_INTERNLM = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ ('<|User|>:' if m['role'] == 'user' else '<|Bot|>:') + m['content'] }}"
    "{{ '<eoh>\\n' if m['role'] == 'user' else '<eoa>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Bot|>:' }}{% endif %}"
)
of_internlm = template(lambda _: _OF_INTERNLM)
without_line_ends = template(lambda own: own.replace("\\n", ""))
without_answer = template(lambda own: own.replace("add_generation_prompt", "false"))
all_users = template(lambda own: re.sub(r"(\w+)(\['role'\]|\.role) \+", "'user' +", own))

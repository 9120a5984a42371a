"""The order of merges that makes a BPE by ranks cut text as sentencepiece's BPE by scores does.

sentencepiece merges, again and again, the adjacent pair whose joined piece scores highest, the leftmost of
equals. A tokenizer.json ranks *pairs* instead, no two alike. So pairs are ranked by score, and among pairs
of equal score those come first that leftmost-first would let win where both apply:

- both want the same symbol: in `x y z`, (x, y) before (y, z);
- the left one's result would take a symbol of the right one at once, or the right one's of the left;
- one piece by two cuts, which overlap in periodic text such as a run of spaces: the longer left part first,
  because a run is cut from the left and its remainder stays at the right.

Facts: sentencepiece/src/bpe_model.cc (`SampleEncode`), tokenizers/src/models/bpe/word.rs (`merge_all`).
"""

from __future__ import annotations

import graphlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise

from converters.errors import UnsupportedError

Pair = tuple[str, str]


def ranked_merges(scores: Mapping[str, float]) -> list[Pair]:
    """All pairs of pieces that join to a piece, first to be merged first.

    scores: of every piece that may form.
    Raises UnsupportedError if equal scores contradict each other, so that no ranking is exact.
    """
    groups: dict[float, list[Pair]] = defaultdict(list)
    for piece, score in scores.items():
        cuts = ((piece[:at], piece[at:]) for at in range(len(piece) - 1, 0, -1))
        groups[score].extend(cut for cut in cuts if cut[0] in scores and cut[1] in scores)
    return [pair for score in sorted(groups, reverse=True) for pair in _ordered(groups[score], score, scores)]


def _ordered(pairs: list[Pair], score: float, scores: Mapping[str, float]) -> Iterable[Pair]:
    """Pairs of one score, constrained pairs after those that must come before them."""
    if len(pairs) == 1:
        return pairs
    sorter: graphlib.TopologicalSorter[Pair] = graphlib.TopologicalSorter(dict.fromkeys(pairs, ()))
    for first, second in _constraints(pairs, score, scores):
        if "".join(first) != "".join(second):
            sorter.add(second, first)
    for earlier, later in pairwise(pairs):
        if "".join(earlier) == "".join(later):
            sorter.add(later, earlier)
    try:
        return list(sorter.static_order())
    except graphlib.CycleError as error:
        pieces = sorted({first + second for first, second in error.args[1]})
        raise UnsupportedError(
            f"the pieces {pieces[:4]} have one score, and no ranking cuts all of them as sentencepiece does"
        ) from None


def _constraints(pairs: list[Pair], score: float, scores: Mapping[str, float]) -> Iterable[tuple[Pair, Pair]]:
    """(first, second): where both apply, first is further left and must win."""
    by_left, by_right, by_piece = _index(pairs)
    for symbol in by_right.keys() & by_left.keys():
        yield from _product(by_right[symbol], by_left[symbol])
    lowest = float("-inf")
    for piece, same in by_piece.items():
        for symbol, right in by_left.items():
            if scores.get(piece + symbol, lowest) >= score:
                yield from _product(same, right)
        for symbol, left in by_right.items():
            if scores.get(symbol + piece, lowest) >= score:
                yield from _product(left, same)


def _index(pairs: list[Pair]) -> tuple[dict[str, list[Pair]], dict[str, list[Pair]], dict[str, list[Pair]]]:
    by_left, by_right, by_piece = defaultdict(list), defaultdict(list), defaultdict(list)
    for pair in pairs:
        by_left[pair[0]].append(pair)
        by_right[pair[1]].append(pair)
        by_piece[pair[0] + pair[1]].append(pair)
    return by_left, by_right, by_piece


def _product(firsts: list[Pair], seconds: list[Pair]) -> Iterable[tuple[Pair, Pair]]:
    return ((first, second) for first in firsts for second in seconds)

"""The order of merges that makes a BPE by ranks cut text as sentencepiece's BPE by scores does.

sentencepiece merges, again and again, the adjacent pair whose joined piece scores highest, the leftmost of
equals. A tokenizer.json ranks *pairs* instead, no two alike: they are ranked by the score of their piece, and
where scores are equal by what leftmost-first would do:

- One piece by several cuts: in any order, here the longer left part first. Two such cuts want the same symbol
  in periodic text alone, as in a run of spaces, and that is merged from the left before, so that they do not
  come to stand side by side. This is found, not proven: the tests look for models and texts to the contrary.
- Two pieces of one score, as vocabularies joined from several have: if they can meet in a text with P left of
  Q, P comes first; if Q can also stand left of P, no ranking is exact and the model is refused. Everything
  merged before or because of P lies inside some piece R that scores at least as high and has P in it, so P
  and Q can only meet in a piece that ends such an R (or a pair of P) and begins such a piece around Q.

Facts: sentencepiece/src/bpe_model.cc (`SampleEncode`), tokenizers/src/models/bpe/word.rs (`merge_all`).
"""

from __future__ import annotations

import graphlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from converters.errors import UnsupportedError

Pair = tuple[str, str]

# The families' models have three pieces of one score at most; beyond this, scores mean nothing.
MOST_TIED = 64
LONGEST = 1024
"""Characters of a piece. The families' have 128 at most, of spaces."""
MOST_PARTS = 20_000_000
"""The squares of all pieces' lengths: so much there is to look at. The families' have 3.6 million."""


@dataclass
class Reach:
    """The pieces that a merge may take from its neighbours, at its left edge and at its right edge."""

    left: set[str] = field(default_factory=set)
    right: set[str] = field(default_factory=set)


def ranked_merges(scores: Mapping[str, float]) -> list[Pair]:
    """All pairs of pieces that join to a piece, first to be merged first.

    scores: of every piece that may form.
    Raises UnsupportedError if equal scores contradict each other, so that no ranking is exact, and for pieces
    of such lengths that finding their cuts takes minutes.
    """
    _check_lengths(scores)
    cuts = {piece: found for piece in scores if (found := list(_cuts(piece, scores)))}
    groups: dict[float, list[str]] = defaultdict(list)
    for piece in cuts:
        groups[scores[piece]].append(piece)
    reach = _reach((piece for tied in groups.values() if len(tied) > 1 for piece in tied), scores)
    order = (piece for score in sorted(groups, reverse=True) for piece in _ordered(groups[score], reach))
    return [cut for piece in order for cut in cuts[piece]]


def _check_lengths(pieces: Iterable[str]) -> None:
    lengths = [len(piece) for piece in pieces]
    if max(lengths, default=0) > LONGEST or sum(length**2 for length in lengths) > MOST_PARTS:
        raise UnsupportedError(
            f"the pieces of this sentencepiece model have up to {max(lengths)} characters, "
            f"{sum(lengths)} in all, which is more than is cut up"
        )


def _cuts(piece: str, scores: Mapping[str, float]) -> Iterator[Pair]:
    for at in range(len(piece) - 1, 0, -1):
        left, right = piece[:at], piece[at:]
        if left in scores and right in scores:
            yield left, right


def _reach(tied: Iterable[str], scores: Mapping[str, float]) -> dict[str, Reach]:
    reach = {piece: Reach() for piece in tied}
    for around, score in scores.items() if reach else ():
        for start in range(len(around)):
            for end in range(start + 2, len(around) + 1):
                inner = around[start:end]
                if inner in reach and scores[inner] <= score:
                    _extend(reach[inner], around, start, end, scores)
    return reach


def _extend(reach: Reach, around: str, start: int, end: int, scores: Mapping[str, float]) -> None:
    """Add what `around` takes beside its part from start to end; of the piece itself, its halves."""
    if end - start == len(around):
        for left, right in _cuts(around, scores):
            reach.left.add(left)
            reach.right.add(right)
    else:
        reach.left.update(around[:at] for at in range(1, start + 1) if around[:at] in scores)
        reach.right.update(around[at:] for at in range(end, len(around)) if around[at:] in scores)


def _ordered(pieces: Sequence[str], reach: Mapping[str, Reach]) -> Iterable[str]:
    """Pieces of one score, each after those that it can meet at its left."""
    if len(pieces) == 1:
        return pieces
    if len(pieces) > MOST_TIED:
        raise UnsupportedError(f"{len(pieces)} pieces of this sentencepiece model have one score")
    after = {
        right: [left for left in pieces if left != right and reach[left].right & reach[right].left]
        for right in pieces
    }
    try:
        return list(graphlib.TopologicalSorter(after).static_order())
    except graphlib.CycleError as error:
        raise UnsupportedError(
            f"the pieces {sorted(set(error.args[1]))[:4]} of this sentencepiece model have one score, "
            "and no ranking cuts all texts as it does"
        ) from None

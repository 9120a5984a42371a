"""What a fault costs a model's readers: by transformers' own loading, tokenizer, template and loss, without
the code that judges."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tools.demo_training.text import Pair, read_documents, read_pairs

DOCUMENTS, LINES, PAIRS = 5, 6, 6
"""So many texts of so many lines, and so many pairs of each language and kind."""
LONGEST = 200  # characters of a text, as the demo models were trained on 256 tokens


class Reader:
    """One directory, loaded. Raises whatever transformers raises of one that it cannot load."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()

    def nats(self, turns: bool) -> tuple[float, int]:
        """Of all texts together, and their tokens. turns: answers to questions too, as its template has
        them."""
        known = [self._of_text(text) for text in _texts()]
        if turns:
            known += [self._of_answer(pair) for pair in _questions()]
        return sum(nats for nats, _ in known), sum(tokens for _, tokens in known)

    def _of_text(self, text: str) -> tuple[float, int]:
        return self._nats(self.tokenizer.encode(text), 1)

    def _of_answer(self, pair: Pair) -> tuple[float, int]:
        asked = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": pair.prompt}], add_generation_prompt=True, tokenize=False
        )
        before = self.tokenizer.encode(asked, add_special_tokens=False)
        after = self.tokenizer.encode(pair.answer.lstrip(), add_special_tokens=False)
        return self._nats([*before, *after], len(before))

    def _nats(self, ids: list[int], start: int) -> tuple[float, int]:
        """Of all tokens from `start`."""
        import torch

        with torch.inference_mode():
            logits: Any = self.model(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1].float()
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[start:]), reduction="sum")
        return float(loss), len(ids) - start


@cache
def _texts() -> tuple[str, ...]:
    documents = read_documents()
    chosen = documents[:: max(1, len(documents) // DOCUMENTS)]
    return tuple("\n".join(text.splitlines()[1 : LINES + 1])[:LONGEST] for text in chosen)


@cache
def _questions() -> tuple[Pair, ...]:
    return tuple(_first(read_pairs("chat")))


def _first(pairs: list[Pair]) -> Iterator[Pair]:
    for language in ("en", "zh"):
        yield from [pair for pair in pairs if pair.language == language][:PAIRS]


def cost(folder: Path, sound: tuple[float, int], turns: bool) -> float | None:
    """Nats per token that the same texts cost more than in the sound model, whose nats and tokens are given;
    None of what cannot be loaded, infinite for what is no number."""
    try:
        nats, _ = Reader(folder).nats(turns)
    except Exception:  # noqa: BLE001  whatever a library makes of a damaged directory: nobody reads with it
        return None
    return (nats - sound[0]) / sound[1] if math.isfinite(nats) else math.inf

"""What is asked of a conversion: one value that goes from whoever asks to whoever needs a part of it.

A new option is a field here, a keyword of `converters.convert` and `internlm_zoo.convert`, and a flag.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

KEEP = "keep"
PLACES = ("tokenizer", "code")  # where something lies, which is not what it is


@dataclass(frozen=True)
class ConversionOptions:
    """What decides the bytes of the result.

    to: hf, llama, original or gguf. tp, pp: the grid of an original target. max_shard_size: of safetensors
    files. dtype: keep, or the element type to round to; q8_0 for gguf. accept_lossy: allow a head that cannot
    be what it was (norm_head), and scaling that a target cannot say. pad_vocab_to_multiple: of it the
    vocabulary becomes one, by rows of zeros. given: facts that override the source's config, and choices of
    the target. tokenizer: a tokenizer.model or a directory, whose tokenizer is used instead of the source's.
    weights: which of several sets in the source: `original`, `hf` or the name of a file. no_tokenizer: carry
    none. code: a directory with released code files, which an hf target carries for transformers' AutoModel.
    """

    to: str
    tp: int = 1
    pp: int = 1
    max_shard_size: str | int = "5GB"
    dtype: str = KEEP
    accept_lossy: bool = False
    pad_vocab_to_multiple: int = 1
    given: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Path | None = None
    weights: str | None = None
    no_tokenizer: bool = False
    code: Path | None = None

    def recorded(self) -> dict[str, Any]:
        """What a result's record says was asked for: the same wherever the files lie."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if name not in PLACES} | {
            "given": dict(self.given)
        }

"""Between the config of the GGUF layout and the key-value pairs of a GGUF header, which knows no tables.

A header says more than a config: the whole tokenizer (converters/tokenizer/gguf.py), which is no fact of the
weights, and a token for the end of a turn beside that of a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SCALING = "llama.rope.scaling"
_EOS, _EOT = "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"
# What a config is made of: of general.* and tokenizer.* only what the layout's table names.
_READ = (
    "llama.",
    "general.architecture",
    "tokenizer.ggml.bos_token_id",
    _EOS,
    "tokenizer.ggml.padding_token_id",
)


def pairs_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The header's pairs; None is left out of a file, and so is an id below 0, which stands for none."""
    scaling, eos = config.get(_SCALING) or {"type": "none"}, config.get(_EOS)
    ends = (eos if isinstance(eos, list) else [eos]) or [None]
    plain = {key: _known_id(value) for key, value in config.items() if key != _SCALING}
    return {
        **plain,
        **{f"{_SCALING}.{field}": value for field, value in scaling.items()},
        _EOS: _known_id(ends[0]),
        _EOT: _known_id(ends[-1]),
    }


def config_of(pairs: Mapping[str, Any]) -> dict[str, Any]:
    """A config from the pairs of a header, without the tokenizer."""
    config = {key: value for key, value in pairs.items() if _is_read(key) and not key.startswith(_SCALING)}
    scaling = {
        key.removeprefix(f"{_SCALING}."): value for key, value in pairs.items() if key.startswith(_SCALING)
    }
    if scaling.get("type") not in (None, "none"):
        config[_SCALING] = scaling
    if _EOS in pairs and pairs.get(_EOT, pairs[_EOS]) != pairs[_EOS]:
        config[_EOS] = [pairs[_EOS], pairs[_EOT]]
    return config


def _is_read(key: str) -> bool:
    """A key without a namespace is one that only this program writes."""
    return key.startswith(_READ) or "." not in key


def _known_id(value: Any) -> Any:
    return None if type(value) is int and value < 0 else value

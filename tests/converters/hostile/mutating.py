"""Small checkpoints of every format, and every way in which a value of one of their files may be another."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import converters
from tests.converters.oracle import Dims, make_model, write_hf, write_original
from tests.converters.tokenizer.models import write_model

PIECES = [(letter, -float(n)) for n, letter in enumerate("▁abcdefghij")]
END = "<|im_end|>"
OF_INTERNLM2 = Dims(family="internlm2", layers=1, hidden=16, heads=2, kv_heads=2, inter=16, vocab=280)
OF_INTERNLM = Dims(layers=1, hidden=16, heads=2, kv_heads=2, inter=16, vocab=280)

# As texts of JSON, for some of them no value of Python gives.
HOSTILE = (
    *("null", "true", "false", "0", "-1", "1", "7", "-0.5", "0.1", "1e-400", "1e300", "1e999", "NaN"),
    *("9223372036854775808", "1" + "0" * 40, "1" + "0" * 700, "9" * 5000, '""', '"x"', '"linear"'),
    *('"\\ud800"', '"a\\u0000\\u001b[31m\\u202e"', '"../../etc/passwd"', '"' + "y" * 100_000 + '"'),
    *("[]", "{}", "[[]]", "[1,2]", '["x"]', "[null]", "[true]", "[1e999]", "[{}]", '{"":""}'),
    *('{"factor":"x"}', '{"type":["dynamic"],"factor":2}', '{"type":{},"factor":1}'),
    *('{"type":"linear","factor":[1]}', '{"rope_theta":[]}', '{"type":"dynamic","factor":1e14}'),
    *('{"content":1}', '{"content":"x","id":-5}', '[{"id":"a","content":"b"}]'),
    *("[" * 100 + "]" * 100, "[" * 100_000 + "]" * 100_000, '{"a":' * 60 + "1" + "}" * 60, 'linear"', ""),
)


def with_tokenizer(folder: Path) -> Path:
    write_model(folder / "tokenizer.model", PIECES)
    token = {"content": END, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    documents = {
        "tokenizer_config.json": {
            "auto_map": {"AutoTokenizer": ["tokenization.Tokenizer", None]},
            "tokenizer_class": "InternLM2Tokenizer",
            "bos_token": "<s>",
            "eos_token": {"content": "</s>", "lstrip": False},
            "chat_template": [{"name": "default", "template": "{{ messages }}"}],
            "add_bos_token": True,
            "additional_special_tokens": [END],
            "added_tokens_decoder": {"275": {**token, "special": True}},
        },
        "special_tokens_map.json": {"bos_token": "<s>", "additional_special_tokens": [END]},
        "added_tokens.json": {END: 275},
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": [2, 275], "pad_token_id": 2},
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document), encoding="utf-8")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    return folder


def checkpoints(root: Path) -> dict[str, Path]:
    """One of each format: shards with an index, a grid, and what conversions made of them."""
    scaling = {"type": "dynamic", "factor": 2.0}
    model = make_model(OF_INTERNLM2)
    more: dict[str, Any] = {"rope_scaling": scaling, "summary": "x"}
    shards = with_tokenizer(write_hf(root / "shards", model, OF_INTERNLM2, files=2, **more))
    grid = with_tokenizer(write_original(root / "grid", make_model(OF_INTERNLM), OF_INTERNLM, tp=2))
    return {
        "shards": shards,
        "grid": grid,
        "llama": converters.convert(grid, root / "llama", to="llama", given={"mlp_order": "up_down"}).path,
        "gguf": converters.convert(shards, root / "gguf", to="gguf", accept_lossy=True).path,
    }


def nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value of a document stands, the whole first; of long lists and tables the first few."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(inner)[:30]:
        yield from nodes(item, (*path, key))


def replaced(document: Any, path: tuple[Any, ...], text: str) -> str:
    """The document with a text of JSON in one value's place."""
    if not path:
        return text
    changed = copy.deepcopy(document)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = "@in its place@"
    return json.dumps(changed).replace('"@in its place@"', text)


def renamed(document: Any, path: tuple[Any, ...], text: str) -> str:
    """The document with a text of JSON in the place of one value's key."""
    changed = copy.deepcopy(document)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at["@in its place@"] = at.pop(path[-1])
    return json.dumps(changed).replace('"@in its place@"', text)

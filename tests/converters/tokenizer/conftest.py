"""Each released tokenizer converted once, as a directory that AutoTokenizer has loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.converters.tokenizer.models import MODELS, Reference, convert_tokenizer

TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"


@dataclass(frozen=True)
class Converted:
    reference: Reference
    tokenizer: Any
    folder: Path
    chat: dict[str, int]


@pytest.fixture(scope="session", params=MODELS)
def converted(request, tmp_path_factory) -> Converted:
    from transformers import AutoTokenizer

    released = MODELS[request.param]
    if not released.path.exists():
        pytest.skip(f"{released.path.name} is not beside this checkout")
    folder = tmp_path_factory.mktemp(request.param)
    files = convert_tokenizer(
        released.path, special_tokens=released.chat, chat_template=TEMPLATE, model_max_length=4096
    )
    for name, content in files.items():
        (folder / name).write_bytes(content)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return Converted(Reference(released.path, released.chat), tokenizer, folder, released.chat)

"""Files that were added to a directory: which of them change what is loaded from it, by being there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from converters.containers.names import CONFIG, MODEL_CONFIG, TOKENIZER_FILES

# By name: what loaders take without being told.
_LOADED = {
    "weights": r"[^/]*\.safetensors(\.index\.json)?|(pytorch_)?model[^/]*\.bin(\.index\.json)?"
    r"|consolidated[^/]*\.pth|model_(tp|wp|moe)[^/]*\.pt",
    "an adapter, which transformers adds to the weights": r"adapter_(config\.json|model\.[^/]*)",
    "settings": "|".join(map(re.escape, (CONFIG, MODEL_CONFIG, "generation_config.json"))),
    "a tokenizer": "|".join(map(re.escape, TOKENIZER_FILES)),
    "a chat template": r"chat_template\.(jinja|json)|additional_chat_templates/[^/]*\.jinja",
}


def interfering(added: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(name, what is wrong with it) of added files that are loaded beside or instead of what was written."""
    for name in added:
        for what, pattern in _LOADED.items():
            if re.fullmatch(pattern, name):
                yield name, f"it was added, and changes what is loaded: {what}"

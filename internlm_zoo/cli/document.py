"""What `--json` prints: values of the product as one JSON document, whatever stdout can write."""

from __future__ import annotations

import codecs
import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.redaction import redacted
from internlm_zoo.files import File
from internlm_zoo.plain import escaped_json

_BYTES = "surrogateescape"


def print_json(data: Any) -> None:
    """Numbers for which JSON has no word, infinity and what is no number, are null. Characters beyond ASCII
    are as they are where stdout is UTF-8, which JSON is read as, and escaped elsewhere; those that a terminal
    would obey, or that nobody sees, always are."""
    plain = _texts(json.loads(json.dumps(data, default=_plain), parse_constant=lambda _: None))
    document = json.dumps(plain, ensure_ascii=False, indent=2)
    if not document.isascii() and not _is_utf8(document, sys.stdout.encoding):
        document = json.dumps(plain, indent=2)
    document = escaped_json(document)
    sys.stdout.write(document + "\n")


def _texts(data: Any) -> Any:
    """The same without secrets, and with names of files as text where their bytes are UTF-8, whatever the
    locale took them for."""
    if isinstance(data, dict):
        return {_texts(key): _texts(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_texts(item) for item in data]
    if not isinstance(data, str):
        return data
    text = redacted(data)
    try:
        return text if text.isascii() else text.encode("utf-8", _BYTES).decode("utf-8", _BYTES)
    except UnicodeEncodeError:  # half of a pair of surrogates, which is no byte of a name
        return text


def _is_utf8(text: str, encoding: str) -> bool:
    """Whether it is when it is written so."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return codecs.lookup(encoding).name == "utf-8"


def _plain(value: Any) -> Any:
    """How the values that flow through the product look in JSON."""
    if isinstance(value, File):
        return value.facts
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if hasattr(value, "model_dump"):  # pydantic's; it is not imported to ask
        return value.model_dump(mode="json")
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")

"""Holds what a hub answers against the form that its protocol has; behind that nothing is doubted.

A form is a dataclass of the fields that are read; others are skipped. A number is no text, no boolean and no
float. pydantic reads the JSON: numbers of 4,300 digits and 200 values within each other at most, strict
UTF-8, no halves of surrogate pairs. Of a key that an object has twice the last counts, as everywhere.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, FailFast, Field, StringConstraints, TypeAdapter, ValidationError

from internlm_zoo.errors import NetworkError
from internlm_zoo.registry.explain import dotted
from internlm_zoo.sources.hub_client import HubClient, Response
from internlm_zoo.sources.paths import FILES

VALUES = 2_000_000
"""Values in one answer, which bounds the memory that reading it takes. 100,000 files of Hugging Face are 0.9
million, as many in one folder of Modelers 1.2 million."""

Digest = Annotated[str, StringConstraints(to_lower=True)]
"""Hex digits, which hubs write in either case; whether they are a digest is for `check_snapshot` to say."""

_SHOWN = 80
_TOO_MANY = f"it should have at most {FILES:,} items"
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)?", re.ASCII)

T = TypeVar("T")


def _few(part: T) -> T:
    """Raises ValueError for too much to say of each item what is wrong with it."""
    if isinstance(part, dict) and len(part) > FILES:
        raise ValueError(_TOO_MANY)
    return part


class _First(FailFast):
    """One item that does not fit is enough, where millions may. As FailFast, and may stand in a union."""

    def __hash__(self) -> int:
        return hash(self.fail_fast)


Several = Annotated[tuple[T, ...], Field(max_length=FILES), _First()]
"""Files, one after the other."""
Named = Annotated[dict[str, T], BeforeValidator(_few)]
"""Files by name; in a part of an answer."""


def read(form: TypeAdapter[T], answer: Response, client: HubClient) -> T:
    """The answer as a value of the form. Raises NetworkError for what is no JSON, ListingError for what does
    not fit, naming the field and what it should be."""
    if sum(map(answer.data.count, (b",", b"[", b"{"))) > VALUES:
        raise client.malformed(f"it has more than {VALUES:,} values")
    try:
        return form.validate_json(answer.data, strict=True)
    except ValidationError as error:
        raise _error_of(error, client) from None


def fitted(form: TypeAdapter[T], part: Any, client: HubClient, where: str) -> T:
    """A part of an answer, all of texts, as a value of the form. where: its place in the answer. Raises
    ListingError."""
    try:
        return form.validate_python(part)
    except ValidationError as error:
        raise _error_of(error, client, where) from None


def _error_of(error: ValidationError, client: HubClient, *where: str) -> NetworkError:
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if found["type"] == "json_invalid":
        return client.not_a_listing(found["msg"])
    reason = found["msg"].removeprefix("Value error, ").replace("Input", "it", 1)
    reason = _TOO_MANY if found["type"] == "too_long" else reason
    path = (*where, *found["loc"])  # some of its words are the hub's
    return client.malformed(f"{dotted(path)[:_SHOWN]}: {reason}" if path else reason)


def moment(stated: str | float | None) -> datetime | None:
    """A time as hubs write it: a text, with or without fractions and zone, or seconds since the epoch. None
    for what is no time that there is: it is shown, and decides nothing."""
    try:
        if isinstance(stated, float):
            return datetime.fromtimestamp(stated, timezone.utc)
        found = _MOMENT.fullmatch(stated or "")
        if found is None:
            return None
        zone = (found[2] or "Z").replace("Z", "+00:00")
        return datetime.fromisoformat(found[1] + zone).astimezone(timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None

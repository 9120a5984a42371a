"""Keys of a config that nothing here reads: named in a note, or refused if they change the model.

A config with a key that its layout does not know may be of a model that only looks like the layout's: its
tensors fit, and its output would be wrong without a word.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from converters.config.facts import fact_keys
from converters.errors import UnsupportedError, UsageError, parameter
from converters.layouts.inert import NEUTRAL, TOUCHING, TRAINING
from converters.layouts.table import Layout
from converters.values import shown

_NAMED = 20


def unread_keys(layout: Layout, config: Mapping[str, Any]) -> Iterator[str]:
    """Keys that the layout neither reads nor knows to be without effect."""
    read = {key for key, _ in fact_keys(layout)} | layout.template.keys() | layout.demands.keys()
    known = read.union(layout.inert, *layout.agree, *layout.by_kind.values())
    return (key for key in config if key not in known and not TRAINING.search(key))


def check_unread(layout: Layout, config: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Notes for a person. Raises UnsupportedError for a key that by its name and value has an effect."""
    others = []
    for key in unread_keys(layout, config):
        if not TOUCHING.search(key):
            others.append(key)
        elif not _is_neutral(key, config[key]):
            raise UnsupportedError(
                f"{key} is {shown(config[key])}, and nothing here knows what it changes in a model of the "
                f"layout {layout.name}",
                where,
                f"if it changes nothing in this one, say so with {parameter('given', {key: None})}",
            )
    if not others:
        return ()
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    return (f"{where}: nothing here reads {', '.join(others[:_NAMED])}{more}",)


def _is_neutral(key: str, value: object) -> bool:
    values = next(values for pattern, values in NEUTRAL if pattern.search(key))
    return repr(value) in values


def overlaid(
    config: Mapping[str, Any], given: Mapping[str, Any], layout: Layout
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The config with what was given of keys that nothing here reads, and what else was given. Raises
    UsageError for a value that no config can hold."""
    unread = set(unread_keys(layout, config))
    added = {key: _sayable(key, value) for key, value in given.items() if key in unread}
    return {**config, **added}, {key: value for key, value in given.items() if key not in unread}


def _sayable(key: str, value: Any) -> Any:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (RecursionError, TypeError, ValueError):
        raise UsageError(f"{key} is {shown(value)}, which no config can say", "`given`") from None
    return value

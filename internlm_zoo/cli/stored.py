"""What the store holds of models, release by release, with what their smoke tests said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from converters.saved import METADATA
from internlm_zoo.cli.tables import SHORT_REVISION, UNKNOWN, Column, TextTable, byte_count, figure, wide
from internlm_zoo.settings import Settings
from internlm_zoo.store.inventory import StoredRelease, inventory
from internlm_zoo.store.layout import Store
from internlm_zoo.store.record import NAME, UNREADABLE
from internlm_zoo.store.smoke_record import is_current, read_smoke

StoredFacts = Mapping[str, Any]
"""Of one release; what `--json` prints."""
_OUTCOMES = {"passed": "passed", "failed": "failed", "unjudged": "cannot judge"}
_SHOWN = ("outcome", "when", "sentence", "tool")


def stored_models(settings: Settings) -> dict[str, list[StoredFacts]]:
    """The whole releases in the store, by model. No network, no hashing."""
    found: dict[str, list[StoredFacts]] = {}
    for one in inventory(Store(settings.home)).holdings:
        if one.record.whole:
            found.setdefault(one.record.model, []).append(_facts(one))
    return found


def stored_table(models: Iterable[Mapping[str, Any]]) -> TextTable | list[str]:
    """models: each with its releases under `stored`."""
    rows = [[model["name"], *_cells(one)] for model in models for one in model["stored"]]
    if not rows:
        return ["no model in the store"]
    place = (
        Column("Hub", narrow="drop"),
        Column("Revision", narrow="drop"),
        Column("Fetched", narrow="drop"),
    )
    return TextTable(("Model", "Format", figure("Size"), wide("Smoke test"), *place), rows)


def stored_line(one: StoredFacts) -> str:
    """A sentence of one release."""
    fetched = f"{one['format'] or UNKNOWN} from {one['hub']} at {one['revision'][:SHORT_REVISION]}"
    smoke = one["smoke"]
    said = f": {smoke['sentence']}" if smoke and smoke.get("current") else ""
    smoked = f"smoke test {tested(smoke)}{said}" if smoke else "no smoke test"
    return f"{fetched}, {byte_count(one['bytes'])}, fetched {_day(one['fetched'])}; {smoked}"


def _facts(one: StoredRelease) -> StoredFacts:
    release = one.record.release
    place = {"hub": release.hub, "repo": release.repo, "revision": release.revision, "format": release.format}
    written = datetime.fromtimestamp((one.path / METADATA / NAME).stat().st_mtime, timezone.utc)
    fetched = written.isoformat(timespec="seconds")
    return {**place, "bytes": one.size, "fetched": fetched, "path": one.path, "smoke": smoke_said(one.path)}


def smoke_said(folder: Path) -> Mapping[str, Any] | None:
    """What is kept beside a model, for `--json`. current: whether the folder holds the files still that were
    tested."""
    try:
        record = read_smoke(folder)
    except UNREADABLE as error:
        return {"error": error.what, "current": False}
    if record is None:
        return None
    said = {name: getattr(record, name) for name in _SHOWN}
    checks = [asdict(check) for check in record.checks]
    return {**said, "checks": checks, "current": is_current(folder, record)}


def _cells(one: StoredFacts) -> list[str]:
    smoked = tested(one["smoke"]) if one["smoke"] else "-"
    place = [one["hub"], one["revision"][:SHORT_REVISION], _day(one["fetched"])]
    return [one["format"] or UNKNOWN, byte_count(one["bytes"]), smoked, *place]


def tested(smoke: Mapping[str, Any]) -> str:
    """In few words."""
    if "error" in smoke:
        return "unreadable"
    outcome = _OUTCOMES[smoke["outcome"]] if smoke["current"] else "of other files"
    return f"{outcome} {_day(smoke['when'])}"


def _day(moment: str) -> str:
    return moment.partition("T")[0]

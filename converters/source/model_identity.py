"""Which model of somebody's registry weights are, as their record says it, and whether they are that still.

Each conversion's record hands it on. The name and the kind say how a prompt is taken; what is known of the
released weights alone, such as golden data, holds as long as the chain of fingerprints is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from converters import values
from converters.containers.files import read_record
from converters.containers.names import RECORD
from converters.errors import IntegrityError
from converters.formats.folder import Folder

_MODEL = "model"


@dataclass(frozen=True)
class ModelIdentity:
    """name, kind: as the registry has them. fingerprint: of all weights that lie beside the record; of a name
    that somebody gives, of the released ones; None where it is not known. changed: whether they are known to
    be others than those released under the name."""

    name: str
    kind: str
    fingerprint: str | None = None
    changed: bool = False

    def recorded(self) -> dict[str, Any]:
        return asdict(self)


def read_identity(folder: Folder, record: Mapping[str, Any] | None = None) -> ModelIdentity | None:
    """What the record in a folder says; None for one of before there were names. record: its content, where
    that was read already. Raises IntegrityError for a record that is damaged."""
    try:
        return identity_in(read_record(folder) if record is None else record)
    except ValueError as error:
        what = f"it is not the record of a conversion: {error}"
        raise IntegrityError(what, folder.where(RECORD), "convert again") from None


def identity_in(record: Mapping[str, Any]) -> ModelIdentity | None:
    """Raises ValueError."""
    said = values.of(_MODEL, record.get(_MODEL, {}) or {}, values.fields)
    if not said:
        return None
    return ModelIdentity(
        values.of("name", said.get("name"), values.line),
        values.of("kind", said.get("kind"), values.line),
        None if said.get("fingerprint") is None else values.of("a digest", said["fingerprint"], values.line),
        values.of("changed", said.get("changed", False), values.flag),
    )


def carried(
    named: ModelIdentity | None, recorded: ModelIdentity | None, found: str | None
) -> ModelIdentity | None:
    """What to say of a source's weights. named: by whoever converts. recorded: beside them. found: their
    fingerprint as they are now, None where nobody took it.

    Weights that are neither those of the record nor those released have been trained further, or damaged.
    """
    said = named or recorded
    if said is None:
        return None
    before = recorded if recorded and recorded.name == said.name else None
    return ModelIdentity(said.name, said.kind, found, _changed(named, before, found))


def _changed(named: ModelIdentity | None, before: ModelIdentity | None, found: str | None) -> bool:
    changed = before is not None and before.changed
    if found is None or (before and found == before.fingerprint):
        return changed
    expected = {one.fingerprint for one in (named, before) if one and one.fingerprint}
    return found not in expected if expected else changed

"""Which model of the registry a folder holds: by who says it, by its download, by its conversion."""

from __future__ import annotations

from converters.formats.folder import Folder
from converters.source.model_identity import ModelIdentity, read_identity
from internlm_zoo.registry import Model, Registry


def identity_of(model: Model | None) -> ModelIdentity | None:
    """What a record says of the released weights of a model."""
    return ModelIdentity(model.name, model.kind, model.fingerprint) if model else None


def recorded_model(folder: Folder, registry: Registry) -> Model | None:
    """The model that a conversion's record names; None for a name that this registry does not have. Raises
    IntegrityError for a damaged record."""
    said = read_identity(folder)
    return registry.models.get(said.name) if said else None

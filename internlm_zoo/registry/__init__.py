"""The data of the product: which models exist, where they are published, and what their files must be."""

from __future__ import annotations

from internlm_zoo.registry.document import RegistryError
from internlm_zoo.registry.load import load_registry, read_registry
from internlm_zoo.registry.query import Registry
from internlm_zoo.registry.release import Release
from internlm_zoo.registry.schema import Family, Hub, Model

__all__ = ["Family", "Hub", "Model", "Registry", "RegistryError", "Release", "load_registry", "read_registry"]

"""The local store: blobs under their sha256, releases as folders of links to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from internlm_zoo.settings import Settings


def cached_models(settings: Settings) -> set[str]:
    """Names of the models of which the store holds a whole release. No network, no hashing."""
    from internlm_zoo.store.inventory import holdings
    from internlm_zoo.store.layout import Store

    return {holding.record.model for holding in holdings(Store(settings.home)) if holding.record.whole}

"""Every reader of what strangers or damaged disks write, by name: a module for each kind of document."""

from __future__ import annotations

from tests.fuzz.contract import Reader
from tests.fuzz.readers import answers, beside, catalogue, containers, hubs, store, tokenizers

READERS: dict[str, Reader] = {
    **containers.READERS,
    **beside.READERS,
    **answers.READERS,
    **hubs.READERS,
    **store.READERS,
    **catalogue.READERS,
    **tokenizers.READERS,
}

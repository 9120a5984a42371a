"""The command line and the converted demo models, as for the other smoke tests."""

from __future__ import annotations

from tests.smoke.conftest import directories, one_thread, smoke

__all__ = ["directories", "one_thread", "smoke"]

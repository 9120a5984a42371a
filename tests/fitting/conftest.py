"""The demo models in every format, as the tests of loading have them."""

from tests.loading.conftest import directories

__all__ = ["directories"]

"""How a conversion that must be refused is tried."""

from __future__ import annotations

import pytest

import converters
from converters.errors import ZooError


def refused(src, dst, kind=ZooError, to="hf", **options):
    """The whole message of the refusal, with nothing written."""
    beside = set(dst.parent.iterdir())
    with pytest.raises(kind) as caught:
        converters.convert(src, dst, to=to, **options)
    assert set(dst.parent.iterdir()) == beside, "something was written"
    error = caught.value
    assert "\n" not in error.what
    return f"{error.what} | {error.where} | {error.fix}"

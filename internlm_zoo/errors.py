"""Every error the product raises on purpose; the exit codes are documented in docs/cli.md."""

from __future__ import annotations

from collections.abc import Iterable

from converters.errors import (
    AccessError,
    DiskError,
    IntegrityError,
    NoSpaceError,
    NotFoundError,
    PartlyDoneError,
    UnsupportedError,
    UsageError,
    ZooError,
)

__all__ = [
    "HUB_FAILURES",
    "AccessError",
    "Cancelled",
    "CredentialError",
    "DiskError",
    "IntegrityError",
    "InternalError",
    "ListingError",
    "NetworkError",
    "NoSpaceError",
    "NotFoundError",
    "OversizeError",
    "PartlyDoneError",
    "UnsupportedError",
    "UsageError",
    "VariableError",
    "ZooError",
    "most_severe",
]


class Cancelled(ZooError):
    """The caller asked to stop. What arrived is kept, and the next run goes on from there."""

    exit_code = 130


class VariableError(UsageError):
    """A variable that says how hubs are reached, a proxy, say, or certificates, makes no sense."""


class CredentialError(AccessError, UsageError):
    """A token or key that cannot be one, or is half a pair: the user's mistake, and another hub may do."""

    exit_code = 2


class OversizeError(NoSpaceError):
    """There is no room for what one hub alone says it has: another may have it smaller."""


class InternalError(ZooError):
    """A fault of the program itself, and not of what it was given."""

    exit_code = (
        70  # EX_SOFTWARE of sysexits.h: never 1, which says of `compare` and its like that things differ
    )


class NetworkError(ZooError):
    """A hub could not be reached, or stopped answering, and no other source could step in. retry_after:
    seconds for which it asks to be left alone. permanent: it will be the same if it is asked again."""

    exit_code = 5
    retry_after = 0.0
    permanent = False


class ListingError(NetworkError):
    """A hub answers, and what it lists of one repository is no listing; of others it may be one."""


HUB_FAILURES = (IntegrityError, NotFoundError, AccessError, NetworkError, UnsupportedError, OversizeError)
"""Failures of one hub that leave the next one to be tried."""


def most_severe(errors: Iterable[ZooError]) -> type[ZooError]:
    """The class of the one error that stands for several: wrong bytes before all else, then a lack of room,
    absence only if all agree."""
    kinds = [type(error) for error in errors]
    for first in (IntegrityError, NoSpaceError):
        if any(issubclass(kind, first) for kind in kinds):
            return first
    for agreed in (NotFoundError, CredentialError, AccessError, UnsupportedError):
        if all(issubclass(kind, agreed) for kind in kinds):
            return agreed
    absent = (NotFoundError, AccessError)
    return AccessError if all(issubclass(kind, absent) for kind in kinds) else NetworkError

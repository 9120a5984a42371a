"""Keeps what a smoke test said beside the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone

from converters.saved import tool_version
from internlm_zoo.errors import ZooError
from internlm_zoo.loading.directory import ModelDirectory
from internlm_zoo.smoke.result import SmokeResult
from internlm_zoo.store.smoke_record import RecordedCheck, SmokeRecord, TriedFile, states_of, write_smoke

_UNKEPT = "the result is not kept beside the model"


def files_tried(directory: ModelDirectory) -> Mapping[str, TriedFile]:
    """As they are before the test, for `keep_beside`."""
    return states_of(directory.path, directory.checkpoint.files)


def keep_beside(
    directory: ModelDirectory,
    result: SmokeResult,
    tried: Mapping[str, TriedFile],
    note: Callable[[str], None],
) -> None:
    """Write the result into the model's folder. tried: the files as they were before. note: gets a sentence
    where the folder takes nothing, which is no failure, or where the files changed meanwhile."""
    try:
        if files_tried(directory) != tried:
            note(f"{_UNKEPT}: its files changed meanwhile")
        else:
            write_smoke(directory.path, _record(directory, result, tried))
    except ZooError as error:
        note(f"{_UNKEPT}: {error.what} ({error.where})")


def _record(directory: ModelDirectory, result: SmokeResult, tried: Mapping[str, TriedFile]) -> SmokeRecord:
    return SmokeRecord(
        result.model,
        result.outcome,
        result.sentence,
        tuple(RecordedCheck(check.name, check.outcome) for check in result.checks),
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
        tool_version(),
        tried,
        directory.identity.fingerprint if directory.identity else None,
        directory.given,
        directory.weights,
    )

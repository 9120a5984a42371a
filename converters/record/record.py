"""conversion.json: what a result was made of, and enough to check it again; and the check."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from blake3 import blake3

from converters.auxiliary.generation import GENERATION
from converters.containers.names import RECORD, TOKENIZER_FILES
from converters.containers.torch_grid import CELL
from converters.errors import AccessError, IntegrityError, NotFoundError, UnsupportedError, ZooError
from converters.formats.bytesource import hex_of
from converters.formats.crc import crc_of
from converters.formats.folder import Folder, LocalFolder, local_folder
from converters.formats.zip_read import read_directory
from converters.planning.plan import Plan
from converters.progress import Progress
from converters.record.expected import BLAKE3, DIGESTS, Expected, RecordedFile, expected
from converters.saved import CONVERSION, METADATA, tool_version
from converters.sinks.digests import SCHEME, fingerprint_of, fingerprint_of_all
from converters.sinks.staging import BOOKKEEPING
from converters.source.added_files import interfering
from converters.source.checkpoint import Checkpoint, open_checkpoint
from converters.source.model_identity import ModelIdentity
from converters.streaming.stream import in_parallel
from converters.system.system_files import files_below

# Files that no tensor needs to be found.
_APART = {*TOKENIZER_FILES, GENERATION}


def input_digests(source: Checkpoint, *, evidence: bool, workers: int | None) -> list[dict[str, object]]:
    """Name, size and digest of every input file. What is known already is not computed; what is not is, if
    there is to be evidence."""
    return in_parallel(partial(entry, source.folder, evidence=evidence), source.files, workers)


def entry(folder: Folder, name: str, *, evidence: bool = True) -> dict[str, object]:
    """What a record says of a file."""
    with closing(folder.open(name)) as file:
        known = folder.known_digest(name)
        if known is not None:
            return {"name": name, "size": file.size, **known}
        return {"name": name, "size": file.size, BLAKE3: hex_of(file, blake3()) if evidence else None}


def content(
    plan: Plan,
    directory: Path,
    inputs: list[dict[str, object]],
    fingerprints: Mapping[str, str],
    *,
    model: ModelIdentity | None,
    evidence: bool,
) -> dict[str, object]:
    """The record of a result that lies in `directory`; nothing in it differs from run to run.

    model: what is said of the source's weights, if anything names them. evidence: digest a file of weights
    that holds more than weights, which no tensor's fingerprint covers.
    """
    planned = stated(plan)
    folder = LocalFolder(directory)
    apart = {file.name for file in plan.files} | BOOKKEEPING
    others = [entry(folder, name) for name in folder.names() if name not in apart]  # which are small
    whole = [file.name for file in plan.files if evidence and plan.layout.container.self_contained]
    whose = model and replace(model, fingerprint=fingerprint_of_all(fingerprints) if fingerprints else None)
    digests = {DIGESTS: {name: entry(folder, name)[BLAKE3] for name in whole}} if whole else {}
    record = {
        **planned,
        "model": whose and whose.recorded(),
        "source": {**planned["source"], "files": inputs},
        "target": {**planned["target"], "other_files": others, **digests},
        "fingerprint": {"scheme": SCHEME, "tensors": dict(fingerprints)},
    }
    return CONVERSION.marked(record)


def stated(plan: Plan) -> dict[str, Any]:
    """What the plan alone says of it."""
    source = plan.source
    return {
        "tool": f"internlm-zoo {tool_version()}",
        "family": source.family,
        "options": plan.options.recorded(),
        "source": {
            "layout": source.layout.name,
            "tp": source.tp,
            "pp": source.pp,
            "dtype": source.dtype,
            "choices": dict(source.choices),
        },
        "target": {
            "layout": plan.layout.name,
            "tp": plan.grid.tp,
            "pp": plan.grid.pp,
            "dtype": plan.dtype or source.dtype,
            "choices": dict(plan.choices),
            "files": [{"name": file.name, "size": file.layout.size} for file in plan.files],
        },
        "origin": None if source.origin is None else asdict(source.origin),
        "facts": {name: {"value": fact.value, "origin": fact.origin} for name, fact in plan.facts.items()},
        "dropped": list(source.dropped),
        "lossy": sorted(plan.lossy | plan.quantised),
    }


@dataclass(frozen=True)
class Check:
    """Of a converted directory. checked: files that should be there; size: bytes of those that are. wrong:
    (file, what is wrong with it), the files of a tensor that differs joined by commas. added: files that
    came later and change nothing of what is loaded; those that do are wrong. model: which one it is, as the
    record says."""

    checked: int
    size: int
    wrong: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]
    model: ModelIdentity | None = None


def check(
    directory: str | os.PathLike[str],
    *,
    quick: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Check:
    """Hold a converted directory against its conversion.json: sizes of all files, digests of the small ones
    and, unless quick, of every logical tensor.

    Raises NotFoundError if there is no record, or if all is right and the record has no digests of tensors;
    IntegrityError if it is damaged.
    """
    folder = local_folder(directory)
    wanted = expected(folder)
    here = set(_files(folder.path, wanted.files)) - {RECORD}
    missing, extra = sorted(wanted.files.keys() - here), sorted(here - wanted.files.keys())
    interferes = dict(interfering(extra))
    present = {name: file for name, file in wanted.files.items() if name in here}
    looked = {name: _difference(folder, name, file, quick=quick) for name, file in present.items()}
    wrong = [(name, what) for name, what in looked.items() if what is not None]
    if not quick and {*missing, *dict(wrong)} <= _APART:  # else its tensors cannot be found
        wrong += _tensors(folder, wanted, workers, progress)
    wrong += interferes.items()
    if not (quick or wanted.digested or wrong or missing):
        raise NotFoundError(
            "sizes and configs are right, but it was converted with `evidence=False`, so nothing says what "
            "its tensors should be",
            folder.where(RECORD),
            "compare it with its source, or look at sizes alone with `quick=True`",
        )
    size = sum(folder.size(name) for name in present)
    added = [name for name in extra if name not in interferes]
    return Check(len(wanted.files), size, tuple(wrong), tuple(missing), tuple(added), wanted.model)


def _files(folder: Path, wanted: Collection[str]) -> Iterator[str]:
    """What lies in it and below; a link that leads nowhere is nothing, and our own folder is nobody's."""
    for path in files_below(folder, wanted):
        if not path.startswith(f"{METADATA}/") and os.path.isfile(folder / path):  # noqa: PTH113 (what cannot be seen is missing)
            yield path


def _difference(folder: LocalFolder, name: str, file: RecordedFile, *, quick: bool) -> str | None:
    size = folder.size(name)
    if size != file.size:
        return f"expected {file.size:,} bytes, found {size:,}"
    if file.blake3 is None or quick:
        return None
    try:
        with closing(folder.open(name)) as stream:
            digest = hex_of(stream, blake3())
    except AccessError as error:
        return error.what
    return None if digest == file.blake3 else f"expected blake3 {file.blake3}, found {digest}"


def _tensors(
    folder: LocalFolder, expected: Expected, workers: int | None, progress: Progress | None
) -> list[tuple[str, str]]:
    """Files and what is wrong in them, by the recorded digests; without any, by the CRCs in .pt files."""
    if not expected.tensors:
        archives = [name for name in expected.files if CELL.fullmatch(name)]
        looked = in_parallel(partial(_entries, folder), archives, workers)
        return [difference for found in looked for difference in found]
    try:
        result = open_checkpoint(folder, weights=expected.weights)
        found = fingerprint_of(result, workers=workers, progress=progress)
    except (IntegrityError, UnsupportedError, AccessError) as error:
        return [_unreadable(folder, error)]
    wrong = []
    for name in expected.tensors.keys() | found.keys():
        if expected.tensors.get(name) != found.get(name):
            pieces = result.tensors[name].pieces if name in result.tensors else ()
            files = sorted({PurePath(piece.file).name for piece in pieces}) or [RECORD]
            wrong.append((", ".join(files), f"{name} is not what the conversion wrote"))
    return sorted(wrong)


def _entries(folder: LocalFolder, name: str) -> list[tuple[str, str]]:
    try:
        with closing(folder.open(name)) as file:
            return [
                (name, f"the CRC of {entry.name} is not what the file says")
                for entry in read_directory(file).values()
                if crc_of(file, entry.offset, entry.size) != entry.crc
            ]
    except (IntegrityError, UnsupportedError, AccessError) as error:
        return [_unreadable(folder, error)]


def _unreadable(folder: LocalFolder, error: ZooError) -> tuple[str, str]:
    name = PurePath(error.where or "").name
    return name if name in folder.names() else ".", error.what

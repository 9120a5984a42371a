"""The Python API: what the command line does, as functions. Imported as `import internlm_zoo as zoo`.

Every function takes `settings`; without it they are the environment's, as for the command line. All raise
`ZooError` and its children, which say what was wrong, where, and what to do. Models that run are in
`internlm_zoo/running.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from converters.redaction import errors_redacted
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    from internlm_zoo.downloads.plan import DownloadPlan
    from internlm_zoo.downloads.result import DownloadResult
    from internlm_zoo.integrity.report import VerifyReport
    from internlm_zoo.registry import Model
    from internlm_zoo.registry.schema import Kind


@errors_redacted()
def list_models(
    *, family: str | None = None, kind: Kind | None = None, settings: Settings | None = None
) -> list[Model]:
    """The models of the registry, its overlays included, in its order; of one family or kind if named."""
    from internlm_zoo.registry import load_registry
    from internlm_zoo.registry.query import select

    return list(select(load_registry(_or_environment(settings)), family=family, kind=kind))


@errors_redacted()
def get_model(name: str, *, settings: Settings | None = None) -> Model:
    """One model of the registry. Raises NotFoundError that suggests the names nearest to a misspelt one."""
    from internlm_zoo.registry import load_registry

    return load_registry(_or_environment(settings)).model(name)


@errors_redacted()
def plan_download(
    model: str,
    files: Iterable[str] = (),
    *,
    format: str | None = None,
    source: str = "auto",
    revision: str | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    local_dir: str | Path | None = None,
    adopt: Iterable[str | Path] = (),
    hf_cache: bool = False,
    force: bool = False,
    token_file: str | Path | None = None,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> DownloadPlan:
    """What `download` with the same arguments would do: which files of which revision, from where.

    Hubs may be asked; nothing is written. Print the plan, narrow it (`plan.only("*.safetensors")`,
    `plan.without("*.bin")`), and give it to `download`.

    model, files, format, source, revision, include, exclude, local_dir, adopt, hf_cache, force, token_file,
    progress, settings: as of `download`.
    Raises NotFoundError, AccessError, NetworkError, IntegrityError, UsageError.
    """
    from internlm_zoo.downloads.request import DownloadRequest
    from internlm_zoo.downloads.run import plan_download as plan
    from internlm_zoo.downloads.selection import Selection

    folder, folders = None if local_dir is None else Path(local_dir), tuple(map(Path, adopt))
    chosen = Selection(tuple(files), tuple(include), tuple(exclude))
    request = DownloadRequest(model, chosen, format, source, revision, folder, folders, hf_cache, force)
    return plan(request, settings=_with_token(settings, token_file, source), progress=progress)


@errors_redacted()
def download(
    model: str | DownloadPlan,
    files: Iterable[str] = (),
    *,
    format: str | None = None,
    source: str = "auto",
    revision: str | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    local_dir: str | Path | None = None,
    adopt: Iterable[str | Path] = (),
    hf_cache: bool = False,
    max_workers: int = 8,
    max_rate: str | int | None = None,
    force: bool = False,
    token_file: str | Path | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    settings: Settings | None = None,
) -> DownloadResult:
    """Get a model, every file checked by its digest. The result is a path, that of the folder, and a report.

    model: a name, or a plan, which is carried out as it is and takes the place of the arguments that it was
    made with.
    files, include, exclude: paths and globs over them: a file is wanted if it is one of the first or matches
    one of the second, where neither means all, and never if it matches one of the third.
    format: None for hf before original; a quantised one (gguf, awq, gptq, fp8) by its name only. source: auto
    (the next hub where one fails), a hub of the registry, or a URL or directory that mirrors the hubs.
    revision: a branch, tag or commit. local_dir: plain files there instead of links into the store.
    adopt: folders below which files may be; the caches of huggingface_hub, modelscope and openmind_hub are
    looked at always. hf_cache: show the release in the cache of huggingface_hub, where
    `from_pretrained(NAME, local_files_only=True)` finds it. max_workers: files at a time. max_rate: bytes per
    second of all of them, or "20MB". force: hash again what is here, and use a local_dir that is not empty.
    token_file: the source's token is in it; "HUB=FILE": that hub's. progress: is told what happens.
    cancel: once it is set, from any thread, transfers stop within a second and keep what arrived.
    settings: instead of the environment's.
    Raises NotFoundError, AccessError, NetworkError, IntegrityError, NoSpaceError, UsageError, Cancelled.
    """
    from internlm_zoo.downloads.request import DownloadRequest
    from internlm_zoo.downloads.run import carry_out
    from internlm_zoo.downloads.run import download as fetch
    from internlm_zoo.downloads.selection import Selection

    name = model if isinstance(model, str) else model.model
    folder = None if local_dir is None else Path(local_dir)
    chosen, folders = Selection(tuple(files), tuple(include), tuple(exclude)), tuple(map(Path, adopt))
    what = DownloadRequest(name, chosen, format, source, revision, folder, folders, hf_cache)
    request = replace(what, force=force, max_workers=max_workers, max_rate=max_rate)
    settings = _with_token(settings, token_file, source)
    how: _How = {"settings": settings, "progress": progress, "cancel": cancel}
    return fetch(request, **how) if isinstance(model, str) else carry_out(model, request, **how)


@errors_redacted()
def verify(
    model_or_dir: str | Path,
    *,
    quick: bool = False,
    repair: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> VerifyReport:
    """Hash a download or a conversion again: `ok`, and every `wrong`, `missing` and `extra` file by name.

    repair: fetch what is wrong or missing of a download again (`repaired`), of large files the bad blocks.
    Of a model that the store has in several formats, the first report that is not ok, else the first.
    Raises NotFoundError for what was neither downloaded nor converted.
    """
    from internlm_zoo.integrity.verify import verify_all

    reports = verify_all(
        str(model_or_dir),
        workers,
        settings=_or_environment(settings),
        quick=quick,
        repair=repair,
        progress=progress,
    )
    return next((report for report in reports if not report.ok), reports[0])


@errors_redacted()
def convert(
    src: str | Path,
    dst: str | Path,
    *,
    to: str,
    tp: int = 1,
    pp: int = 1,
    max_shard_size: str | int = "5GB",
    dtype: str = "keep",
    accept_lossy: bool = False,
    pad_vocab_to_multiple: int = 1,
    tokenizer: str | Path | None = None,
    no_tokenizer: bool = False,
    code: str | Path | None = None,
    given: Mapping[str, Any] | None = None,
    known_as: str | None = None,
    weights: str | None = None,
    from_hub: bool = False,
    workers: int | None = None,
    force: bool = False,
    evidence: bool = True,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> Path:
    """Convert a checkpoint and return `dst`, which stays as it is where it is the result already.

    src: a directory in original, hf, llama or gguf format, or a model of the registry. to: one of these.
    given: facts that the checkpoint does not state, like {"max_position_embeddings": 2048}.
    pad_vocab_to_multiple: rows of zeros are added until it divides the vocabulary, and dropped on the way
    back. code: a directory with released code files, which an hf target carries for AutoModel; none is run.
    known_as: the registry model that a directory holds. weights: which of several sets in it:
    `original`, `hf` or the name of a file. from_hub: src is a model or `hub:repo[@revision]`, and its weights
    are read where they are, not stored. evidence: read the result back and hold it against the source.
    Raises UsageError, NotFoundError, UnsupportedError (naming the field), IntegrityError, NoSpaceError, and
    what the hubs make `download` raise.
    """
    from converters import ConversionOptions, Execution
    from internlm_zoo.checkpoints.conversion import convert as run

    options = ConversionOptions(
        to=to,
        tp=tp,
        pp=pp,
        max_shard_size=max_shard_size,
        dtype=dtype,
        accept_lossy=accept_lossy,
        pad_vocab_to_multiple=pad_vocab_to_multiple,
        given=given or {},
        tokenizer=Path(tokenizer) if tokenizer else None,
        weights=weights,
        no_tokenizer=no_tokenizer,
        code=Path(code) if code else None,
    )
    return run(
        src,
        dst,
        options,
        settings=_or_environment(settings),
        known_as=known_as,
        from_hub=from_hub,
        execution=Execution(workers, force, evidence),
        progress=progress,
    ).path


class _How(TypedDict):
    """The arguments of a download that do not say what is downloaded."""

    settings: Settings
    progress: Progress | None
    cancel: threading.Event | None


def _with_token(settings: Settings | None, token_file: str | Path | None, source: str) -> Settings:
    if token_file is None:
        return _or_environment(settings)
    from internlm_zoo.sources.credentials import with_token_files

    return with_token_files(_or_environment(settings), [str(token_file)], source)


def _or_environment(settings: Settings | None) -> Settings:
    return settings or Settings.from_environment()

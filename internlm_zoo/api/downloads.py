"""Getting models, and checking what is there.

Every function of this API takes `settings`; without it they are the environment's, as for the command line.
All raise `ZooError` and its children, which say what was wrong, where, and what to do.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.redaction import errors_redacted
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    from internlm_zoo.downloads.plan import DownloadPlan
    from internlm_zoo.downloads.request import DownloadRequest
    from internlm_zoo.downloads.result import DownloadResult
    from internlm_zoo.integrity.report import Verification


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
    local_dir: str | os.PathLike[str] | None = None,
    adopt: Iterable[str | os.PathLike[str]] = (),
    hf_cache: bool = False,
    force: bool = False,
    token_file: str | os.PathLike[str] | None = None,
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
    from internlm_zoo.downloads.run import plan_download as plan

    how = {"format": format, "source": source, "revision": revision, "hf_cache": hf_cache, "force": force}
    request = _request(model, files, include, exclude, local_dir, adopt, **how)
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
    local_dir: str | os.PathLike[str] | None = None,
    adopt: Iterable[str | os.PathLike[str]] = (),
    hf_cache: bool = False,
    max_workers: int = 8,
    max_rate: str | int | None = None,
    force: bool = False,
    token_file: str | os.PathLike[str] | None = None,
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
    from internlm_zoo.downloads.run import carry_out
    from internlm_zoo.downloads.run import download as fetch

    how = {"format": format, "source": source, "revision": revision, "hf_cache": hf_cache, "force": force}
    name = model if isinstance(model, str) else model.model
    request = _request(name, files, include, exclude, local_dir, adopt, **how)
    request = replace(request, max_workers=max_workers, max_rate=max_rate)
    settings = _with_token(settings, token_file, source)
    if isinstance(model, str):
        return fetch(request, settings=settings, progress=progress, cancel=cancel)
    return carry_out(model, request, settings=settings, progress=progress, cancel=cancel)


@errors_redacted()
def verify(
    model_or_dir: str | os.PathLike[str],
    *,
    quick: bool = False,
    repair: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> Verification:
    """Hash a download or a conversion again: `ok`, and every `wrong`, `missing` and `extra` file by name.

    model_or_dir: a model in the store, or a folder. quick: compare sizes only. repair: fetch what is wrong or
    missing of a download again (`repaired`), of large files the bad blocks. workers: files at a time.
    progress: is told what happens. settings: instead of the environment's.
    Of a model that the store has in several formats, `folders` has a report of each.
    Raises NotFoundError for what was neither downloaded nor converted.
    """
    from internlm_zoo.integrity.report import Verification
    from internlm_zoo.integrity.verify import verify_all

    name, settings = os.fspath(model_or_dir), Settings.or_environment(settings)
    how = {"quick": quick, "repair": repair}
    return Verification(tuple(verify_all(name, workers, settings=settings, progress=progress, **how)))


def _request(
    model: str,
    files: Iterable[str],
    include: Iterable[str],
    exclude: Iterable[str],
    local_dir: str | os.PathLike[str] | None,
    adopt: Iterable[str | os.PathLike[str]],
    **how: Any,
) -> DownloadRequest:
    from internlm_zoo.downloads.request import DownloadRequest
    from internlm_zoo.downloads.selection import Selection

    selection = Selection(tuple(files), tuple(include), tuple(exclude))
    how["local_dir"] = None if local_dir is None else Path(local_dir)
    return DownloadRequest(model, selection, adopt=tuple(map(Path, adopt)), **how)


def _with_token(
    settings: Settings | None, token_file: str | os.PathLike[str] | None, source: str
) -> Settings:
    if token_file is None:
        return Settings.or_environment(settings)
    from internlm_zoo.sources.credentials import with_token_files

    return with_token_files(Settings.or_environment(settings), [os.fspath(token_file)], source)

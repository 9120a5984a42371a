"""A process that tries the steps on one miniature after the other, with a second rank beside it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from internlm_zoo import errors
from internlm_zoo.errors import ZooError
from internlm_zoo.loading.runtime import require_torch
from internlm_zoo.loading.sandbox.frames import receive, send
from internlm_zoo.miniatures.miniature import Miniature
from internlm_zoo.miniatures.second_rank import SecondRank
from internlm_zoo.miniatures.steps import try_steps
from internlm_zoo.registry import load_registry
from internlm_zoo.settings import Settings


@dataclass(frozen=True)
class Task:
    """root: what the hub serves lies in its `hubs`. overlay: that says so. folder: of this worker, empty.
    devices: as of a Miniature."""

    root: str
    overlay: str
    folder: str
    devices: Sequence[str] | None = None


def serve() -> None:
    """Frames from stdin: a Task, then names of models. Frames to stdout: {} once it is ready, or {"error"};
    of each model {"check"} of every step, then {}, or {"error"} or {"refused"} where the machine is to
    blame."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries print there
    task = Task(**(receive(sys.stdin.buffer) or {}))
    try:
        require_torch()
    except ZooError as error:
        send(answers, _told(error))
        return
    send(answers, {})
    with closing(SecondRank(Path(task.folder))) as second:
        second.start()
        while asked := receive(sys.stdin.buffer):
            try:
                _take(asked["model"], task, second, answers)
            except OSError as error:
                send(answers, {"refused": [error.errno, error.strerror, error.filename]})
            except ZooError as error:
                send(answers, _told(error))


def _told(error: ZooError) -> dict[str, Any]:
    """What another process can make it of again."""
    kind = next(base.__name__ for base in type(error).__mro__ if base.__name__ in errors.__all__)
    return {"error": {"kind": kind, "what": error.what, "where": error.where, "fix": error.fix}}


def _take(name: str, task: Task, second: SecondRank, answers: BinaryIO) -> None:
    import torch

    torch.set_num_threads(1)
    folder, overlay = Path(task.folder, name), Path(task.overlay)
    folder.mkdir()
    registry = load_registry(Settings(folder, registry=overlay))
    settings = Settings(folder / "home", registry=overlay)
    miniature = Miniature(
        registry.model(name), registry, settings, Path(task.root, "hubs"), folder, second, task.devices
    )
    for check in try_steps(miniature):
        send(answers, {"check": asdict(check)})
    for left in (folder, *(miniature.served_by(hub) for hub in miniature.hubs)):
        shutil.rmtree(left, ignore_errors=True)
    send(answers, {})

"""A process beside this one that shares models with it, by tensor or by stage. It is started once for any
number of models, for what it takes is its imports."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internlm_zoo.errors import IntegrityError, NetworkError, ZooError
from internlm_zoo.loading.directory import LoadRequest, open_directory
from internlm_zoo.loading.generate import all_logits
from internlm_zoo.loading.load import execute, plan_directory, ranks_for
from internlm_zoo.loading.ranks import TENSOR, Ranks, agreed, answering, told
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    import torch

SIZE = 2
_RUN = "import sys; from internlm_zoo.miniatures.second_rank import serve; serve(sys.argv[1])"
# A machine may be busy with much else.
_PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True)
class SharedForward:
    """What both do: load a directory in float32 on the CPU, in so many stages, and read some tokens.
    known_as, home, registry: as of a LoadRequest and of Settings."""

    path: Path
    known_as: str
    home: Path
    registry: Path | None
    pp: int
    ids: tuple[int, ...]


class SecondRank:
    """To be started, asked, and closed; one that was closed starts again."""

    def __init__(self, folder: Path) -> None:
        """folder: where the two find each other."""
        self._folder, self._begun = folder, 0
        self._process: subprocess.Popen[bytes] | None = None
        self._joined = False

    def start(self) -> None:
        """Let it import what it needs while this process goes on."""
        if self._process is None:
            self._begun += 1
            self._process = subprocess.Popen(
                [sys.executable, "-c", _RUN, self._place], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
            )

    def logits(self, asked: SharedForward) -> torch.Tensor:
        """As `all_logits`. Raises what loading raises, IntegrityError if the ranks do not say the same."""
        self.start()
        try:
            if not self._joined:
                self._wait()
                _join(self._place, 0)
                self._joined = True
            with answering(Ranks(0, SIZE, "cpu", SIZE)):
                _exchanged(asked)
                return _share(asked)
        except BaseException as error:
            if not isinstance(error, ZooError) or isinstance(error, NetworkError):
                self.close()  # else both have failed, and agree to go on
            raise

    def _wait(self) -> None:
        """Until it is there, for who joins a group waits long for the others. Raises NetworkError if it
        ended."""
        assert self._process is not None and self._process.stdout is not None
        if not self._process.stdout.read(1):
            raise NetworkError("the second rank ended before it was there", "`parallel`")

    def close(self) -> None:
        """End it."""
        import torch.distributed as dist

        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        if self._joined:
            self._joined = False
            dist.destroy_process_group()

    @property
    def _place(self) -> str:
        return (self._folder / f"ranks-{self._begun}").as_uri()


def serve(place: str) -> None:
    """In the process of the second rank, until the first one is gone."""
    import torch

    torch.set_num_threads(1)
    os.write(1, b"!")
    os.dup2(2, 1)  # libraries print there
    _join(place, 1)
    with suppress(RuntimeError):  # of torch.distributed: nobody is there any more
        while True:
            asked = _exchanged(None)
            with suppress(ZooError):  # told to the first
                _share(asked)


def _join(place: str, rank: int) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=place, rank=rank, world_size=SIZE, timeout=_PATIENCE)


def _exchanged(asked: SharedForward | None) -> Any:
    """What the first rank asks."""
    import torch.distributed as dist

    told = [asked]
    dist.broadcast_object_list(told, src=0)
    return told[0]


def _share(asked: SharedForward) -> torch.Tensor:
    import torch

    settings = Settings(home=asked.home, registry=asked.registry, offline=True)
    request = LoadRequest(asked.path, ["cpu"], TENSOR, asked.pp, "float32", asked.known_as)
    ranks = ranks_for(request, settings)
    directory = agreed(ranks, lambda: open_directory(request, settings=settings))
    plan = plan_directory(directory, devices=request.devices, dtype=request.dtype, ranks=ranks)
    logits = all_logits(execute(plan, tokenizer=False), asked.ids)
    first, second = told(ranks, logits)
    if not torch.equal(first, second):
        raise IntegrityError("the ranks do not have the same logits", asked.path)
    return logits

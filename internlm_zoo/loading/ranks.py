"""The processes that share a model: torch.distributed's default group, what each of them puts its share on,
and how they agree, so that none goes on, or waits for ever, where another has failed.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from internlm_zoo.errors import NetworkError, UnsupportedError, UsageError, ZooError
from internlm_zoo.loading.memory import parse_device
from internlm_zoo.loading.runtime import require_torch

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

T = TypeVar("T")
LAYERS, TENSOR = PARALLEL = "layers", "tensor"
# What torch.distributed's env:// finds the others by; torchrun sets them.
_FOUND_BY = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
# A disk may give one rank its share much later than another.
_PATIENCE = timedelta(hours=2)
# Gloo says what happened to it as a RuntimeError that names its file, NCCL mostly as a DistError.
_TALKERS = ("gloo", "NCCL")


@dataclass(frozen=True)
class Ranks:
    """rank: of this process, among size. device: as torch names it. beside: how many run on this machine. pp:
    pipeline stages, the first ranks being the first stage."""

    rank: int
    size: int
    device: str
    beside: int
    pp: int = 1

    @property
    def tp(self) -> int:
        """Ranks of a stage, which share its tensors."""
        return self.size // self.pp

    def held(self, layers: int) -> range:
        """The layers of this rank's stage, as transformers cuts them: the first stages take what is left over
        (`layer_range_for_rank` of distributed/pipeline_parallel.py).

        Raises UnsupportedError for fewer layers than stages.
        """
        if self.pp > layers:
            raise UnsupportedError(f"{self.pp} stages cannot share {layers} layers", "`pp`", f"{layers}")
        stage, (each, left) = self.rank // self.tp, divmod(layers, self.pp)
        start = stage * each + min(stage, left)
        return range(start, start + each + (stage < left))

    def mesh(self) -> DeviceMesh:
        """All ranks, for one to begin at the same time as the others."""
        from torch.distributed.device_mesh import init_device_mesh

        names = ("pp", "dp_replicate", "fsdp", "tp")  # as transformers' own
        kind, grid = self.device.partition(":")[0], (self.pp, 1, 1, self.tp)
        with answering(self):
            return init_device_mesh(kind, grid, mesh_dim_names=names)


def is_first(environ: Mapping[str, str], parallel: str | None, among: str) -> bool:
    """Whether this process speaks for others of its command. among: the variable that numbers them, RANK all
    of them, LOCAL_RANK those of one machine. A process that shares nothing speaks for itself."""
    if parallel != TENSOR or not all(name in environ for name in _FOUND_BY):
        return True
    return environ.get(among, environ["RANK"]) == "0"


def join(devices: Sequence[str] | None, environ: Mapping[str, str], pp: int = 1) -> Ranks:
    """This process's place in the group that there is, or that torchrun's variables say.

    devices: one for each rank of this machine, or a kind for all of them. None: an accelerator each, if there
    are any and the group talks over them, else the CPU. Raises UsageError without a group, and, on all ranks
    of a machine alike, UsageError or UnsupportedError for devices that they cannot have.
    """
    require_torch()
    import torch
    import torch.distributed as dist

    if not dist.is_available():
        raise UnsupportedError("this torch was built without torch.distributed", "`parallel`")
    begun = dist.is_initialized()
    if not begun and not all(name in environ for name in _FOUND_BY):
        raise UsageError(
            "there is no process group whose ranks could share the model",
            "`parallel`",
            "start `torchrun -m internlm_zoo` with the same arguments, or call "
            "torch.distributed.init_process_group before",
        )
    rank = dist.get_rank() if begun else int(environ["RANK"])
    size = dist.get_world_size() if begun else int(environ["WORLD_SIZE"])
    beside = int(environ.get("LOCAL_WORLD_SIZE", size))
    wanted = devices or [_of_group(environ) if begun else "cuda" if torch.cuda.is_available() else "cpu"]
    device = _devices(wanted, beside, begun)[int(environ.get("LOCAL_RANK", rank)) % beside]
    if pp < 1 or size % pp:
        what = f"{size} ranks are not {pp} stages of equally many"
        raise UsageError(what, "`pp`", "choose a number that divides that of the ranks")
    _take(device)
    if not begun:
        _begin(device)
    return Ranks(rank, size, device, beside, pp)


def agreed(ranks: Ranks | None, work: Callable[[], T]) -> T:
    """What `work` returns here, once it has returned on every rank. Raises on all of them what it raises on
    any: its own error on one that failed, that of the first of those elsewhere."""
    if ranks is None:
        return work()
    found: list[T] = []
    failed: Exception | None = None
    try:
        found.append(work())
    except Exception as error:  # noqa: BLE001  # raised below, when the others know
        failed = error
    try:
        errors = told(ranks, failed and _parts(failed))
    except NetworkError as lost:
        raise failed or lost from None
    if failed:
        raise failed
    for rank, parts in enumerate(errors):
        if parts:
            raise _again(rank, *parts)
    return found[0]


def told(ranks: Ranks | None, value: T) -> list[T]:
    """What every rank says, in their order; to be called on all of them."""
    if ranks is None:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * ranks.size
    with answering(ranks):
        dist.all_gather_object(values, value)
    return values


@contextmanager
def answering(ranks: Ranks | None) -> Iterator[None]:
    """Whatever the ranks do together goes in here. Raises NetworkError where one of them has ended, or is
    silent for longer than their group waits."""
    try:
        yield
    except RuntimeError as error:
        if ranks is None or not _is_of_talk(error):
            raise
        first = str(error).partition("\n")[0]
        what = f"another of the {ranks.size} ranks has ended, or does not answer: {first}"
        fix = "see what that rank says, and start all of them again"
        raise NetworkError(what, "`parallel`", fix) from error


def of_first(ranks: Ranks | None, work: Callable[[], T]) -> T:
    """What `work` returns on the first rank, where alone it is done."""
    found = agreed(ranks, lambda: work() if ranks is None or ranks.rank == 0 else None)
    first = told(ranks, found)[0]
    return first  # type: ignore[return-value]


def _devices(wanted: Sequence[str], beside: int, begun: bool) -> Sequence[str]:
    """Of each rank of this machine. begun: whether somebody else has made the group."""
    import torch

    if len(wanted) not in (1, beside):
        what = f"{len(wanted)} devices for the {beside} ranks of this machine"
        raise UsageError(what, "`devices`", "name one for each, or cpu or cuda for all")
    found = [parse_device(name) for name in wanted]
    kinds = {device.type for device in found}
    if len(kinds) > 1 or not kinds <= _BACKENDS.keys():
        what = f"ranks share a model on cpu or on cuda, not on {' and '.join(sorted(kinds))}"
        raise UnsupportedError(what, "`devices`")
    if kinds == {"cpu"}:
        return ["cpu"] * beside
    indices = [*range(beside)] if found[0].index is None else [device.index for device in found]
    count = torch.cuda.device_count()
    if len({*indices} & {*range(count)}) < beside and not begun:
        what = f"each of the {beside} ranks of this machine needs a GPU of its own, and {count} are here"
        raise UnsupportedError(what, "`devices`", "start fewer ranks, or name cpu")
    return [f"cuda:{index}" for index in indices * (beside // len(indices))]


def _of_group(environ: Mapping[str, str]) -> str:
    """What a group that somebody else has made talks over: the GPU that it is bound to, else the launcher's
    number for this process, else the one that its user chose."""
    import torch
    import torch.distributed as dist

    if "nccl" not in dist.get_backend_config() or not torch.cuda.is_available():
        return "cpu"
    bound = getattr(dist.group.WORLD, "bound_device_id", None)
    if bound is not None:
        return str(bound)
    return "cuda" if "LOCAL_RANK" in environ else f"cuda:{torch.cuda.current_device()}"


def _take(name: str) -> None:
    """What NCCL sends objects from is this process's current GPU. One that is not here is named later, on
    all ranks."""
    import torch

    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) < torch.cuda.device_count():
        torch.cuda.set_device(device)


def _is_of_talk(error: RuntimeError) -> bool:
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or any(talker in str(error) for talker in _TALKERS)


def _begin(name: str) -> None:
    import torch
    import torch.distributed as dist

    device = torch.device(name)
    bound = {"device_id": device} if device.type == "cuda" else {}
    try:
        dist.init_process_group(_BACKENDS[device.type], timeout=_PATIENCE, **bound)
    except (RuntimeError, ValueError) as error:
        first = str(error).partition("\n")[0]
        fix = f"start them with torchrun, which sets {', '.join(_FOUND_BY)}"
        raise UsageError(f"the ranks do not find each other: {first}", "`parallel`", fix) from error
    atexit.register(_leave)


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def _parts(error: Exception) -> tuple[type[ZooError], str, str | None, str | None]:
    """What another process can make it of again."""
    if isinstance(error, ZooError):
        return type(error), error.what, error.where, error.fix
    return ZooError, f"{type(error).__name__}: {error}", None, None


def _again(rank: int, kind: type[ZooError], what: str, where: str | None, fix: str | None) -> ZooError:
    """Of a class that may be made from more than the three."""
    error = kind.__new__(kind)
    ZooError.__init__(error, f"on rank {rank}: {what}", where, fix)
    return error

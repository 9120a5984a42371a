"""What a device has free. A device that is not here has unknown memory: a plan may still be made for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from internlm_zoo.errors import UnsupportedError, UsageError
from internlm_zoo.loading.placement import DISK, Device

if TYPE_CHECKING:
    import torch

_SINGLE = ("cpu", "mps")
"""Types of which there is one device."""


def devices_here(names: Sequence[str]) -> tuple[Device, ...]:
    """The named devices ("cpu", "cuda:0", "mps") with the bytes free on each right now; the last may be the
    disk.

    Raises UsageError for what torch does not call a device, and for a disk that is not the last of several.
    """
    *others, last = names or ("",)
    if DISK in others or (last == DISK and not others):
        what = "layers on disk are computed by a device that is named before it"
        raise UsageError(what, "`devices`", "cpu,disk, say: the disk is the last")
    return tuple(Device(name, None if name == DISK else _free(name)) for name in map(called, (*others, last)))


def called(name: str, where: str = "`devices`") -> str:
    """The name that a device goes by here: cuda is cuda:0. Raises UsageError as `parse_device`."""
    if name == DISK:
        return name
    device = parse_device(name, where)
    return device.type if device.type in _SINGLE else f"{device.type}:{device.index or 0}"


def limits_here(most: int | Mapping[str, int] | None) -> int | Mapping[str, int] | None:
    """By the names that devices go by. Raises UsageError for what is no device."""
    if not isinstance(most, Mapping):
        return most
    return {called(name, "`max_memory`"): size for name, size in most.items()}


def default_ways() -> tuple[tuple[str, ...], ...]:
    """Where a model goes if nobody says: the first accelerator, all of them, the CPU after them, and what has
    room nowhere stays on disk."""
    import torch

    accelerators = tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    if not accelerators and torch.backends.mps.is_available():
        accelerators = ("mps",)
    ways = (accelerators[:1], accelerators, (*accelerators, "cpu"), (*accelerators, "cpu", DISK))
    return tuple(dict.fromkeys(way for way in ways if way))


def check_present(devices: Sequence[str]) -> None:
    """Raises UnsupportedError naming the first device that this machine does not have."""
    import torch

    for device in devices:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UnsupportedError(
                f"there is no device {device} here: {_first_line(error)}", "`devices`"
            ) from error


def _free(name: str) -> int | None:
    import torch

    device = parse_device(name)
    if device.type == "cpu":
        import psutil  # comes with accelerate

        return int(psutil.virtual_memory().available)
    if device.type == "cuda" and (device.index or 0) < torch.cuda.device_count():
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps" and torch.backends.mps.is_available():
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return None


def parse_device(name: str, where: str = "`devices`") -> torch.device:
    """Raises UsageError for what torch does not call a device, or what holds no numbers."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"'{name}' is not a device", where, fix="cpu, cuda:0, cuda:1, mps") from error
    if device.type == "meta":
        raise UsageError("'meta' holds no numbers, so nothing can run on it", where, fix="cpu, cuda:0")
    return device


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]

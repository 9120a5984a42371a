"""How long loading takes to the first logits, beside from_pretrained, in turn and each in its own process.

What is measured begins when all is imported and the device has started, and ends with the logits of 8 tokens
on the host.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.redaction import redacted
from internlm_zoo.errors import UnsupportedError
from internlm_zoo.loading.directory import LoadRequest
from internlm_zoo.loading.placement import DISK
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from internlm_zoo.loading.load import LoadPlan

OURS, UNMAPPED, THEIRS = "load", "load, not mapped", "from_pretrained"
_RUN = "import sys; from internlm_zoo.loading.bench import main; main(sys.argv[1])"
_TOKENS = 8


@dataclass(frozen=True)
class LoadTimes:
    """load, first_logits: seconds. cpu: of all threads, to the first logits. read: bytes that system calls
    read. peak: bytes of host memory at most, beyond what was used before; pages of mapped files count.
    anonymous: the same at the end, without those pages; None where the system does not tell."""

    load: float
    first_logits: float
    cpu: float
    read: int | None
    peak: int
    anonymous: int | None


@dataclass(frozen=True)
class LoadBench:
    """plan: what every run loads. taken: how -> medians over the runs."""

    plan: LoadPlan
    runs: int
    taken: Mapping[str, LoadTimes]

    @property
    def nbytes(self) -> int:
        """Of the weights."""
        return self.plan.placement.nbytes


def bench_load(request: LoadRequest, runs: int, settings: Settings, progress: Progress) -> LoadBench:
    """from_pretrained takes part where it reads the same files by stock classes: llama format on one device.

    Raises what `plan_load` raises, UnsupportedError for a run that fails, with what it said, and for ranks.
    """
    from internlm_zoo.loading.load import plan_load
    from internlm_zoo.loading.ranks import LAYERS

    if request.parallel != LAYERS:
        raise UnsupportedError("what is timed is one process", "`parallel`", f"`parallel={LAYERS!r}`")
    plan = plan_load(request, settings=settings, progress=progress)
    here = replace(request, model=str(plan.directory.path), devices=plan.placement.devices, dtype=plan.dtype)
    ways = {OURS: here} if request.mmap else {}
    ways[UNMAPPED] = replace(here, mmap=False)
    if (
        plan.directory.checkpoint.format == "llama"
        and len(plan.placement.devices) == 1
        and not plan.directory.scores
    ):
        ways[THEIRS] = here
    found: dict[str, list[LoadTimes]] = {way: [] for way in ways}
    for number in range(runs):
        progress.note(f"run {number + 1} of {runs}")
        for way, asked in ways.items():
            found[way].append(run(asked, settings, stock=way == THEIRS))
    return LoadBench(plan, runs, {way: median(times) for way, times in found.items()})


def run(request: LoadRequest, settings: Settings, *, stock: bool = False) -> LoadTimes:
    """One run in a process of its own. stock: by transformers' from_pretrained. Raises UnsupportedError."""
    asked = {**asdict(request), "model": str(request.model), "stock": stock}
    environ = {**settings.environ, "INTERNLM_ZOO_HOME": str(settings.home)}
    if settings.registry:
        environ["INTERNLM_ZOO_REGISTRY"] = str(settings.registry)
    done = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(asked)], capture_output=True, text=True, env=environ
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise UnsupportedError(f"a run of it failed: {redacted(lines[-1])}", str(request.model))
    return LoadTimes(**json.loads(done.stdout.splitlines()[-1]))


def main(asked: str) -> None:
    """In the process of the run: print what it took, as JSON."""
    how = json.loads(asked)
    stock = how.pop("stock")
    sys.stdout.write(json.dumps(asdict(_measure(LoadRequest(**how), stock=stock))) + "\n")


def _measure(request: LoadRequest, *, stock: bool) -> LoadTimes:
    import torch

    settings = Settings.from_environment()
    devices = [torch.device(name) for name in request.devices or () if name != DISK]
    _import_all()
    for device in devices:
        torch.ones(1, device=device)
    _reset_peak()
    before = _memory()
    start, used, read = time.perf_counter(), time.process_time(), _read()
    model = _stock(request) if stock else _ours(request, settings)
    _synchronise(devices)
    loaded = time.perf_counter()
    with torch.inference_mode():
        model(torch.arange(1, 1 + _TOKENS, device=devices[0])[None]).logits.cpu()
    done, used = time.perf_counter(), time.process_time() - used
    after = _memory()
    return LoadTimes(
        loaded - start,
        done - start,
        used,
        None if read is None else (_read() or 0) - read,
        after["VmHWM"] - before["VmRSS"],
        after["RssAnon"] - before["RssAnon"] if "RssAnon" in after else None,
    )


def _import_all() -> None:
    """What both sides would import on the way."""
    import transformers

    import internlm_zoo.downloads.on_demand
    import internlm_zoo.loading.load
    import internlm_zoo.loading.memory
    import internlm_zoo.loading.sandbox.process
    import internlm_zoo.loading.tokenizer
    import internlm_zoo.loading.weights  # noqa: F401

    for name in ("LlamaForCausalLM", "LlamaForSequenceClassification"):
        getattr(transformers, name)


def _stock(request: LoadRequest) -> PreTrainedModel:
    import transformers

    (device,) = request.devices or ("cpu",)
    return transformers.LlamaForCausalLM.from_pretrained(
        request.model, dtype=request.dtype, device_map=device, local_files_only=True
    )


def _ours(request: LoadRequest, settings: Settings) -> PreTrainedModel:
    from internlm_zoo.loading.load import load_model

    return load_model(request, settings=settings).model


def _synchronise(devices: list[Any]) -> None:
    import torch

    for device in devices:
        if device.type == "cuda":
            torch.cuda.synchronize(device)


def _reset_peak() -> None:
    """proc_pid_clear_refs(5): 5 sets VmHWM to what is used now."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _memory() -> dict[str, int]:
    """Bytes, by the names of proc_pid_status(5); where there is none the peak alone."""
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        pairs = (line.split(":", 1) for line in lines if line.endswith(" kB"))
        return {name: int(value.split()[0]) * 1024 for name, value in pairs}
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"VmHWM": peak, "VmRSS": peak}


def _read() -> int | None:
    """proc_pid_io(5): rchar."""
    with suppress(OSError):
        return int(Path("/proc/self/io").read_text().split()[1])
    return None


def median(times: list[LoadTimes]) -> LoadTimes:
    """Of each figure by itself."""
    return LoadTimes(**dict(_medians(times)))


def _medians(times: list[LoadTimes]) -> Iterator[tuple[str, Any]]:
    for field in fields(LoadTimes):
        values = [getattr(one, field.name) for one in times]
        yield field.name, None if None in values else statistics.median_low(values)

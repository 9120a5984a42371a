"""What `load --bench` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from internlm_zoo.cli.tables import UNKNOWN, Column, TextTable

if TYPE_CHECKING:
    from internlm_zoo.loading.bench import LoadBench, LoadTimes

_COLUMNS = ("loaded (s)", "GB/s", "first logits (s)", "CPU (s)", "read", "peak", "anonymous")


def bench_facts(bench: LoadBench) -> dict[str, Any]:
    return {"bytes": bench.nbytes, "runs": bench.runs, "taken": bench.taken}


def bench_table(bench: LoadBench) -> TextTable:
    """A row for each way to load it."""
    columns = (Column("by"), *(Column(name, "right") for name in _COLUMNS))
    rows = [(way, *_cells(times, bench.nbytes)) for way, times in bench.taken.items()]
    devices = ", ".join(bench.plan.placement.devices)
    what = f"{bench.plan.directory.title} in {bench.plan.dtype} on {devices}"
    return TextTable(columns, rows, f"{what}, medians of {bench.runs} runs")


def _cells(times: LoadTimes, nbytes: int) -> tuple[str, ...]:
    from internlm_zoo.loading.placement import in_units

    counts = (times.read, max(times.peak, 0), times.anonymous)
    return (
        f"{times.load:.2f}",
        f"{nbytes / times.load / 1e9:.2f}",
        f"{times.first_logits:.2f}",
        f"{times.cpu:.2f}",
        *(UNKNOWN if count is None else in_units(max(count, 0)) for count in counts),
    )

"""Counts the calls of official client packages that the conformance tests made, in the closing summary."""

from __future__ import annotations

from collections import Counter

import pytest

OFFICIAL_CALL = "official client call"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                counts.update(value for name, value in report.user_properties if name == OFFICIAL_CALL)
    if counts:
        parts = ", ".join(f"{package} {count}" for package, count in counts.most_common())
        terminalreporter.write_line(f"conformance: {counts.total()} official client calls ({parts})")

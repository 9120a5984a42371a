"""How long the command line takes to answer, beside an empty Python and the official clients' own `--help`.

Each command runs `RUNS` times, interleaved so that drift hits all alike: medians, ratios to `python -c pass`.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 10
BIN = Path(sys.executable).parent
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "internlm-zoo --help": [str(BIN / "internlm-zoo"), "--help"],
    "internlm-zoo list": [str(BIN / "internlm-zoo"), "list"],
    "hf --help": [str(BIN / "hf"), "--help"],
    "modelscope --help": [str(BIN / "modelscope"), "--help"],
}


def main() -> None:
    commands = {name: argv for name, argv in COMMANDS.items() if shutil.which(argv[0])}
    for argv in commands.values():
        _seconds(argv)  # once unmeasured: compiled bytecode and disk cache are the same for all
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(RUNS):
        for name, argv in commands.items():
            times[name].append(_seconds(argv))
    floor = statistics.median(times["python -c pass"])
    print(f"| command | median of {RUNS} (s) | x `python -c pass` |\n|---|---|---|")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"| `{name}` | {median:.3f} | {median / floor:.1f} |")


def _seconds(argv: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(argv, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

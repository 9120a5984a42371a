"""One of two ranks, the second of which ends or is silent: started by `test_machines.py`. The first one
prints what it is told of that."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

PATIENCE = timedelta(seconds=5)
"""How long their group waits, once both have begun."""


def main(asked: str) -> None:
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import _set_pg_timeout

    import internlm_zoo as zoo
    from internlm_zoo.settings import Settings

    how = json.loads(asked)
    dist.init_process_group("gloo")
    settings = Settings(home=Path(how["home"]), offline=True)
    asks = {"known_as": how["as"], "parallel": "tensor", "settings": settings}
    plan = zoo.plan_load(how["model"], **asks)
    lost, told = dist.get_rank() == 1, Path(how["home"]) / "told"
    try:
        if how["how"] == "ends while it writes":
            zoo.generate(plan, "Hello", max_new_tokens=64, stream=_end if lost else None)
        elif lost:
            while not told.exists():
                time.sleep(0.1)
            _end("")
        else:
            _set_pg_timeout(PATIENCE)
            zoo.load(plan)
    except zoo.ZooError as error:
        print(json.dumps([error.what, error.exit_code, error.fix]), flush=True)
    told.touch()
    os._exit(0)


def _end(_: str) -> None:
    os._exit(9)


if __name__ == "__main__":
    main(sys.argv[1])

"""One rank of several that share models: started by `test_ranks.py`, told what to do as JSON, tells what it
found by torch.save."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

IDS = [3, 14, 15, 9, 26, 5]
TOKENS = 8


def main(asked: str) -> None:
    import torch
    import torch.distributed as dist

    import internlm_zoo as zoo
    from internlm_zoo.settings import Settings

    how = json.loads(asked)
    settings = Settings(home=Path(how["home"]), offline=True)
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    models = {}
    for name, (folders, known_as, pp) in how["models"].items():
        asks = {"parallel": "tensor", "pp": pp, "dtype": "float32", "known_as": known_as}
        asks["settings"] = settings
        models[name] = _of_model(zoo, folders[rank % len(folders)], asks)
    refused = {
        name: _refused(zoo, path if rank == 1 else how["sound"], settings)
        for name, path in how["wrong"].items()
    }
    refused["staged"] = _refused(zoo, how["models"]["reward"][0][0], settings, pp=2)
    torch.save({"models": models, "refused": refused}, Path(how["home"]) / f"rank{rank}.pt")
    dist.destroy_process_group()


def _of_model(zoo: Any, folder: str, asks: dict[str, Any]) -> dict[str, Any]:
    import torch

    notes: list[str] = []
    plan = zoo.plan_load(folder, **asks, progress=_Noted(notes))
    model, _ = zoo.load(plan)
    ids = torch.tensor([IDS])
    with torch.no_grad():
        logits = model(ids).logits
    held = {name: _local(parameter) for name, parameter in model.named_parameters()}
    written = None
    if logits.dim() == 3:
        written = model.generate(ids, max_new_tokens=TOKENS, do_sample=False, eos_token_id=None)[0].tolist()
    return {
        "logits": logits,
        "written": written,
        "nbytes": sum(tensor.nbytes for tensor in held.values()),
        "planned": [part.nbytes for part in plan.placement.parts],
        "shapes": {name: tuple(tensor.shape) for name, tensor in held.items()},
        "notes": notes,
    }


def _refused(zoo: Any, folder: str, settings: Any, pp: int = 1) -> tuple[str, int]:
    try:
        zoo.load(folder, parallel="tensor", pp=pp, settings=settings)
    except zoo.ZooError as error:
        return str(error), error.exit_code
    return "nothing", 0


class _Noted:
    def __new__(cls, notes: list[str]) -> Any:
        from internlm_zoo import Progress

        class Noted(Progress):
            def note(self, text: str) -> None:
                notes.append(text)

        return Noted()


def _local(parameter: Any) -> Any:
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter


if __name__ == "__main__":
    main(sys.argv[1])

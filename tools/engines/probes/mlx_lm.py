"""mlx-lm on the processor: python mlx_lm.py REQUEST ANSWER."""

from __future__ import annotations

import json
import sys
from pathlib import Path

# This file's folder comes first on the path, and this file would be found as the package.
sys.path.pop(0)


def main(request_file: str, answer_file: str) -> None:
    import mlx.core as mx
    from mlx_lm import load, stream_generate

    mx.set_default_device(mx.cpu)
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    model, tokenizer = load(request["directory"])

    def generated(ids: list[int], count: int) -> list[int]:
        """mlx-lm gives the token it stops at too."""
        return [part.token for part in stream_generate(model, tokenizer, ids, max_tokens=count)]

    answer = {
        "ids": [tokenizer.encode(text) for text in request["texts"]],
        "tokens": [generated(p["ids"], p["most"]) for p in request["prompts"]],
        "logits": [
            model(mx.array([p["ids"]]))[0, -1].astype(mx.float32).tolist() for p in request["prompts"]
        ],
        "text": [tokenizer.decode(p["greedy"], skip_special_tokens=True) for p in request["prompts"]],
    }
    Path(answer_file).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

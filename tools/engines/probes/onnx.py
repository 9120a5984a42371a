"""ONNX Runtime, after optimum-onnx's own export: python onnx.py REQUEST ANSWER."""

from __future__ import annotations

import json
import sys
from pathlib import Path

# This file's folder comes first on the path, and this file would be found as the package.
sys.path.pop(0)


def main(request_file: str, answer_file: str) -> None:
    import torch
    from optimum.onnxruntime import ORTModelForCausalLM
    from transformers import AutoTokenizer

    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    directory, prompts = request["directory"], request["prompts"]
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = ORTModelForCausalLM.from_pretrained(directory, export=True)

    def generated(ids: list[int], most: int) -> list[int]:
        inputs = torch.tensor([ids])
        given = model.generate(
            input_ids=inputs, attention_mask=torch.ones_like(inputs), do_sample=False, max_new_tokens=most
        )
        return given[0, len(ids) :].tolist()

    def logits(ids: list[int]) -> list[float]:
        inputs = torch.tensor([ids])
        return model(input_ids=inputs, attention_mask=torch.ones_like(inputs)).logits[0, -1].tolist()

    answer = {
        "ids": [tokenizer(text)["input_ids"] for text in request["texts"]],
        "tokens": [generated(p["ids"], p["most"]) for p in prompts],
        "logits": [logits(p["ids"]) for p in prompts],
        "text": [tokenizer.decode(p["greedy"], skip_special_tokens=True) for p in prompts],
    }
    Path(answer_file).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

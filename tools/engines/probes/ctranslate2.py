"""CTranslate2, after its own conversion: python ctranslate2.py REQUEST ANSWER."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

# This file's folder comes first on the path, and this file would be found as the package.
sys.path.pop(0)


def main(request_file: str, answer_file: str) -> None:
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        answer = _answer(request, str(Path(folder, "converted")))
    Path(answer_file).write_text(json.dumps(answer), encoding="utf-8")


def _answer(request: dict, converted: str) -> dict:
    import ctranslate2
    import numpy as np
    import transformers

    directory = request["directory"]
    ctranslate2.converters.TransformersConverter(directory).convert(converted)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    generator = ctranslate2.Generator(converted, device="cpu", compute_type="float32")

    def generated(ids: list[int], most: int) -> list[int]:
        tokens = tokenizer.convert_ids_to_tokens(ids)
        (result,) = generator.generate_batch(
            [tokens], max_length=most, sampling_topk=1, include_prompt_in_result=False
        )
        return result.sequences_ids[0]

    def logits(ids: list[int]) -> list[float]:
        return np.array(generator.forward_batch([ids]))[0, -1].tolist()

    prompts = request["prompts"]
    return {
        "ids": [tokenizer(text)["input_ids"] for text in request["texts"]],
        "tokens": [generated(p["ids"], p["most"]) for p in prompts],
        "logits": [logits(p["ids"]) for p in prompts],
        "text": [tokenizer.decode(p["greedy"], skip_special_tokens=True) for p in prompts],
    }


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Stock transformers, without anyone's code: python transformers.py REQUEST ANSWER."""

from __future__ import annotations

import json
import sys
from pathlib import Path

# This file's folder comes first on the path, and this file would be found as the package.
sys.path.pop(0)


def main(request_file: str, answer_file: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    directory = Path(request["directory"])
    files = [file.name for file in directory.glob("*.gguf")]
    file = {"gguf_file": files[0]} if files else {}
    tokenizer = AutoTokenizer.from_pretrained(directory, **file)
    model = AutoModelForCausalLM.from_pretrained(directory, **file).float().eval()

    def generated(ids: list[int], **options: object) -> list[int]:
        inputs = torch.tensor([ids])
        mask = torch.ones_like(inputs)
        return model.generate(inputs, attention_mask=mask, do_sample=False, **options)[0, len(ids) :].tolist()

    with torch.inference_mode():
        answer = {
            "ids": [tokenizer(text)["input_ids"] for text in request["texts"]],
            "tokens": [generated(p["ids"], max_new_tokens=p["most"]) for p in request["prompts"]],
            "logits": [model(torch.tensor([p["ids"]])).logits[0, -1].tolist() for p in request["prompts"]],
            "text": [
                tokenizer.decode(p["greedy"], skip_special_tokens=True, clean_up_tokenization_spaces=False)
                for p in request["prompts"]
            ],
        }
    Path(answer_file).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

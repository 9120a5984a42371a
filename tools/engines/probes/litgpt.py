"""LitGPT, by its own conversion of Llama's names: python litgpt.py REQUEST ANSWER.

It opens models by a name in its own list. These are in none, so their sizes are given as it takes them from
users, in a Config.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

# This file's folder comes first on the path, and this file would be found as the package.
sys.path.pop(0)


def main(request_file: str, answer_file: str) -> None:
    import torch

    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    with torch.inference_mode():
        answer = _answer(request, Path(request["directory"]))
    Path(answer_file).write_text(json.dumps(answer), encoding="utf-8")


def _answer(request: dict, directory: Path) -> dict:
    import torch
    from litgpt.tokenizer import Tokenizer

    model, tokenizer = _model(directory), Tokenizer(directory)
    stated = json.loads((directory / "generation_config.json").read_text(encoding="utf-8"))
    ends = stated["eos_token_id"]
    ends = set(ends if isinstance(ends, list) else [ends])

    def logits(ids: list[int]) -> torch.Tensor:
        return model(torch.tensor([ids]))[0, -1]

    def generated(ids: list[int], most: int) -> list[int]:
        given: list[int] = []
        while len(given) < most and not ends.intersection(given[-1:]):
            given.append(int(logits([*ids, *given]).argmax()))
        return given

    prompts = request["prompts"]
    return {
        "ids": [tokenizer.encode(text).tolist() for text in request["texts"]],
        "tokens": [generated(p["ids"], p["most"]) for p in prompts],
        "logits": [logits(p["ids"]).tolist() for p in prompts],
        "text": [tokenizer.decode(torch.tensor(p["greedy"])) for p in prompts],
    }


def _model(directory: Path) -> object:
    from litgpt import GPT, Config
    from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama
    from safetensors.torch import load_file

    said = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    config = Config(
        name="demo",
        block_size=said["max_position_embeddings"],
        vocab_size=said["vocab_size"],
        padded_vocab_size=said["vocab_size"],
        n_layer=said["num_hidden_layers"],
        n_head=said["num_attention_heads"],
        n_query_groups=said["num_key_value_heads"],
        n_embd=said["hidden_size"],
        head_size=said["head_dim"],
        intermediate_size=said["intermediate_size"],
        norm_eps=said["rms_norm_eps"],
        rope_base=said["rope_theta"],
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        attn_bias=said["attention_bias"],
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
    )
    model, weights = GPT(config), {}
    copy_weights_hf_llama(config, {}, weights, load_file(directory / "model.safetensors"))
    model.load_state_dict(weights)
    return model.float().eval()


if __name__ == "__main__":
    main(*sys.argv[1:])

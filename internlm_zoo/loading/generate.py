"""Greedy text from a loaded model: the most likely token, again and again, until a stop token."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from converters.beside.generation import stated_generation
from converters.tokenizer.text import check_text
from internlm_zoo.errors import NotFoundError, UnsupportedError
from internlm_zoo.loading.directory import ModelDirectory
from internlm_zoo.loading.load import Loaded
from internlm_zoo.loading.runtime import one_thread, quiet
from internlm_zoo.loading.tokenizer import read_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

Message = dict[str, str]
# Parameters up to which a second thread costs more than it brings.
_SMALL = 20_000_000


def generate(loaded: Loaded, prompt: str, *, max_new_tokens: int = 64, raw: bool = False) -> str:
    """The text that follows `prompt`; for a chat model its answer, the prompt being a user's turn unless raw.

    Raises NotFoundError without a tokenizer, UnsupportedError for a model that scores instead of writing.
    """
    require_writing(loaded.plan.directory)
    turn = loaded.plan.directory.takes_turns and not raw
    ids = encode_turns(loaded, [{"role": "user", "content": prompt}]) if turn else encode(loaded, prompt)
    written = list(greedy(loaded, ids, max_new_tokens, stop=stop_ids(loaded)))
    return decode(loaded, ids, written)


def require_writing(directory: ModelDirectory) -> None:
    """Raises UnsupportedError for a model that scores instead of writing."""
    if directory.scores:
        raise UnsupportedError(
            "it is a reward model: it writes nothing, and gives a conversation a score",
            directory.title,
            f"internlm-zoo score {directory.path} --chat FILE.json",
        )


def encode(loaded: Loaded, text: str) -> list[int]:
    """Token ids of a text, after bos where the family's tokenizer puts one. Raises UsageError for what is no
    text (a lone surrogate)."""
    return _ids(loaded, text)


def encode_turns(loaded: Loaded, messages: Sequence[Message], *, answer: bool = True) -> list[int]:
    """Token ids of a conversation by its chat template, which says itself where bos goes. answer: whether it
    waits for the model's. Raises what `encode` raises, UnsupportedError without a template."""
    from jinja2 import TemplateError

    tokenizer = _tokenizer(loaded)
    if tokenizer.chat_template is None:
        raise UnsupportedError("there is no chat template for it", loaded.plan.directory.title, fix="--raw")
    try:
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=answer)
    except TemplateError as error:
        raise UnsupportedError(
            f"its chat template refuses this conversation: {error}", loaded.plan.directory.title, fix="--raw"
        ) from error
    return _ids(loaded, text, add_special_tokens=False)


def decode(loaded: Loaded, ids: Sequence[int], written: Sequence[int]) -> str:
    """The text of `written` as it reads after `ids`, without special tokens.

    A tokenizer drops the space in front of the first word it decodes, so the prompt is decoded along.
    """
    tokenizer = _tokenizer(loaded)
    before = tokenizer.decode(list(ids), skip_special_tokens=True)
    return str(tokenizer.decode([*ids, *written], skip_special_tokens=True))[len(before) :]


def stop_ids(loaded: Loaded) -> frozenset[int]:
    """Ids of the tokens that end a text: the registry's, as this model's own tokenizer numbers them, and
    those that its generation_config.json names, or of an unknown family its config.json."""
    directory = loaded.plan.directory
    tokens = [token.token for token in directory.stop_tokens if token.token]
    stated = stated_generation(directory.checkpoint).get("eos_token_id")
    if stated is None and directory.family is None and "eos_token_id" in directory.checkpoint.facts:
        stated = directory.checkpoint.facts["eos_token_id"].value
    named = stated if isinstance(stated, list | tuple) else [stated]
    ids = (*named, *(token_id(loaded, token) for token in tokens))
    return frozenset(id for id in ids if id is not None)


def token_id(loaded: Loaded, token: str) -> int | None:
    found: int | None = _tokenizer(loaded).backend_tokenizer.token_to_id(token)
    return found


def greedy(
    loaded: Loaded, ids: Sequence[int], limit: int, *, stop: frozenset[int] = frozenset()
) -> Iterator[int]:
    """At most `limit` most likely tokens after `ids`, each as it is found; a stop token is the last."""
    import torch

    name, cache, following = _cache_name(loaded), None, list(ids)
    for _ in range(limit):
        with torch.inference_mode():
            output = _forward(loaded, following, **{name: cache}, use_cache=True)
        cache, token = output[name], int(output.logits[0, -1].argmax())
        yield token
        if token in stop:
            return
        following = [token]


def _cache_name(loaded: Loaded) -> str:
    """What transformers calls the cache of keys and values: `cache` since 5.24."""
    known = inspect.signature(type(loaded.model).forward).parameters
    return "cache" if "cache" in known else "past_key_values"


def last_logits(loaded: Loaded, ids: Sequence[int]) -> torch.Tensor:
    """float32 logits [vocab] that follow the last of `ids`, on the CPU; for a reward model its score [1]."""
    import torch

    with torch.inference_mode():
        logits = _forward(loaded, ids).logits
    return (logits[0, -1] if logits.dim() == 3 else logits[0]).float().cpu()


def all_logits(loaded: Loaded, ids: Sequence[int]) -> torch.Tensor:
    """float32 logits [len(ids), vocab] that follow each of `ids`, on the CPU; for a reward model its score
    [1, 1]."""
    import torch

    with torch.inference_mode():
        logits = _forward(loaded, ids).logits
    return (logits[0] if logits.dim() == 3 else logits).float().cpu()


def _forward(loaded: Loaded, ids: Sequence[int], **options: object) -> Any:
    import torch

    device = loaded.plan.placement.first_device
    with quiet(), one_thread() if loaded.plan.parameters < _SMALL else nullcontext():
        return loaded.model(input_ids=torch.tensor([list(ids)], device=device), **options)


def _ids(loaded: Loaded, text: str, **options: bool) -> list[int]:
    check_text(text)
    with quiet():
        return list(_tokenizer(loaded)(text, **options).input_ids)


def _tokenizer(loaded: Loaded) -> PreTrainedTokenizerFast:
    """Raises NotFoundError where there is none, or why what is there cannot be used."""
    tokenizer = loaded.tokenizer
    if tokenizer is None:
        tokenizer = read_tokenizer(loaded.plan.directory)
    if tokenizer is None:
        raise NotFoundError(
            "it holds neither tokenizer.json nor tokenizer.model",
            loaded.plan.directory.path,
            fix="put the family's tokenizer.model there",
        )
    return tokenizer

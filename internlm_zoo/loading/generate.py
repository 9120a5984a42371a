"""Tokens of a loaded model: prompts as ids, the most likely token again and again, logits."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from converters.auxiliary.generation import GENERATION, stated_generation
from converters.tokenizer.tokenizer_json import check_text
from internlm_zoo.errors import NotFoundError, UnsupportedError, UsageError
from internlm_zoo.loading.directory import ModelDirectory
from internlm_zoo.loading.load import Loaded
from internlm_zoo.loading.ranks import answering
from internlm_zoo.loading.runtime import one_thread, quiet
from internlm_zoo.loading.tokenizer import read_tokenizer

if TYPE_CHECKING:
    import torch

    from internlm_zoo.loading.sandbox.tokenizer import ConfinedTokenizer

Message = dict[str, str]
# Parameters up to which a second thread costs more than it brings.
_SMALL = 20_000_000
_EOS = "eos_token_id"
# What configs say where there is none.
_NONE = -1
# Of a prompt of 32,768 tokens the logits of all of them would take 6 GB.
_LAST = {"logits_to_keep": 1}


def prompt_note(directory: ModelDirectory) -> str | None:
    """How a prompt is taken, where nothing says which model it is for."""
    if directory.kind is not None or directory.scores:
        return None
    if directory.takes_turns:
        taken = f"a turn in its own chat template ({directory.own_template}); `raw=True` gives it as it is"
    else:
        taken = "text to go on from, for there is no chat template in it"
    return f"nothing says which model this is: a prompt is {taken}, and `known_as=MODEL` says which it is"


def require_writing(directory: ModelDirectory) -> None:
    """Raises UnsupportedError for a model that scores instead of writing."""
    if directory.scores:
        raise writes_nothing(directory.title)


def writes_nothing(title: str) -> UnsupportedError:
    """What to say of a reward model."""
    what = "it is a reward model: it writes nothing, and gives a conversation a score"
    return UnsupportedError(what, title, "`internlm-zoo score` gives one")


def encode(loaded: Loaded, text: str) -> list[int]:
    """Token ids of a text, after bos where the family's tokenizer puts one. Raises UsageError for what is no
    text (a lone surrogate)."""
    return _ids(loaded, text)


def encode_turns(loaded: Loaded, messages: Sequence[Message], *, answer: bool = True) -> list[int]:
    """Token ids of a conversation by its chat template, which says itself where bos goes. answer: whether it
    waits for the model's. Raises what `encode` raises, UnsupportedError without a template."""
    tokenizer = tokenizer_of(loaded)
    if not tokenizer.has_template:
        raise UnsupportedError(
            "there is no chat template for it", loaded.plan.directory.title, fix="`raw=True`"
        )
    _check_turns(messages)
    return _ids(loaded, tokenizer.render(messages, answer=answer), special=False)


def _check_turns(messages: Sequence[Message]) -> None:
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping) or not all(isinstance(text, str) for text in message.values()):
            what = f"turn {number} of the conversation is not a role and a content, both of them texts"
            raise UsageError(what, fix='give {"role": "user", "content": "..."}')
        for text in message.values():
            check_text(text)


def decode(loaded: Loaded, ids: Sequence[int], written: Sequence[int]) -> str:
    """The text of `written` as it reads after `ids`, without special tokens.

    A tokenizer drops the space in front of the first word it decodes, so the prompt is decoded along.
    """
    tokenizer = tokenizer_of(loaded)
    before = tokenizer.decode(ids)
    return tokenizer.decode([*ids, *written])[len(before) :]


def stop_ids(loaded: Loaded) -> frozenset[int]:
    """Ids of the tokens that end a text: the registry's, as this model's own tokenizer numbers them, and
    those that its generation_config.json names, or of an unknown family its config.json.

    Raises UnsupportedError if these name no token of the model, or if its tokenizer lacks one that the model
    ends with; of a model that nothing names, if it lacks all that the family ends with.
    """
    directory = loaded.plan.directory
    stated = _stated_stops(directory)
    ids = {token.token: token_id(loaded, token.token) for token in directory.stop_tokens if token.token}
    lacking = [token for token, id in ids.items() if id is None]
    if lacking and (directory.model or (not stated and len(lacking) == len(ids))):
        what = f"its tokenizer has no {' and no '.join(lacking)}, which ends what {directory.title} writes"
        raise UnsupportedError(what, directory.path, "put the tokenizer of this very model there")
    return frozenset((*stated, *(id for id in ids.values() if id is not None)))


def _stated_stops(directory: ModelDirectory) -> Sequence[int]:
    checkpoint = directory.checkpoint
    stated, where = stated_generation(checkpoint).get(_EOS), GENERATION
    if stated is None and directory.family is None and _EOS in checkpoint.facts:
        stated, where = checkpoint.facts[_EOS].value, checkpoint.facts[_EOS].origin
    named = stated if isinstance(stated, list | tuple) else [] if stated in (None, _NONE) else [stated]
    for id in named:
        if not 0 <= id < checkpoint.sizes["vocab"]:
            what = f"it names {id!r:.80} as {_EOS}, and the vocabulary has {checkpoint.sizes['vocab']} tokens"
            raise UnsupportedError(what, f"{directory.path}: {where}", "correct it there")
    return named


def token_id(loaded: Loaded, token: str) -> int | None:
    return tokenizer_of(loaded).id_of(token)


def greedy(
    loaded: Loaded, ids: Sequence[int], limit: int, *, stop: frozenset[int] = frozenset()
) -> Iterator[int]:
    """At most `limit` most likely tokens after `ids`, each as it is found; a stop token is the last."""
    import torch

    name, cache, following, read = _cache_name(loaded), None, list(ids), 0
    for _ in range(limit):
        # A later stage of a pipeline has no first layer, whose cache would say it.
        place = torch.arange(read, read + len(following), device=loaded.plan.here.first_device)[None]
        with torch.inference_mode():
            output = _forward(loaded, following, position_ids=place, **{name: cache}, **_LAST, use_cache=True)
        read += len(following)
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

    scores = loaded.plan.directory.scores
    with torch.inference_mode():
        logits = _forward(loaded, ids, **({} if scores else _LAST)).logits
    return (logits[0] if scores else logits[0, -1]).float().cpu()


def all_logits(loaded: Loaded, ids: Sequence[int]) -> torch.Tensor:
    """float32 logits [len(ids), vocab] that follow each of `ids`, on the CPU; for a reward model its score
    [1, 1]."""
    import torch

    with torch.inference_mode():
        logits = _forward(loaded, ids).logits
    return (logits[0] if logits.dim() == 3 else logits).float().cpu()


def padded_logits(loaded: Loaded, batch: Sequence[Sequence[int]]) -> torch.Tensor:
    """Logits [texts, tokens of the longest, vocab] in one pass, where and in what the model computes them.
    What follows the last token of a shorter text means nothing."""
    import torch

    longest = max(map(len, batch))
    with torch.inference_mode():
        logits: torch.Tensor = _forward_all(
            loaded, [[*ids, *[0] * (longest - len(ids))] for ids in batch]
        ).logits
    return logits


def _forward(loaded: Loaded, ids: Sequence[int], **options: object) -> Any:
    return _forward_all(loaded, [list(ids)], **options)


def _forward_all(loaded: Loaded, batch: Sequence[list[int]], **options: object) -> Any:
    """batch: texts of one length."""
    import torch

    device = loaded.plan.here.first_device
    threads = one_thread() if loaded.plan.parameters < _SMALL else nullcontext()
    with answering(loaded.plan.ranks), quiet(), threads:
        return loaded.model(input_ids=torch.tensor(batch, device=device), **options)


def _ids(loaded: Loaded, text: str, *, special: bool = True) -> list[int]:
    """At least one. Raises UnsupportedError for a token that the embedding has no row for, UsageError for
    a text of which nothing becomes a token."""
    check_text(text)
    tokenizer = tokenizer_of(loaded)
    ids, rows = tokenizer.encode(text, special=special), loaded.plan.directory.checkpoint.sizes["vocab"]
    if not ids:
        raise UsageError("it has no token to go on from", "the text")
    beyond = [id for id in ids if not 0 <= id < rows]
    if beyond:
        raise UnsupportedError(
            f"its tokenizer makes the id {beyond[0]} of this text, and the embedding has {rows} rows",
            tokenizer.where,
            "put the tokenizer of this very model there",
        )
    return ids


def tokenizer_of(loaded: Loaded) -> ConfinedTokenizer:
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

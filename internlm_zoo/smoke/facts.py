"""What can be judged before any weight is read: what the files of a model say, and whose weights they are."""

from __future__ import annotations

from collections.abc import Iterator

from converters.sinks.digests import fingerprint_of, fingerprint_of_all
from internlm_zoo.checkpoints.contradictions import (
    Contradiction,
    Expected,
    by_shape,
    contradictions,
    expected_of,
)
from internlm_zoo.loading.directory import ModelDirectory
from internlm_zoo.loading.tokenizer import find_tokenizer
from internlm_zoo.registry.schema import CONVERSATION, takes_turns
from internlm_zoo.smoke.result import Check


def facts_check(directory: ModelDirectory, expected: Expected | None = None) -> Check:
    """Config, generation_config.json, tokenizer and chat template against the registry's facts of the model,
    or else of those whose shape it has. expected: instead of the registry's, of a miniature."""
    checkpoint, model = directory.checkpoint, directory.model
    if model is None:
        whose, found = by_shape(checkpoint, directory.registry)
        if whose is None:
            return Check("facts", True, "the registry knows no model of this shape")
        whose = f"{whose}, whose shape it has"
    else:
        wanted = expected or expected_of(model, directory.registry)
        whose, found = model.name, [*contradictions(checkpoint, wanted), *_of_template(directory)]
    if not found:
        return Check("facts", True, f"its files say what the registry says of {whose}")
    return Check("facts", False, f"not {whose}: {'; '.join(map(str, found))}")


def _of_template(directory: ModelDirectory) -> Iterator[Contradiction]:
    """What its own chat template makes of some turns; whose that of the registry is needs no check."""
    model, place = directory.model, directory.own_template
    rendered = directory.registry.rendered_of(model) if model else None
    if model is None or rendered is None or place is None or not takes_turns(model.kind):
        return
    tokenizer = find_tokenizer(directory)
    if tokenizer is None:
        return
    found = tokenizer.render(CONVERSATION, answer=True)
    if found != rendered:
        yield Contradiction("chat_template", *_first_difference(rendered, found), place)


def _first_difference(expected: str, found: str, around: int = 24) -> tuple[str, str]:
    """Both texts about the first character that differs."""
    pairs = enumerate(zip(expected, found, strict=False))
    at = next((place for place, (one, other) in pairs if one != other), min(len(expected), len(found)))
    start = max(0, at - around)
    return tuple(repr(text[start : at + around]) for text in (expected, found))  # type: ignore[return-value]


def weights_check(directory: ModelDirectory) -> Check | None:
    """Whether the weights are those that the record beside them is about; None where it does not say."""
    said = directory.identity
    if said is None or said.fingerprint is None:
        return None
    found = fingerprint_of_all(fingerprint_of(directory.checkpoint))
    if found == said.fingerprint:
        return Check("fingerprint", True, f"the weights are those recorded as {said.name}")
    return Check(
        "fingerprint",
        False,
        f"fingerprint: expected {said.fingerprint[:12]}…, found {found[:12]}…: the weights are not those "
        f"recorded as {said.name}: damaged, or trained further, and then the record has to go",
    )

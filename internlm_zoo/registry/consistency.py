"""Whether what the registry says of a model adds up: sizes, counts, ids and dates against one another."""

from __future__ import annotations

from collections.abc import Iterator

from internlm_zoo.registry.document import Finding, Step
from internlm_zoo.registry.query import Registry, parameter_count
from internlm_zoo.registry.schema import Model

_BYTES = 2  # of an element in 16 bits


def contradictions(registry: Registry) -> Iterator[Finding]:
    """What cannot be true at once, with the path of the value that is held against the others."""
    for model in registry.models.values():
        if model.family in registry.families:
            for check in (_payload, _rows, _lengths, _dates):
                for path, message in check(registry, model):
                    where = _attributed(registry, model, path)
                    yield ("models", model.name, *where), f"{model.name}: {message}"


def _attributed(registry: Registry, model: Model, path: tuple[Step, ...]) -> tuple[Step, ...]:
    """Of a model that an overlay changes, what the overlay states: the rest added up before."""
    changed = list(registry.origins_of(model))
    return path if not changed or path in changed else changed[0]


def _payload(registry: Registry, model: Model) -> Iterator[Finding]:
    counted, stated = parameter_count(model), model.parameters
    if stated is not None and counted is not None and stated != counted:
        yield ("parameters",), f"{stated:,} parameters are stated, and its architecture has {counted:,}"
    size, parameters = model.bytes_16bit, stated or counted
    if size is not None and parameters is not None and size != _BYTES * parameters:
        wanted = f"{parameters:,} parameters take {_BYTES * parameters:,}"
        yield ("bytes_16bit",), f"{size:,} bytes are stated, and in 16 bits {wanted}"


def _rows(registry: Registry, model: Model) -> Iterator[Finding]:
    """Every piece and every special token has a row of the embedding; a row may be without a piece."""
    shape = registry.shape_of(model)
    if shape is None:
        return
    rows, pieces = shape.vocab_size, registry.tokenizer_of(model).pieces
    if pieces is not None and pieces > rows:
        path = ("tokenizer", "pieces") if model.tokenizer else ("architecture", "vocab_size")
        yield path, f"its tokenizer has {pieces:,} pieces, and its embedding {rows:,} rows"
    holders: dict[int, str | None] = {}
    for role, token in registry.special_tokens_of(model).items():
        if token.id is None:
            continue
        if token.id >= rows:
            what = f"{token.token} is {token.id}, and the vocabulary has {rows:,}"
            yield ("special_tokens", role, "id"), what
        if holders.setdefault(token.id, token.token) != token.token:
            yield ("special_tokens", role, "id"), f"{holders[token.id]} and {token.token} are both {token.id}"


def _lengths(registry: Registry, model: Model) -> Iterator[Finding]:
    trained, claimed = model.context.trained, model.context.claimed
    if trained is not None and claimed is not None and trained > claimed:
        what = f"{claimed:,} tokens are claimed, fewer than the {trained:,} it was trained on"
        yield ("context", "claimed"), what


def _dates(registry: Registry, model: Model) -> Iterator[Finding]:
    released, updated = model.release_date, model.update_date
    if released and updated and str(released) > str(updated):
        yield ("update_date",), f"updated on {updated}, before its release on {released}"

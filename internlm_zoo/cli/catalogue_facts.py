"""What is known of one model, a line per fact."""

from __future__ import annotations

import json
from collections.abc import Iterator

from internlm_zoo.cli.tables import UNKNOWN, byte_count, number
from internlm_zoo.registry.query import Registry, parameter_count
from internlm_zoo.registry.schema import UNTURNED, Architecture, Licence, Model, SpecialToken, Tokenizer


def fact_lines(registry: Registry, model: Model) -> Iterator[tuple[str, str]]:
    """Name and value; what no source states is unknown."""
    parameters = model.parameters or parameter_count(model)
    yield "Parameters", UNKNOWN if parameters is None else _weight(parameters)
    yield "Context", _context(model)
    yield "Licence", _licence(model.licence)
    if model.card_licence:
        yield "On its card", f"licence: {model.card_licence}"
    yield from _network(model.architecture)
    yield "Layout", registry.family_of(model).layout
    if model.released_config:
        config = model.released_config.items()
        yield "config.json", ", ".join(f"{key} {json.dumps(value, default=dict)}" for key, value in config)
    for key, told in model.by_revision.items():
        yield "By revision", f"{key}: {told}"
    yield from _text(registry, model)
    yield "Smoke test", "golden tokens" if model.smoke.golden else "statistical limits"


def _network(sizes: Architecture | None) -> Iterator[tuple[str, str]]:
    if sizes is None:
        yield "Architecture", UNKNOWN
        return
    yield "Layers", f"{sizes.num_layers} of hidden size {number(sizes.hidden_size)}"
    yield "Attention", _attention(sizes)
    yield "MLP", number(sizes.intermediate_size)
    yield "Vocabulary", f"{number(sizes.vocab_size)} rows"
    yield "Rotary base", number(sizes.rope_theta)
    yield "Trained with", UNKNOWN if sizes.train_tp is None else f"tensor parallel {sizes.train_tp}"


def _text(registry: Registry, model: Model) -> Iterator[tuple[str, str]]:
    yield "Tokenizer", _tokenizer(registry.tokenizer_of(model))
    tokens = registry.special_tokens_of(model).values()
    yield "Special tokens", ", ".join(dict.fromkeys(map(_token, tokens))) or UNKNOWN
    turns = registry.chat_template_of(model) and model.kind not in UNTURNED
    own = ", its own" if turns and model.chat_template else ""
    yield "Chat template", f"yes{own}" if turns else "none"
    yield "Stops at", ", ".join(_token(token) for token in registry.stop_tokens_of(model)) or UNKNOWN


def _weight(parameters: int) -> str:
    count = f"{parameters / 1e9:.2f} billion" if parameters >= 1e8 else f"{parameters / 1e6:.2f} million"
    return f"{count} ({number(parameters)}), {byte_count(2 * parameters)} in 16 bits"


def _context(model: Model) -> str:
    context = model.context
    trained = UNKNOWN if context.trained is None else f"{number(context.trained)} tokens trained"
    if context.claimed is None:
        return trained
    how = f": {context.claimed_how}" if context.claimed_how else ""
    return f"{trained}, {number(context.claimed)} claimed{how}"


def _licence(licence: Licence | None) -> str:
    if licence is None or (licence.code is None and licence.weights is None):
        return UNKNOWN
    since = f" since {licence.since}" if licence.since else ""
    before = f"; before that {licence.before}" if licence.before else ""
    if licence.code == licence.weights:
        both = "the code always, the weights" if since else "code and weights"
        return f"{licence.code}: {both}{since}{before}"
    return f"code {licence.code or UNKNOWN}, weights {licence.weights or UNKNOWN}{since}{before}"


def _attention(sizes: Architecture) -> str:
    grouped = sizes.num_kv_heads != sizes.num_attention_heads
    groups = f" over {sizes.num_kv_heads} key-value heads" if grouped else ""
    return f"{sizes.num_attention_heads} heads{groups}, {'with' if sizes.attention_bias else 'no'} biases"


def _tokenizer(tokenizer: Tokenizer) -> str:
    pieces = UNKNOWN if tokenizer.pieces is None else f"{number(tokenizer.pieces)} pieces"
    size = f", {byte_count(tokenizer.bytes)}" if tokenizer.bytes else ""
    return f"{tokenizer.file}, {pieces}{size}" if tokenizer.file else pieces


def _token(token: SpecialToken) -> str:
    return f"{token.token} ({UNKNOWN if token.id is None else token.id})"

"""Every registry model in small: its layout, head grouping, biases, vocabulary, special tokens and chat
template, on few small layers of random weights. By rule, not by file, so what is added to it has one too.

The miniature goes the whole way: written as released, converted, loaded, made to generate, converted back,
and compared byte for byte with what was written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from converters import ConversionOptions, Execution
from converters.geometry.cells import Grid, uniform_stages
from converters.layouts import layout_of, layouts_in
from converters.system.filesystem import scratch
from converters.tokenizer.synthetic import FIXED, synthetic_tokenizer
from internlm_zoo.checkpoints.contradictions import Expected, expected_of
from internlm_zoo.checkpoints.conversion import ConversionSource, convert
from internlm_zoo.errors import UnsupportedError
from internlm_zoo.loading.directory import LoadRequest, open_directory
from internlm_zoo.loading.generate import encode
from internlm_zoo.loading.load import Loaded, execute, plan_directory
from internlm_zoo.loading.runtime import one_thread, require_torch
from internlm_zoo.registry import Model, Registry, load_registry
from internlm_zoo.registry.schema import Shape
from internlm_zoo.settings import Settings
from internlm_zoo.smoke.facts import facts_check
from internlm_zoo.smoke.random_checkpoint import Blueprint, write_random
from internlm_zoo.smoke.result import Check, SmokeResult, conclude
from internlm_zoo.smoke.statistics import RANDOM, statistical_checks
from internlm_zoo.smoke.values import values_check

LAYERS, KV_HEADS, HEAD_DIM, CONTEXT = 2, 2, 4, 2048  # the least that two ranks and two stages can share
TP, PP = 2, 2
TOKENS = 8
# The layouts' choices that make conversion work hardest; what is not here is each layout's own first choice.
_CHOICES = {"adapt_hf": False}
_KEPT = ("rope_scaling", "rms_norm_eps", "max_position_embeddings", "reward_token_id")
# The sizes that are a miniature's own; all else is its model's.
_MADE = ("hidden_size", "intermediate_size", "num_layers", "num_attention_heads", "num_kv_heads")


@dataclass(frozen=True)
class Route:
    """The formats a miniature passes: written in the first, converted to the second and back."""

    start: str
    there: str


def smoke_miniature(name: str, *, settings: Settings, devices: Sequence[str] | None = None) -> SmokeResult:
    """Take a model's miniature original -> hf -> load -> generate -> original, or hf -> llama -> load -> hf
    where no original format was published.

    Raises NotFoundError for an unknown model, UnsupportedError if neither it nor its family has a shape; a
    miniature that fails is a result.
    """
    registry = load_registry(settings)
    model = registry.model(name)
    require_torch()
    with scratch() as folder, one_thread():
        return conclude(name, _journey(model, registry, settings, devices, folder))


def draw_miniature(model: Model, registry: Registry, target: Path) -> Blueprint:
    """Write the miniature of a model into a directory that exists; returns what it was made from.

    Raises UnsupportedError if the registry knows no shape for it.
    """
    blueprint = _blueprint(model, registry)
    write_random(blueprint, target)
    ids = _special_ids(model, registry, blueprint.sizes["vocab"])
    template = registry.chat_template_of(model)
    for file, content in _tokenizer(blueprint.sizes["vocab"], tuple(ids.items()), template).items():
        (target / file).write_bytes(content)
    return blueprint


def _journey(
    model: Model, registry: Registry, settings: Settings, devices: Sequence[str] | None, folder: Path
) -> Iterator[Check]:
    route = _route(model, registry)
    start, there, back = folder / "start", folder / route.there, folder / "back"
    start.mkdir()
    blueprint = draw_miniature(model, registry, start)
    _convert(start, there, ConversionOptions(to=route.there), settings, known_as=model.name)
    directory = open_directory(LoadRequest(there), settings=settings)
    yield facts_check(directory, _expected(model, registry, blueprint))
    yield values_check(directory, trained=False)
    loaded = execute(plan_directory(directory, devices=devices))
    yield _tokens(loaded, _special_ids(model, registry, blueprint.sizes["vocab"]))
    yield from statistical_checks(loaded, RANDOM, TOKENS)
    grid, given = blueprint.grid, blueprint.choices if blueprint.layout.container.parallel else {}
    _convert(there, back, ConversionOptions(to=route.start, tp=grid.tp, pp=grid.pp, given=given), settings)
    yield _same_files(start, back, route)


def _convert(
    start: Path, there: Path, options: ConversionOptions, settings: Settings, known_as: str | None = None
) -> None:
    convert(ConversionSource(start, known_as), there, options, Execution(evidence=False), settings=settings)


def _expected(model: Model, registry: Registry, blueprint: Blueprint) -> Expected:
    """What the registry says of the model, but for the sizes that the miniature was made with."""
    expected, ids = expected_of(model, registry), _special_ids(model, registry, blueprint.sizes["vocab"])
    made = {fact: blueprint.facts[fact] for fact in _MADE}
    tokens = {
        role: token.model_copy(update={"id": ids.get(token.token or "", token.id)})
        for role, token in expected.tokens.items()
    }
    return replace(expected, facts={**expected.facts, **made}, tokens=tokens)


def _route(model: Model, registry: Registry) -> Route:
    """Reward models were never released in the original format, nor was InternLM3."""
    layout = registry.family_of(model).layout
    original = any(known.family == layout for known in layouts_in("original"))
    return Route("original", "hf") if original and model.kind != "reward" else Route("hf", "llama")


def _blueprint(model: Model, registry: Registry) -> Blueprint:
    shape = registry.shape_of(model)
    if shape is None:
        what = "neither the model nor its family states an architecture"
        raise UnsupportedError(what, model.name, "add one to the registry")
    layout = layout_of(registry.family_of(model).layout, _route(model, registry).start)
    facts, sizes = _measures(shape, model, registry)
    choices: dict[str, object] = {name: facts.get(name, values[0]) for name, values in layout.choices.items()}
    grid = Grid(TP, uniform_stages(LAYERS, PP)) if layout.container.parallel else Grid(1, (range(LAYERS),))
    return Blueprint(layout, facts, sizes, choices, grid)


def _measures(shape: Shape, model: Model, registry: Registry) -> tuple[dict[str, Any], dict[str, int]]:
    """Facts and axes: as many queries per key/value head as the model has, but few heads; what the registry
    says of scaling, epsilon and context."""
    per_kv = shape.num_attention_heads // shape.num_kv_heads
    heads = KV_HEADS * per_kv
    hidden = heads * HEAD_DIM
    expected = expected_of(model, registry)
    ends = [token.id for token in registry.stop_tokens_of(model) if token.id is not None]
    known = {fact: value for fact, value in expected.facts.items() if fact in _KEPT}
    facts = {
        **_CHOICES,
        "kind": "reward" if model.kind == "reward" else "causal",
        "num_attention_heads": heads,
        "num_kv_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_layers": LAYERS,
        "vocab_size": shape.vocab_size,
        "attention_bias": shape.attention_bias,
        "mlp_bias": False,
        "rope_theta": shape.rope_theta or 10000,
        "rope_scaling": None,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": CONTEXT,
        **known,
        "dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": ends if len(ends) > 1 and model.kind != "reward" else 2,
        "pad_token_id": 2,
    }
    sizes = {
        "vocab": shape.vocab_size,
        "hidden": hidden,
        "inter": 3 * hidden,
        "kv_heads": KV_HEADS,
        "q_per_kv": per_kv,
        "halves": 2,
        "pairs": HEAD_DIM // 2,
        "head_dim": HEAD_DIM,
        "score": 1,
        "layers": LAYERS,
    }
    return facts, sizes


def _special_ids(model: Model, registry: Registry, vocab: int) -> Mapping[str, int]:
    """Text -> id of the special tokens; where no source states an id, one of the last of the vocabulary."""
    known: dict[str, int] = {text: FIXED.index(text) for text in FIXED[:3]}
    unknown = []
    for token in registry.special_tokens_of(model).values():
        if token.token is not None and token.id is not None:
            known[token.token] = token.id
        elif token.token is not None and token.token not in known:
            unknown.append(token.token)
    return known | {text: vocab - len(unknown) + n for n, text in enumerate(unknown)}


@cache
def _tokenizer(vocab: int, ids: tuple[tuple[str, int], ...], template: str | None) -> Mapping[str, bytes]:
    return synthetic_tokenizer(vocab, dict(ids), chat_template=template)


def _tokens(loaded: Loaded, ids: Mapping[str, int]) -> Check:
    """Every special token is one token, under its own id."""
    for text, id in ids.items():
        found = encode(loaded, text)
        if found[-1] != id or len(found) > 2:
            return Check("special tokens", False, f"{text} became the tokens {found}, not {id}")
    return Check("special tokens", True, f"{len(ids)} special tokens")


def _same_files(start: Path, back: Path, route: Route) -> Check:
    """Every file as it was written; what conversion adds is its own record."""
    names = sorted(file.name for file in start.iterdir())
    way = f"{route.start} -> {route.there} -> {route.start}"
    for name in names:
        if not (back / name).exists() or (back / name).read_bytes() != (start / name).read_bytes():
            return Check("round trip", False, f"{way}: {name} did not come back as it was")
    return Check("round trip", True, f"{way}: {len(names)} files byte for byte the same")

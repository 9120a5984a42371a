"""What one can ask a registry: a model by name, its family, its tokens, what of it came from an overlay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from internlm_zoo.errors import NotFoundError
from internlm_zoo.registry.document import Place, Step
from internlm_zoo.registry.release import Release
from internlm_zoo.registry.schema import (
    UNTURNED,
    EvaluationTable,
    Family,
    Hub,
    Kind,
    Model,
    OtherArchitecture,
    Shape,
    SpecialToken,
    Tokenizer,
)
from internlm_zoo.registry.suggestions import unknown_model
from internlm_zoo.settings import Settings

# Biases do not count: whether the original release of the 20B of InternLM has any no source settles.
SIZES = (
    "hidden_size",
    "num_layers",
    "num_attention_heads",
    "num_kv_heads",
    "intermediate_size",
    "vocab_size",
)


@dataclass(frozen=True)
class Registry:
    """Everything the registry files say. origins: where the values that an overlay states stand, by path.
    sources: the hubs to ask, where somebody chose them."""

    hubs: Mapping[str, Hub]
    families: Mapping[str, Family]
    models: Mapping[str, Model]
    evaluations: tuple[EvaluationTable, ...]
    origins: Mapping[tuple[Step, ...], Place] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    other_architectures: tuple[OtherArchitecture, ...] = ()

    def model(self, name: str) -> Model:
        """Raises NotFoundError, naming the models whose name is near, and UnsupportedError for a published
        model of another architecture."""
        if name in self.models:
            return self.models[name]
        raise unknown_model(name, self.models, self.other_architectures)

    def hub(self, name: str) -> Hub:
        """Raises NotFoundError, naming the hubs there are."""
        if name in self.hubs:
            return self.hubs[name]
        raise NotFoundError(f"there is no hub '{name}'", fix=f"known hubs: {', '.join(self.hubs)}")

    def listing(self, hub: str, repo: str) -> tuple[Model, Release] | None:
        """The model and release that a repository of a hub is, by any of its names."""
        for model in self.models.values():
            for release in model.releases:
                if release.hub == hub and repo in release.names:
                    return model, release
        return None

    def sources_for(self, settings: Settings) -> tuple[str, ...]:
        """The hubs that the user wants asked, in this order; empty if the user did not choose."""
        return settings.sources or self.sources

    def family_of(self, model: Model) -> Family:
        return self.families[model.family]

    def special_tokens_of(self, model: Model) -> dict[str, SpecialToken]:
        """Role -> token: the family's, with the fields the model states itself on top."""
        tokens = dict(self.family_of(model).special_tokens)
        for role, own in model.special_tokens.items():
            known = tokens.get(role, SpecialToken())
            tokens[role] = known.model_copy(update=own.model_dump(exclude_unset=True))
        return tokens

    def chat_template_of(self, model: Model) -> str | None:
        """Jinja, as transformers renders it; of a model that takes no turns too, where its family has one."""
        return model.chat_template or self.family_of(model).chat_template

    def rendered_of(self, model: Model) -> str | None:
        """What its chat template has to make of `CONVERSATION`."""
        return model.rendered or (None if model.chat_template else self.family_of(model).rendered)

    def stop_tokens_of(self, model: Model) -> tuple[SpecialToken, ...]:
        """The tokens after which generation ends: the family's choice, or eos where there are no turns."""
        roles = ("eos",) if model.kind in UNTURNED else self.family_of(model).stop_tokens
        tokens = self.special_tokens_of(model)
        return tuple(tokens[role] for role in roles if role in tokens)

    def tokenizer_of(self, model: Model) -> Tokenizer:
        return model.tokenizer or self.family_of(model).tokenizer

    def shape_of(self, model: Model) -> Shape | None:
        """What a miniature keeps: the architecture's, or the family's stand-in where that is unknown."""
        return model.architecture or self.family_of(model).miniature

    def origins_of(self, model: Model) -> dict[tuple[Step, ...], Place]:
        """The values of this model that an overlay states, by path inside the model; () is all of it."""
        found = {}
        for path, place in self.origins.items():
            if path[:2] == ("models", model.name):
                found[path[2:]] = place
            elif path == ("models", model.name)[: len(path)]:
                found[()] = place
        return found


def select(
    registry: Registry,
    *,
    family: str | None = None,
    kind: Kind | None = None,
    names: Iterable[str] | None = None,
) -> tuple[Model, ...]:
    """The models of a family, of a kind, or among the names, in registry order. Raises NotFoundError for an
    unknown family."""
    if family is not None and family not in registry.families:
        what = f"there is no family '{family}'"
        raise NotFoundError(what, fix=f"known families: {', '.join(registry.families)}")
    wanted = None if names is None else set(names)
    return tuple(
        model
        for model in registry.models.values()
        if family in (None, model.family)
        and kind in (None, model.kind)
        and (wanted is None or model.name in wanted)
    )


def models_of_shape(
    registry: Registry, layout: str, sizes: Mapping[str, object], *, scores: bool
) -> tuple[Model, ...]:
    """The models with this layout and these sizes (by the names in SIZES), in registry order.

    scores: reward models, else the others.
    """
    return tuple(
        model
        for model in registry.models.values()
        if model.architecture is not None
        and registry.family_of(model).layout == layout
        and (model.kind == "reward") == scores
        and all(getattr(model.architecture, size) == sizes[size] for size in SIZES)
    )


def parameter_count(model: Model) -> int | None:
    """Weights and biases, by the sizes; a reward model has one output row instead of the vocabulary."""
    sizes = model.architecture
    if sizes is None:
        return None
    hidden, heads = sizes.hidden_size, sizes.num_attention_heads
    kv = hidden // heads * sizes.num_kv_heads
    biases = 2 * (hidden + kv) if sizes.attention_bias else 0
    layer = 2 * hidden * (hidden + kv) + biases + 3 * hidden * sizes.intermediate_size + 2 * hidden
    head = 1 if model.kind == "reward" else sizes.vocab_size
    return (sizes.vocab_size + head) * hidden + sizes.num_layers * layer + hidden

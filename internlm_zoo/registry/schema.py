"""What registry.yaml may say: hubs, families, models with their releases, evaluation tables.

Facts that no source states are null, never guessed. Every class here is a value: frozen, and no field beyond
those written down. `registry.schema.json` is made from these classes, so an editor knows them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from pydantic.json_schema import SkipJsonSchema

from internlm_zoo.registry.entry import Config, Day, Named, RegistryEntry, Sha256, Text
from internlm_zoo.registry.release import Release

Protocol = Literal["huggingface", "modelscope", "modelers", "openxlab", "directory", "web"]
Layout = Literal["internlm", "internlm2", "internlm3"]
Kind = Literal["base", "chat", "chat-sft", "reward", "instruct", "prover"]
# Kinds that go on with a text; every other kind answers in turns.
UNTURNED: frozenset[Kind] = frozenset({"base", "prover"})

_TURNS: frozenset[Kind] = frozenset({"chat", "chat-sft", "instruct"})


def takes_turns(kind: str) -> bool:
    """Whether a model of this kind answers a user's turns with text."""
    return kind in _TURNS


# What `rendered` is of; the model's next turn is asked for.
CONVERSATION: tuple[Mapping[str, str], ...] = (
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi!"},
    {"role": "user", "content": "1+1?"},
)

# The endpoint that stands for the models that ship inside the package.
BUNDLED = "bundled"


class Hub(Named):
    """A place that releases come from."""

    title: Text
    short: str | None = None
    """Two or three letters for narrow tables."""
    protocol: Protocol | None = None
    """How it is spoken to; web: by the page of links that a server shows for a directory; null: its releases
    are listed, but nothing here downloads from it."""
    endpoint: str | None = None
    """URL, or for a directory its path; `bundled` means the models that ship with the package."""
    endpoint_env: tuple[str, ...] = ()
    """Environment variables that replace the endpoint, first one set wins."""
    token_env: tuple[str, ...] = ()
    """Environment variables that hold the token; for openxlab the access key, then the secret key."""
    page: str | None = None
    """Web page of a repository, with {repo} in it."""
    stated_in: SkipJsonSchema[str | None] = Field(default=None, exclude=True)
    """The place in an overlay that says where this hub is; null: this package does."""

    def endpoint_in(self, environ: Mapping[str, str]) -> str | None:
        """The endpoint under this environment: a URL, or a directory for the bundled hub."""
        stated = (environ[name] for name in self.endpoint_env if environ.get(name, "").strip())
        named = next(stated, self.endpoint)
        return str(Path(__file__).parents[1] / "demo" / "models") if named == BUNDLED else named


class SpecialToken(RegistryEntry):
    """A token with a role. id and piece are null where no source states them."""

    token: str | None = None
    """As it appears in text."""
    id: NonNegativeInt | None = None
    piece: str | None = None
    """Its name inside the sentencepiece model, where that differs from the token."""


class Tokenizer(RegistryEntry):
    """Facts of the tokenizer model file."""

    file: str | None = None
    pieces: PositiveInt | None = None
    """Of the sentencepiece model; the embedding may have more rows (InternLM3), never fewer."""
    bytes: PositiveInt | None = None
    sha256: Sha256 | None = None
    """Of the file, as quoted in public sources; nothing is verified by it."""


class Shape(RegistryEntry):
    """What a miniature keeps of its model: the head grouping, biases, vocabulary and rotary base."""

    num_attention_heads: PositiveInt
    num_kv_heads: PositiveInt
    vocab_size: PositiveInt
    attention_bias: bool
    rope_theta: PositiveFloat | None = None
    """Base of the rotary embedding; null: not stated by a source (the layout's own default holds)."""

    @model_validator(mode="after")
    def _groups(self) -> Shape:
        if self.num_attention_heads % self.num_kv_heads:
            raise ValueError(f"{self.num_kv_heads} kv heads do not divide {self.num_attention_heads} heads")
        return self


class Architecture(Shape):
    """The sizes of one model's network."""

    hidden_size: PositiveInt
    num_layers: PositiveInt
    intermediate_size: PositiveInt
    train_tp: PositiveInt | None = None
    """Tensor-parallel size of the published training config: a hint for the grid of the original release."""

    @model_validator(mode="after")
    def _heads(self) -> Architecture:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"{self.num_attention_heads} heads do not divide hidden_size {self.hidden_size}")
        return self


class Family(Named):
    """What all models of a family share, stated once."""

    title: Text
    layout: Layout
    """Which table of converters/layouts its checkpoints follow."""
    chat_template: str | None = None
    """Jinja, as transformers' apply_chat_template renders it."""
    special_tokens: Mapping[str, SpecialToken] = Field(default_factory=dict)
    stop_tokens: tuple[str, ...] = ()
    """Roles of the special tokens that end a chat model's answer; a base model stops at eos."""
    generation_eos: tuple[str, ...] = ()
    """Roles of the special tokens that generation_config.json of its chat models names; none: not known."""
    rendered: str | None = None
    """What the chat template makes of `CONVERSATION`; written after the sources, not by the template."""
    tokenizer: Tokenizer = Tokenizer()
    miniature: Shape | None = None
    """Gives miniatures their shape where the architecture is unknown; no fact about any model."""
    notes: tuple[Text, ...] = ()
    evidence: tuple[Text, ...] = ()

    @property
    def ends(self) -> tuple[SpecialToken, ...]:
        """Every token that ends an answer of one of its models."""
        return tuple(self.special_tokens[role] for role in self.stop_tokens if role in self.special_tokens)


class Context(RegistryEntry):
    """How long a text may be, in tokens: two numbers that are often quoted for one another."""

    trained: PositiveInt | None = None
    """The longest that the model was trained on; null: not stated by a source."""
    claimed: PositiveInt | None = None
    """The longest that its makers say it serves, where that is more; null: they claim no more."""
    claimed_how: Text | None = None
    """How it reaches that, or what was measured."""


class Licence(RegistryEntry):
    """What may be done with a model, as its makers state it today."""

    code: Text | None = None
    weights: Text | None = None
    since: date | None = None
    """When the weights came under this licence, where they were under another one before."""
    before: Text | None = None
    """What held until then."""


class PassageLoss(RegistryEntry):
    """What one passage costs the model."""

    nats: NonNegativeFloat
    """Per character, over all tokens but the first."""
    tokens: Sha256
    """Of the passage's token ids, as JSON: another tokenizer or chat template gives others."""


class Smoke(RegistryEntry):
    """How the model's smoke test judges what it generates."""

    golden: str | None = None
    """Name of the golden data in internlm_zoo/smoke/golden; null: statistical limits."""
    passages: Mapping[str, PassageLoss] = Field(default_factory=dict)
    """What the passages of internlm_zoo/smoke/passages.yaml cost, as `smoke_test(..., record=FILE)`
    measures it; none: limits of any sound model."""
    pairs: bool = True
    """Of a reward model: whether it prefers right answers to plain questions; false: it scores something
    else."""


class Model(Named):
    display_name: Text
    family: Text
    size: Text
    kind: Kind
    release_date: Day | None = None
    """Of the first release."""
    update_date: Day | None = None
    """When the checkpoint was replaced by a newer one under the same name."""
    context: Context = Context()
    licence: Licence | None = None
    card_licence: Text | None = None
    """`license` in the metadata of the Hugging Face model card, where a source quotes it."""
    architecture: Architecture | None = None
    """null: no source states it."""
    parameters: PositiveInt | None = None
    """Weights and biases; must be what the architecture amounts to."""
    bytes_16bit: PositiveInt | None = None
    """Of the tensors in 16 bits, without what the files add."""
    fingerprint: Sha256 | None = None
    """Of all its tensors as released, in 64 hex digits, as `internlm-zoo fingerprint` takes it; null: nobody
    has computed it. Golden data is of these weights and no others."""
    released_config: Config = Field(default_factory=dict)
    """Further values of the config.json of the hf release, by its own keys, that hold in every revision
    seen. What `architecture` states is not repeated here."""
    by_revision: Mapping[str, Text] = Field(default_factory=dict)
    """Keys of config.json whose value differs between revisions, and how."""
    chat_template: str | None = None
    """Only where it differs from the family's."""
    rendered: str | None = None
    """Likewise: what its own template makes of the turns."""
    special_tokens: Mapping[str, SpecialToken] = Field(default_factory=dict)
    """Fields that differ from the family's, per role, and tokens that only this model has."""
    tokenizer: Tokenizer | None = None
    """Only where it differs from the family's."""
    smoke: Smoke = Smoke()
    releases: tuple[Release, ...] = ()
    notes: tuple[Text, ...] = ()
    evidence: tuple[Text, ...] = ()


class OtherArchitecture(RegistryEntry):
    """Published models of the same makers that are built differently: asking for one gets an answer."""

    base: Text
    """What they are, in words."""
    repos: tuple[Text, ...]
    """On Hugging Face."""
    evidence: tuple[Text, ...] = ()


class EvaluationRow(RegistryEntry):
    benchmark: Text
    category: str | None = None
    scores: Mapping[str, float]
    from_original_paper: tuple[str, ...] = ()
    """Columns whose score was taken from that model's own paper (an asterisk in the model card)."""
    best_in_class: tuple[str, ...] = ()
    """Columns set in bold in the model card: the best of the 13B to 33B models."""


class EvaluationTable(RegistryEntry):
    id: Text
    section: Text
    source: Text
    models: tuple[Text, ...]
    rows: tuple[EvaluationRow, ...]

    @property
    def decimals(self) -> int:
        """How many the table's scores are written with."""
        scores = [score for row in self.rows for score in row.scores.values()]
        return max((len(f"{score:g}".partition(".")[2]) for score in scores), default=0)


class RegistryFile(RegistryEntry):
    """A whole registry, as one file says it or several merged."""

    sources: tuple[Text, ...] = ()
    """Hubs that `source="auto"` asks, in this order and no others; INTERNLM_ZOO_SOURCES comes before it."""
    hubs: Mapping[str, Hub] = Field(default_factory=dict)
    families: Mapping[str, Family] = Field(default_factory=dict)
    models: Mapping[str, Model] = Field(default_factory=dict)
    evaluations: tuple[EvaluationTable, ...] = ()
    other_architectures: tuple[OtherArchitecture, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _name_entries(cls, data: Any) -> Any:
        return _named(data) if isinstance(data, dict) else data


def _named(data: dict[str, Any]) -> dict[str, Any]:
    """The same data with each hub, family and model knowing the key it stands under."""
    named = dict(data)
    for section in ("hubs", "families", "models"):
        entries = data.get(section)
        if isinstance(entries, dict):
            named[section] = {
                key: {"name": key, **entry} if isinstance(entry, dict) else entry
                for key, entry in entries.items()
            }
    return named


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a registry file, for editors.

    An overlay states only the fields it changes, so none is required here; loading asks for the missing ones.
    """
    schema = RegistryFile.model_json_schema()
    for definition in schema["$defs"].values():
        definition.pop("required", None)
    title = "internlm-zoo registry"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}

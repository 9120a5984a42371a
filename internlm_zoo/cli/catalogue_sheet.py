"""Everything about one model, as `show` shows it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from internlm_zoo.cli.stored import StoredFacts, stored_line
from internlm_zoo.cli.tables import UNKNOWN, Column, TextTable, byte_count, figure, number, wide
from internlm_zoo.plain import plain
from internlm_zoo.registry.explain import dotted
from internlm_zoo.registry.lock import LockedRelease
from internlm_zoo.registry.query import Registry, parameter_count
from internlm_zoo.registry.release import Release
from internlm_zoo.registry.schema import UNTURNED, Architecture, Licence, Model, SpecialToken, Tokenizer

_UNRESOLVED = "not resolved yet: run `internlm-zoo lock {name}` for revision, files and digests"

_FILES = ("Path", figure("Size"), Column("sha256", style="dim", narrow="crop"))


def model_sheet(
    registry: Registry,
    model: Model,
    locked: Sequence[LockedRelease | None],
    *,
    files: bool,
    stored: Sequence[StoredFacts] = (),
) -> RenderableType:
    """Everything about one model. locked: what is recorded of each of its releases, in their order. stored:
    its releases in the store."""
    parts: list[RenderableType] = [_title(registry, model), "", _releases(registry, model, locked)]
    if None in locked and not files:
        parts.append(_item(_UNRESOLVED.format(name=model.name), style="dim"))
    if stored:
        parts += ["", Text("In the store", style="bold"), *(_item(stored_line(one)) for one in stored)]
    parts += ["", _facts(registry, model)]
    if files:
        parts += [part for pair in zip(model.releases, locked, strict=True) for part in _files(model, *pair)]
    origins = [
        f"{dotted(path) if path else model.name} from {place}"
        for path, place in registry.origins_of(model).items()
    ]
    parts += _history(registry, model)
    family = registry.family_of(model)
    of_releases = [f"{release.id}: {line}" for release in model.releases for line in release.evidence]
    for heading, lines in (
        ("From an overlay", origins),
        ("Notes", [*model.notes, *family.notes]),
        ("Seen in", dict.fromkeys([*model.evidence, *family.evidence, *of_releases])),
    ):
        if lines:
            parts += ["", Text(heading, style="bold"), *(_item(line) for line in lines)]
    return Group(*parts)


def _title(registry: Registry, model: Model) -> Text:
    released = f"released {model.release_date}" if model.release_date else "release date unknown"
    if model.update_date:
        released += f", updated {model.update_date}"
    title = Text(plain(model.display_name), style="bold cyan")
    title.append(f"  {plain(model.name)}", style="default not bold")
    family = registry.family_of(model).title
    about = plain(f"{family} family · {model.kind} · {model.size} · {released}")
    title.append(f"\n{about}", "not bold default")
    return title


def _facts(registry: Registry, model: Model) -> TextTable:
    columns = (Column("Fact", style="dim"), wide("Value"))
    return TextTable(columns, list(fact_lines(registry, model)), header=False)


def _releases(registry: Registry, model: Model, locked: Sequence[LockedRelease | None]) -> TextTable:
    titles: list[Column | str] = ["Hub", "Format", Column("Repository", style="cyan", narrow="fold")]
    rows: list[list[str | Text]] = [
        [registry.hubs[release.hub].title, _format(release), _repository(release)]
        for release in model.releases
    ]
    if any(locked):
        titles += ["Revision", Column("Files", "right", narrow="drop"), figure("Size")]
        rows = [[*row, *_recorded(found)] for row, found in zip(rows, locked, strict=True)]
    return TextTable(titles, rows)


def _format(release: Release) -> str:
    name = release.format or UNKNOWN
    return f"{name} {release.quantisation}" if release.format != "gguf" and release.quantisation else name


def _history(registry: Registry, model: Model) -> list[RenderableType]:
    """Revisions that public sources quote."""
    rows = [
        [registry.hubs[release.hub].title, release.format or UNKNOWN, revision, seen or UNKNOWN]
        for release in model.releases
        for revision, seen in release.known_revisions.items()
    ]
    if not rows:
        return []
    titles = ("Hub", "Format", wide("Revision"), wide("Seen"))
    return ["", TextTable(titles, rows, title="Known revisions, quoted by public sources and not confirmed")]


def _repository(release: Release) -> Text:
    text = Text(plain(release.repo))
    for name in release.also_listed_as:
        text.append(f"\nalso {plain(name)}", style="dim")
    return text


def _recorded(found: LockedRelease | None) -> list[str]:
    if found is None:
        return ["-", "-", "-"]
    trusted = "" if found.trust == "hub" else " (first use)"
    return [f"{found.revision[:12]}{trusted}", str(len(found.files)), byte_count(found.size)]


def _files(model: Model, release: Release, found: LockedRelease | None) -> list[RenderableType]:
    title = f"{release.id}, {release.format or 'format unknown'}"
    if found is None:
        hint = _UNRESOLVED.format(name=model.name)
        known = [name for name in release.known_files if name not in release.quoted_files]
        named = [_item(f"{name}  (named by a source, no digest)") for name in known]
        return ["", Text(plain(title), style="bold"), _item(hint), *_quoted(release), *named]
    rows = [[file.path, byte_count(file.size), file.sha256 or UNKNOWN] for file in found.files]
    return ["", TextTable(_FILES, rows, title=f"{title}, revision {found.revision}")]


def _quoted(release: Release) -> list[RenderableType]:
    if not release.quoted_files:
        return []
    rows = [
        [path, byte_count(file.bytes), file.sha256 or UNKNOWN] for path, file in release.quoted_files.items()
    ]
    return [TextTable(_FILES, rows, title="  Quoted by public sources, not confirmed")]


def _item(line: str, style: str = "") -> Padding:
    return Padding(Text(plain(line), style=style), (0, 0, 0, 2), expand=False)


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
    for key, values in model.by_revision.items():
        yield "By revision", f"{key}: {values}"
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

"""How the catalogue looks: the list of models, one model in full, the evaluation tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.text import Text

from internlm_zoo.cli.tables import UNKNOWN, Column, Sheet, byte_count, number
from internlm_zoo.registry.explain import dotted
from internlm_zoo.registry.lock import LockedRelease
from internlm_zoo.registry.query import Registry, parameter_count
from internlm_zoo.registry.release import Release
from internlm_zoo.registry.schema import UNTURNED, EvaluationRow, EvaluationTable, Model, SpecialToken

_PAPER, _BEST = "*", "†"
_UNRESOLVED = "not resolved yet: run `internlm-zoo lock {name}` for revision, files and digests"


def models_table(registry: Registry, models: Sequence[Model]) -> RenderableType:
    """One line per model; the last columns name the hubs that have it in that format."""
    columns = [
        Column("Model", style="cyan"),
        Column("Family", narrow="drop"),
        Column("Kind"),
        Column("Size", "right"),
        Column("Released"),
        Column("Trained\ncontext", "right", narrow="drop"),
        Column("hf\nformat"),
        Column("original\nformat"),
    ]
    pairs = enumerate(pairwise(models))
    ends = frozenset(number for number, (model, following) in pairs if model.family != following.family)
    sheet = Sheet(columns, [_line(registry, model) for model in models], sections=ends)
    return Group(sheet, "", Text(_legend(registry, models), style="dim"))


def model_sheet(
    registry: Registry, model: Model, locked: Sequence[LockedRelease | None], *, files: bool
) -> RenderableType:
    """Everything about one model. locked: what is recorded of each of its releases, in their order."""
    parts: list[RenderableType] = [_title(registry, model), "", _releases(registry, model, locked)]
    if None in locked and not files:
        parts.append(_item(_UNRESOLVED.format(name=model.name), style="dim"))
    parts += ["", _facts(registry, model)]
    if files:
        parts += [part for pair in zip(model.releases, locked, strict=True) for part in _files(model, *pair)]
    origins = [
        f"{dotted(path) if path else model.name} from {place}"
        for path, place in registry.origins_of(model).items()
    ]
    family = registry.family_of(model)
    for heading, lines in (
        ("From an overlay", origins),
        ("Notes", [*model.notes, *family.notes]),
        ("Seen in", [*model.evidence, *family.evidence]),
    ):
        if lines:
            parts += ["", Text(heading, style="bold"), *(_item(line) for line in lines)]
    return Group(*parts)


def evaluation_tables(tables: Sequence[EvaluationTable], asked: Sequence[str]) -> RenderableType:
    parts: list[RenderableType] = []
    for table in tables:
        parts += [_Scores(table, asked), ""]
    return Group(*parts, Text("\n".join(_footnotes(tables)), style="dim"))


def _line(registry: Registry, model: Model) -> list[str]:
    released = str(model.release_date or UNKNOWN)
    hubs = {format: _hubs(registry, model, format) for format in ("hf", "original")}
    return [
        model.name,
        model.family,
        model.kind,
        model.size,
        released,
        number(model.context.trained),
        hubs["hf"],
        hubs["original"],
    ]


def _hubs(registry: Registry, model: Model, format: str) -> str:
    """Short hub names; one whose format no source states stands with the hf ones and a question mark."""
    names = []
    for release in model.releases:
        short = registry.hubs[release.hub].short or release.hub
        if release.format == format:
            names.append(short)
        elif release.format is None and format == "hf":
            names.append(f"{short}?")
    return " ".join(names) or "-"


def _legend(registry: Registry, models: Sequence[Model]) -> str:
    used = {release.hub for model in models for release in model.releases}
    told = [f"{hub.short or name} {hub.title}" for name, hub in registry.hubs.items() if name in used]
    if any(release.format is None for model in models for release in model.releases):
        told.append("? format not stated by a source")
    return f"{len(models)} models. {' · '.join(told)}"


def _title(registry: Registry, model: Model) -> Text:
    released = f"released {model.release_date}" if model.release_date else "release date unknown"
    title = Text(model.display_name, style="bold cyan")
    title.append(f"  {model.name}", style="default not bold")
    title.append(
        f"\n{registry.family_of(model).title} family · {model.kind} · {model.size} · {released}",
        "not bold default",
    )
    return title


def _facts(registry: Registry, model: Model) -> Sheet:
    rows = [[name, value] for name, value in _fact_lines(registry, model)]
    return Sheet([Column("Fact", style="dim"), Column("Value", narrow="fold")], rows, header=False)


def _fact_lines(registry: Registry, model: Model) -> Iterator[tuple[str, str]]:
    sizes, family = model.architecture, registry.family_of(model)
    parameters = parameter_count(model)
    yield "Parameters", UNKNOWN if parameters is None else _weight(parameters)
    yield "Context", _context(model)
    if sizes is None:
        yield "Architecture", UNKNOWN
    else:
        yield "Layers", f"{sizes.num_layers} of hidden size {number(sizes.hidden_size)}"
        yield "Attention", _attention(model)
        yield "MLP", number(sizes.intermediate_size)
        yield "Vocabulary", number(sizes.vocab_size)
        yield "Rotary base", number(sizes.rope_theta)
        yield "Trained with", UNKNOWN if sizes.train_tp is None else f"tensor parallel {sizes.train_tp}"
    yield "Layout", family.layout
    yield "Tokenizer", _tokenizer(registry, model)
    turns = registry.chat_template_of(model) and model.kind not in UNTURNED
    yield "Chat template", "yes" if turns else "none"
    yield "Stops at", ", ".join(_token(token) for token in registry.stop_tokens_of(model)) or UNKNOWN
    yield "Smoke test", "golden tokens" if model.smoke.golden else "statistical limits"


def _weight(parameters: int) -> str:
    count = f"{parameters / 1e9:.2f} billion" if parameters >= 1e8 else f"{parameters / 1e6:.2f} million"
    return f"{count}, {byte_count(2 * parameters)} in 16 bits"


def _context(model: Model) -> str:
    context = model.context
    trained = f"{number(context.trained)} tokens trained"
    if context.claimed is None:
        return trained
    how = f" ({context.claimed_how})" if context.claimed_how else ""
    return f"{trained}, {number(context.claimed)} claimed{how}"


def _attention(model: Model) -> str:
    sizes = model.architecture
    assert sizes is not None
    groups = (
        ""
        if sizes.num_kv_heads == sizes.num_attention_heads
        else f" over {sizes.num_kv_heads} key-value heads"
    )
    return f"{sizes.num_attention_heads} heads{groups}, {'with' if sizes.attention_bias else 'no'} biases"


def _tokenizer(registry: Registry, model: Model) -> str:
    tokenizer = registry.tokenizer_of(model)
    pieces = UNKNOWN if tokenizer.pieces is None else f"{number(tokenizer.pieces)} pieces"
    return f"{tokenizer.file}, {pieces}" if tokenizer.file else pieces


def _token(token: SpecialToken) -> str:
    return f"{token.token} ({UNKNOWN if token.id is None else token.id})"


def _releases(registry: Registry, model: Model, locked: Sequence[LockedRelease | None]) -> Sheet:
    columns = [Column("Hub"), Column("Format"), Column("Repository", style="cyan", narrow="fold")]
    rows: list[list[str | Text]] = [
        [registry.hubs[release.hub].title, release.format or UNKNOWN, _repository(registry, release)]
        for release in model.releases
    ]
    if any(locked):
        columns += [Column("Revision"), Column("Files", "right", narrow="drop"), Column("Size", "right")]
        rows = [[*row, *_recorded(found)] for row, found in zip(rows, locked, strict=True)]
    return Sheet(columns, rows)


def _repository(registry: Registry, release: Release) -> Text:
    page = registry.hubs[release.hub].page_of(release.repo)
    text = Text(release.repo, style=f"link {page}" if page else "")
    for name in release.also_listed_as:
        text.append(f"\nalso {name}", style="dim")
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
        named = [_item(f"{name}  (named by a source, no digest)") for name in release.known_files]
        return ["", Text(title, style="bold"), _item(hint), *named]
    columns = [Column("Path"), Column("Size", "right"), Column("sha256", style="dim", narrow="crop")]
    rows = [[file.path, byte_count(file.size), file.sha256 or UNKNOWN] for file in found.files]
    return ["", Sheet(columns, rows, title=f"{title}, revision {found.revision}")]


def _item(line: str, style: str = "") -> Padding:
    return Padding(Text(line, style=style), (0, 0, 0, 2), expand=False)


class _Scores:
    """One evaluation table: on a terminal with a heading per category, in a pipe with a column for it."""

    def __init__(self, table: EvaluationTable, asked: Sequence[str]) -> None:
        self._table, self._asked = table, asked
        self._marked = any(row.best_in_class or row.from_original_paper for row in table.rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self._table
        title = f"{table.section} · {table.source} · {table.id}"
        categories = any(row.category for row in table.rows)
        plain = categories and not console.is_terminal
        columns = [Column("Category")] if plain else []
        columns += [Column("Benchmark"), *(self._column(model) for model in table.models)]
        yield Sheet(columns, list(self._rows(plain, categories)), title=title)

    def _column(self, model: str) -> Column:
        head, dash, tail = model.rpartition("-")
        return Column(f"{head}{dash}\n{tail}", "right", "cyan" if model in self._asked else "", narrow="drop")

    def _rows(self, plain: bool, categories: bool) -> Iterator[list[str | Text]]:
        heading = None
        for row in self._table.rows:
            if categories and not plain and row.category != heading:
                heading = row.category
                yield [Text(heading or "", style="bold"), *[""] * len(self._table.models)]
            name = f"  {row.benchmark}" if categories and not plain else row.benchmark
            scores: list[str | Text] = [self._score(row, model) for model in self._table.models]
            yield [row.category or "", name, *scores] if plain else [name, *scores]

    def _score(self, row: EvaluationRow, model: str) -> Text:
        best, paper = model in row.best_in_class, model in row.from_original_paper
        mark = (_PAPER if paper else "") + (_BEST if best else "")
        text = f"{row.scores[model]:.{self._table.decimals}f}{mark or ' ' * self._marked}"
        return Text(text, style="bold" if best else "")


def _footnotes(tables: Sequence[EvaluationTable]) -> Iterator[str]:
    rows = [row for table in tables for row in table.rows]
    if any(row.best_in_class for row in rows):
        yield f"{_BEST} best of the 13B to 33B models"
    if any(row.from_original_paper for row in rows):
        yield f"{_PAPER} from the original paper"

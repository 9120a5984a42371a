"""Everything about one model, as `show` shows it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from internlm_zoo.cli.catalogue_facts import fact_lines
from internlm_zoo.cli.tables import UNKNOWN, Column, TextTable, byte_count
from internlm_zoo.plain import plain
from internlm_zoo.registry.explain import dotted
from internlm_zoo.registry.lock import LockedRelease
from internlm_zoo.registry.query import Registry
from internlm_zoo.registry.release import Release
from internlm_zoo.registry.schema import Model

_UNRESOLVED = "not resolved yet: run `internlm-zoo lock {name}` for revision, files and digests"


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
    rows = [[name, value] for name, value in fact_lines(registry, model)]
    return TextTable([Column("Fact", style="dim"), Column("Value", narrow="fold")], rows, header=False)


def _releases(registry: Registry, model: Model, locked: Sequence[LockedRelease | None]) -> TextTable:
    columns = [Column("Hub"), Column("Format"), Column("Repository", style="cyan", narrow="fold")]
    rows: list[list[str | Text]] = [
        [registry.hubs[release.hub].title, _format(release), _repository(release)]
        for release in model.releases
    ]
    if any(locked):
        columns += [Column("Revision"), Column("Files", "right", narrow="drop"), Column("Size", "right")]
        rows = [[*row, *_recorded(found)] for row, found in zip(rows, locked, strict=True)]
    return TextTable(columns, rows)


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
    wide = (Column(name, narrow="fold") for name in ("Revision", "Seen"))
    columns = [Column("Hub"), Column("Format"), *wide]
    return ["", TextTable(columns, rows, title="Known revisions, quoted by public sources and not confirmed")]


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
    columns = [Column("Path"), Column("Size", "right"), Column("sha256", style="dim", narrow="crop")]
    rows = [[file.path, byte_count(file.size), file.sha256 or UNKNOWN] for file in found.files]
    return ["", TextTable(columns, rows, title=f"{title}, revision {found.revision}")]


def _quoted(release: Release) -> list[RenderableType]:
    if not release.quoted_files:
        return []
    columns = [Column("Path"), Column("Size", "right"), Column("sha256", style="dim", narrow="crop")]
    rows = [
        [path, byte_count(file.bytes), file.sha256 or UNKNOWN] for path, file in release.quoted_files.items()
    ]
    return [TextTable(columns, rows, title="  Quoted by public sources, not confirmed")]


def _item(line: str, style: str = "") -> Padding:
    return Padding(Text(plain(line), style=style), (0, 0, 0, 2), expand=False)

"""What somebody may have meant by a name that is no model's."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from internlm_zoo.errors import NotFoundError, UnsupportedError, ZooError
from internlm_zoo.registry.schema import Model, OtherArchitecture


def unknown_model(name: str, models: Mapping[str, Model], others: Sequence[OtherArchitecture]) -> ZooError:
    """The refusal: of another architecture, of a quantised release called by its repository, or of a name
    that is none."""
    for other in others:
        if repo := _same(name, other.repos):
            what = f"{repo} is {other.base}: no architecture that is known here"
            fix = f"`hf download {repo}` fetches it, its project says how it runs"
            return UnsupportedError(what, fix=fix)
    for model in models.values():
        for release in model.releases:
            if release.quantised and _same(name, release.names):
                command = f"`download({model.name!r}, format={release.format!r})`"
                fix = f"it is {model.name} in {release.format}: {command}"
                return NotFoundError(f"there is no model '{name}'", fix=fix)
    return NotFoundError(f"there is no model '{name}'", fix=_near(name, models))


def near(name: str, known: Iterable[str], count: int) -> list[str]:
    """The known names most like this one, best first, whatever their case and punctuation."""
    by_folded = {folded(candidate): candidate for candidate in known}
    matches = difflib.get_close_matches(folded(name), by_folded, n=count, cutoff=0.6)
    return [by_folded[match] for match in matches]


def folded(name: str) -> str:
    """A name without case and separators: InternLM-20B, internlm_20b and `InternLM 20B` are one."""
    return re.sub(r"[\s_/-]+", "", name.casefold())


def _same(name: str, repos: Iterable[str]) -> str | None:
    """The repository that is called so, with or without its owner."""
    wanted = folded(name)
    return next((repo for repo in repos if wanted in (folded(repo), folded(repo.rpartition("/")[2]))), None)


def _near(name: str, models: Mapping[str, Model]) -> str:
    spellings = {spelling: model.name for model in models.values() for spelling in _spellings(model)}
    guesses = dict.fromkeys(spellings[spelling] for spelling in near(name, spellings, 8))
    if not guesses:
        return "`internlm-zoo list` shows them all"
    return f"did you mean {' or '.join(list(guesses)[:3])}?"


def _spellings(model: Model) -> list[str]:
    """Every way a model is called: its name, its title, and its repositories with and without their owner."""
    repos = [name for release in model.releases for name in release.names]
    return [*repos, *(repo.rsplit("/", 1)[-1] for repo in repos), model.display_name, model.name]

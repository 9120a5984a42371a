"""What the environment says, read once, and what libraries and children find in it. Nothing else in the
product looks at `os.environ`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from converters.redaction import keep_secrets_in
from internlm_zoo.errors import UsageError
from internlm_zoo.fs.homes import NOWHERE, path_of
from internlm_zoo.secret import Secret

_OFFLINE = ("INTERNLM_ZOO_OFFLINE", "HF_HUB_OFFLINE")
_TRUE = frozenset({"1", "on", "true", "yes"})  # as huggingface_hub reads its own variables
# Seconds, or tries: 11 days, which is for ever here.
_MOST = 1e6


@dataclass(frozen=True)
class Settings:
    """home: where the store lives. offline: no sockets. registry: an overlay file. sources: hub names in the
    order `source="auto"` tries them (empty: as the registry says). environ: for the endpoint and credential
    variables that hubs name in the registry; never printed. logins: credentials from files that were named
    for a hub, or for the URL of one."""

    home: Path
    offline: bool = False
    registry: Path | None = None
    sources: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    logins: Mapping[str, tuple[Secret, ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """environ: defaults to the process's own."""
        env = dict(os.environ if environ is None else environ)
        keep_secrets_in(env)
        return cls(
            home=_home(env),
            offline=any(env.get(name, "").strip().lower() in _TRUE for name in _OFFLINE),
            registry=Path(env["INTERNLM_ZOO_REGISTRY"]) if env.get("INTERNLM_ZOO_REGISTRY") else None,
            sources=tuple(
                part.strip() for part in env.get("INTERNLM_ZOO_SOURCES", "").split(",") if part.strip()
            ),
            environ=env,
        )

    @classmethod
    def or_environment(cls, settings: Settings | None) -> Settings:
        """What a caller gave, or else what the environment says."""
        return settings or cls.from_environment()

    def with_options(self, *, offline: bool = False, registry: Path | None = None) -> Settings:
        """The same settings with what was said on the command line on top."""
        return replace(self, offline=self.offline or offline, registry=registry or self.registry)

    def number(self, name: str) -> float | None:
        """What a variable says, None if it is not set. Raises UsageError for what is no number above 0, or
        more than the system's clocks take."""
        text = self.environ.get(name)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value <= _MOST:
            fix = f"unset {name}, or give it a number"
            raise UsageError(f"{name} is {text!r}, not a number above 0 (and {_MOST:,.0f} at most)", fix=fix)
        return value


def set_for_libraries(variables: Mapping[str, str]) -> None:
    """In the environment of this process, unless they are set: what a library reads there when it is
    imported, and cannot be told otherwise."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def inherited(names: Iterable[str]) -> dict[str, str]:
    """Of the environment of this process, what a child process is to have."""
    return {name: os.environ[name] for name in names if name in os.environ}


def _home(env: Mapping[str, str]) -> Path:
    if env.get("INTERNLM_ZOO_HOME"):
        return path_of(env["INTERNLM_ZOO_HOME"], env).absolute()
    from platformdirs import user_data_path

    try:
        home = user_data_path("internlm-zoo", appauthor=False)
    except (RuntimeError, KeyError):  # its newer versions say so, the older ones leave the ~
        return NOWHERE
    return home if home.is_absolute() else NOWHERE

"""Finds the user's credentials for a hub: the environment's, else those its own client saved. Never writes.

Only a hub that names credential variables in the registry is given any: a saved login goes nowhere else.
Where the files lie: huggingface_hub `constants.HF_TOKEN_PATH`, modelscope_hub `config.HubConfig`,
openxlab `config.const.DEFAULT_CONFIG_DIR`.
"""

from __future__ import annotations

import json
from pathlib import Path

from internlm_zoo.errors import UsageError
from internlm_zoo.homes import home_of, path_of
from internlm_zoo.registry.schema import Hub
from internlm_zoo.settings import Settings


def named_in_environment(hub: Hub, settings: Settings) -> str | None:
    """The first of the hub's token variables that is set."""
    return next((settings.environ[name] for name in hub.token_env if settings.environ.get(name)), None)


def huggingface_token(hub: Hub, settings: Settings) -> str | None:
    """The environment's token, or the one `hf auth login` saved."""
    if not hub.token_env:
        return None
    return named_in_environment(hub, settings) or _text(_huggingface_file(settings))


def modelscope_folder(settings: Settings) -> Path:
    """Where `modelscope login` keeps its files."""
    moved = settings.environ.get("MODELSCOPE_HOME")
    return path_of(moved, settings.environ) if moved else user_home(settings) / ".modelscope"


def openxlab_keys(hub: Hub, settings: Settings) -> tuple[str, str] | None:
    """Access key and secret key, from the environment or `openxlab config`; UsageError if only one is set."""
    if not hub.token_env:
        return None
    keys = [settings.environ.get(name, "").strip() for name in hub.token_env]
    if all(keys):
        return keys[0], keys[1]
    if any(keys):
        missing = hub.token_env[keys.index("")]
        raise UsageError(
            f"{hub.name} needs an access key and a secret key, but {missing} is not set", fix=f"set {missing}"
        )
    return _openxlab_file(user_home(settings) / ".openxlab" / "config.json")


def user_home(settings: Settings) -> Path:
    return home_of(settings.environ)


def user_cache(settings: Settings) -> Path:
    """Where programs keep what can be had again, by the XDG rule."""
    named = settings.environ.get("XDG_CACHE_HOME")
    return Path(named) if named else user_home(settings) / ".cache"


def huggingface_home(settings: Settings) -> Path:
    """Where huggingface_hub keeps its login and its cache."""
    named = settings.environ.get("HF_HOME")
    return path_of(named, settings.environ) if named else user_cache(settings) / "huggingface"


def _huggingface_file(settings: Settings) -> Path:
    named = settings.environ.get("HF_TOKEN_PATH")
    return path_of(named, settings.environ) if named else huggingface_home(settings) / "token"


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8").strip() or None if path.is_file() else None


def _openxlab_file(path: Path) -> tuple[str, str] | None:
    if not path.is_file():
        return None
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        return str(saved["ak"]).strip(), str(saved["sk"]).strip()
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            "the saved OpenXLab keys cannot be read", path, "openxlab config, or set the variables"
        ) from error

"""Finds the user's credentials for a hub: a file that was named for it, else the environment's, else those
its own client saved. Never writes.

Only a hub that names credential variables in the registry is given any: a saved login goes nowhere else, and
only to where this package, or the user's own environment, says that the hub is. An overlay may be of others:
the hubs at its addresses get what was set for them under names of their own, never over plain http.
Where the files lie: huggingface_hub `constants.HF_TOKEN_PATH`, modelscope_hub `config.HubConfig`,
openxlab `config.const.DEFAULT_CONFIG_DIR`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from converters.errors import parameter
from converters.redaction import without_user
from internlm_zoo.errors import AccessError, CredentialError, UsageError
from internlm_zoo.fs.homes import home_of, path_of
from internlm_zoo.net.addresses import host_of
from internlm_zoo.registry import load_registry, read_registry
from internlm_zoo.registry.overlay_rules import own_tokens
from internlm_zoo.registry.schema import Hub
from internlm_zoo.secret import Secret, place_of, read_text, secret_of
from internlm_zoo.settings import Settings
from internlm_zoo.sources.authentication import Credentials
from internlm_zoo.sources.endpoints import endpoint_of, is_plaintext, variable_of

Secrets = tuple[Secret, ...]


def _stated(hub: Hub, settings: Settings) -> Secrets:
    """From a file that was named for the hub, or from its variables.

    A hub whose place a URL has taken is given only what was named for that URL."""
    if not hub.token_env:
        return settings.logins.get(hub.endpoint or "", ())
    if hub.name in settings.logins:
        return settings.logins[hub.name]
    found = {name: secret_of(settings.environ.get(name, ""), name) for name in hub.token_env}
    secrets = tuple(filter(None, found.values()))
    if hub.protocol != "openxlab":
        return secrets[:1]
    if secrets and None in found.values():
        missing = next(name for name, secret in found.items() if secret is None)
        what = f"{hub.name} needs an access key and a secret key, but {missing} is not set"
        raise CredentialError(what, fix=f"set {missing}")
    return secrets


def credentials_of(hub: Hub, settings: Settings) -> Credentials:
    """Raises CredentialError for what cannot be one."""
    found_by = _credentials if _is_ours(hub, settings) else _credentials_elsewhere
    credentials = found_by(hub, settings)
    endpoint = endpoint_of(hub, settings.environ) or ""
    if credentials.values and is_plaintext(endpoint):
        note = f"{credentials.origin} goes over plain http to {host_of(endpoint)}: others may read it"
        credentials.notes += (note,)
    return credentials


def _is_ours(hub: Hub, settings: Settings) -> bool:
    """Whether this package, or the user, says where it is, and how it is spoken to."""
    shipped = read_registry().hubs.get(hub.name)
    by_user = shipped is not None and shipped.protocol == hub.protocol and variable_of(hub, settings.environ)
    return hub.stated_in is None or bool(by_user)


def _credentials_elsewhere(hub: Hub, settings: Settings) -> Credentials:
    """Of a hub that is where an overlay says."""
    shipped = read_registry().hubs
    secrets = _stated(hub.model_copy(update={"token_env": own_tokens(hub, shipped)}), settings)
    place = without_user(endpoint_of(hub, settings.environ) or "")
    if secrets and is_plaintext(place):
        what = f"{secrets[0].origin} is not sent to {place}, where others could read it"
        return Credentials(hub.name, note=f"{what}: {hub.stated_in} names it without https")
    if secrets or hub.name not in shipped or not _has_login(shipped[hub.name], settings):
        return Credentials(hub.name, secrets)
    what = f"your login for {hub.name} is not sent to {place}, which {hub.stated_in} names"
    note = f"{what}; if that is meant, say so in {shipped[hub.name].endpoint_env[0]}"
    return Credentials(hub.name, note=note)


def _has_login(hub: Hub, settings: Settings) -> bool:
    if any(settings.environ.get(name) for name in hub.token_env):
        return True
    saved = _SAVED.get(hub.protocol or "")
    return saved is not None and os.path.exists(saved(settings)[0])  # noqa: PTH110 - no, where it is not seen


def _credentials(hub: Hub, settings: Settings) -> Credentials:
    secrets = _stated(hub, settings)
    saved = _SAVED.get(hub.protocol or "")
    if secrets or saved is None or not hub.token_env:
        return Credentials(hub.name, secrets)
    path, parse = saved(settings)
    try:
        return Credentials(hub.name, parse(path))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return Credentials(hub.name)
    except OSError as error:
        return Credentials(hub.name, note=f"a login for {hub.name} may be in {path}, but: {error.strerror}")


def with_token_files(settings: Settings, files: Sequence[str], source: str = "") -> Settings:
    """The settings with the credentials in files that are named as `HUB=FILE`, or as a FILE for the source.

    Raises UsageError where it is not said whose they are, CredentialError for what is in them.
    """
    hubs = load_registry(settings).hubs
    logins = dict(settings.logins)
    for text in files:
        name, equals, path = text.partition("=")
        if not (equals and name in hubs):
            name, path = source, str(place_of(Path(text)))
        logins[name] = _secrets_in(path_of(path, settings.environ), _protocol_of(name, text, hubs))
        if name in hubs:
            _require_ours(hubs[name], settings)
    return replace(settings, logins=logins)


def _require_ours(hub: Hub, settings: Settings) -> None:
    """A token that is named for a hub of ours goes to no address of an overlay's."""
    shipped = read_registry().hubs
    if hub.name in shipped and not _is_ours(hub, settings):
        what = f"the token for {hub.name} would go to an address that an overlay names"
        variable = next(iter(shipped[hub.name].endpoint_env), None)
        raise UsageError(what, hub.stated_in, f"name the address in {variable}, or by `source=URL`")


def _protocol_of(name: str, text: str, hubs: Mapping[str, Hub]) -> str:
    """The protocol that the credentials are for."""
    if "://" in name:
        return ""
    takers = [hub.name for hub in hubs.values() if hub.token_env]
    if name in takers:
        return hubs[name].protocol or ""
    unclear = f"{parameter('token_file', text)} does not say for which hub it is"
    what = f"{name} takes no token" if name in hubs else unclear
    raise UsageError(what, fix=f"write HUB={text}, with one of {', '.join(takers)}")


def _secrets_in(path: Path, protocol: str) -> Secrets:
    """Raises CredentialError, also for a file that holds nothing."""
    try:
        text = read_text(path)
    except OSError as error:
        what = f"the token file cannot be read: {error.strerror}"
        raise CredentialError(what, path, "name a file that holds the token") from error
    secrets = (_keys_in if protocol == "openxlab" else _token_in)(text, path)
    if not secrets:
        raise CredentialError("the token file is empty", path)
    return secrets


def modelscope_folder(settings: Settings) -> Path:
    """Where `modelscope login` keeps its files."""
    moved = settings.environ.get("MODELSCOPE_HOME")
    return path_of(moved, settings.environ) if moved else home_of(settings.environ) / ".modelscope"


def user_cache(settings: Settings) -> Path:
    """Where programs keep what can be had again, by the XDG rule."""
    moved = settings.environ.get("XDG_CACHE_HOME")
    return Path(moved) if moved else home_of(settings.environ) / ".cache"


def huggingface_home(settings: Settings) -> Path:
    """Where huggingface_hub keeps its login and its cache."""
    moved = settings.environ.get("HF_HOME")
    return path_of(moved, settings.environ) if moved else user_cache(settings) / "huggingface"


def _huggingface(settings: Settings) -> tuple[Path, Callable[[Path], Secrets]]:
    moved = settings.environ.get("HF_TOKEN_PATH")
    place = path_of(moved, settings.environ) if moved else huggingface_home(settings) / "token"
    return place, lambda path: _token_in(read_text(path), path)


def _openxlab(settings: Settings) -> tuple[Path, Callable[[Path], Secrets]]:
    place = home_of(settings.environ) / ".openxlab" / "config.json"
    return place, lambda path: _keys_in(read_text(path), path)


def _modelscope(settings: Settings) -> tuple[Path, Callable[[Path], Secrets]]:
    """Read by the package's own code, which is not needed where nothing is."""

    def parse(path: Path) -> Secrets:
        path.stat()
        from modelscope_hub import HubConfig

        # An empty token is explicit: no other is looked for. Construction would touch the folder.
        config = HubConfig(token="", config_dir=settings.home / "no-modelscope-login")
        config.config_dir = path.parents[1]
        try:
            return _token_in(config.load_token() or "", path)
        except (EOFError, AttributeError, ImportError, IndexError, ValueError) as error:
            what = "the saved ModelScope login cannot be read"
            raise AccessError(what, path, "modelscope login") from error

    return modelscope_folder(settings) / "credentials" / "cookies", parse


def _token_in(text: str, path: Path) -> Secrets:
    return tuple(filter(None, [secret_of(text, str(path))]))


def _keys_in(text: str, path: Path) -> Secrets:
    """OpenXLab's, as `openxlab config` writes them."""
    try:
        saved = json.loads(text)
        keys = [secret_of(str(saved[name]), str(path)) for name in ("ak", "sk")]
    except (ValueError, KeyError, TypeError) as error:
        what = "the saved OpenXLab keys cannot be read"
        raise CredentialError(what, path, "openxlab config, or set the variables") from error
    return tuple(filter(None, keys)) if all(keys) else ()


# protocol -> where its own client saves a login, and how that is understood
_SAVED = {"huggingface": _huggingface, "modelscope": _modelscope, "openxlab": _openxlab}

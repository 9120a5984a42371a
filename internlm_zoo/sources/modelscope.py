"""ModelScope, by the official `modelscope_hub.HubApi` (what the `modelscope` package stands on).

Digests: sha256 of every file. A listing says per file which commit changed it last; the newest of these names
the snapshot, and can be asked for again. The package lists folder by folder where the server cuts a listing
at 3000 entries, but only warns when even that is not enough; here that is an error. It would write a session
file into the user's home, take a saved login, and make and print many retries: here it is kept from that.
"""

from __future__ import annotations

import logging
import os
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from internlm_zoo.errors import AccessError, UnsupportedError, UsageError, ZooError
from internlm_zoo.registry.schema import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Location, RemoteFile, Snapshot
from internlm_zoo.sources.credentials import modelscope_folder, named_in_environment
from internlm_zoo.sources.http import (
    Limits,
    absent,
    certificates_of,
    check_redirect,
    door,
    proxy_for,
    refusal,
    twice,
    unreachable,
    within_limits,
)
from internlm_zoo.sources.listing import is_listing, listing_revision
from internlm_zoo.sources.paths import check_snapshot

if TYPE_CHECKING:
    from modelscope_hub import HubApi
    from requests import PreparedRequest, Response, Session

_DEFAULT_BRANCH = "master"
_MAIN = "main"  # what Hugging Face calls it
_CUT_AT = 3000
_ATTEMPTS = "MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS"
_COMMIT = re.compile(r"[0-9a-f]{40}")

Entry = dict[str, Any]


class ModelScopeSource:
    """See `Source`. endpoint: without a trailing slash."""

    def __init__(self, hub: Hub, endpoint: str, settings: Settings) -> None:
        self._hub = hub.name
        self._endpoint = endpoint
        self._api, self._token = _open_api(hub, endpoint, settings)
        self._limits = Limits.of(settings)

    def resolve(self, repo: str, revision: str | None = None) -> Snapshot:
        entries = twice(lambda: self._list(repo, _branch(revision)))
        files = tuple(_remote_file(entry) for entry in entries if entry.get("Type") != "tree")
        found = _revision(entries, files, revision)
        if is_listing(revision) and found != revision:
            raise absent(self._hub, f"{revision} of {repo}, its files have changed since", self._endpoint)
        return check_snapshot(Snapshot(self._hub, repo, found, revision, files, _updated(entries)))

    def locate(self, snapshot: Snapshot, path: str) -> Location:
        if snapshot.file(path) is None:
            raise absent(self._hub, f"{path} in {snapshot.repo}", self._endpoint)
        query = urlencode({"Revision": _branch(snapshot.revision), "FilePath": path})
        url = f"{self._endpoint}/api/v1/models/{snapshot.repo}/repo?{query}"
        return Location(url, _headers(self._token))

    def _list(self, repo: str, branch: str) -> list[Entry]:
        def ask() -> list[Entry]:
            found: list[Entry] = self._api.legacy.list_repo_files(repo, "model", branch, recursive=True)
            return found

        with self._translated(repo, branch):
            entries = within_limits(ask, self._limits.listing, self._hub, self._endpoint)
            folders = Counter(entry["Path"].rpartition("/")[0] for entry in entries)
        folder, count = max(folders.items(), key=lambda item: item[1], default=("", 0))
        if count >= _CUT_AT:
            what = f"{self._hub} lists at most {_CUT_AT} files of one folder, and there are as many or more"
            raise UnsupportedError(what, f"{repo}/{folder}", "use another source")
        return entries

    @contextmanager
    def _translated(self, repo: str, branch: str) -> Iterator[None]:
        """Turns modelscope_hub's errors into ours."""
        from modelscope_hub import errors

        try:
            yield
        except ZooError:
            raise
        except errors.APIError as error:
            if error.status_code is None:
                raise UsageError(f"{repo!r} is not a ModelScope repository name") from error
            said = getattr(error, "response", None)  # requests calls a refusal false
            headers = {} if said is None else said.headers
            thing = f"{repo} at {branch}"
            raise refusal(error.status_code, self._hub, thing, self._endpoint, headers) from error
        # requests calls what is no JSON an OSError as well, so these come first.
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise unreachable(self._hub, self._endpoint, "it sent something else than a listing") from error
        except (errors.HubError, OSError) as error:
            raise unreachable(self._hub, self._endpoint, error) from error


def _open_api(hub: Hub, endpoint: str, settings: Settings) -> tuple[HubApi, str | None]:
    """The official client with an endpoint and a token of our choice, and the token."""
    with _few_attempts():
        from modelscope_hub import HubApi, HubConfig

    class Config(HubConfig):  # type: ignore[misc]
        def get_session_id(self) -> str:
            return uuid.uuid4().hex  # the original writes one into the user's home

    if "MODELSCOPE_LOG_LEVEL" not in settings.environ:
        logging.getLogger("modelscope_hub").setLevel(logging.CRITICAL)
    # An empty token is explicit: none is looked for. The folder is set later: construction would touch it.
    config = Config(endpoint=endpoint, token="", config_dir=settings.home / "no-modelscope-login")
    config.config_dir = modelscope_folder(settings)
    token = (named_in_environment(hub, settings) or _saved_token(config)) if hub.token_env else None
    config.token = token or ""
    api = HubApi(config)
    for session in _sessions(api):
        # By itself it prefers variables of its own for certificates, and takes passwords from a netrc file.
        session.trust_env = False
        session.verify = certificates_of(settings) or True
        session.proxies.update(_proxies(endpoint, settings))
        _keep_credentials_at(hub.name, endpoint, session)
    return api, token


def _sessions(api: HubApi) -> list[Session]:
    from requests import Session

    return [item for item in vars(api.legacy).values() if isinstance(item, Session)]


def _proxies(endpoint: str, settings: Settings) -> dict[str, str]:
    place = urlsplit(endpoint).netloc
    found = {scheme: proxy_for(f"{scheme}://{place}", settings) for scheme in ("http", "https")}
    return {scheme: proxy for scheme, proxy in found.items() if proxy}


def _keep_credentials_at(hub: str, endpoint: str, session: Session) -> None:
    """Where the hub redirects to, the package would take the cookie along to any port of the same host, and
    go from https to http."""
    rebuild = session.rebuild_auth

    def rebuild_auth(prepared_request: PreparedRequest, response: Response) -> None:
        check_redirect(hub, response.url, str(prepared_request.url))
        rebuild(prepared_request, response)
        if door(str(prepared_request.url)) != door(endpoint):
            for name in ("Authorization", "Cookie"):
                prepared_request.headers.pop(name, None)

    session.rebuild_auth = rebuild_auth  # type: ignore[method-assign]


@contextmanager
def _few_attempts() -> Iterator[None]:
    """The package takes this limit from the environment when it is imported; the user's own comes first."""
    mine = _ATTEMPTS not in os.environ
    os.environ.setdefault(_ATTEMPTS, "1")
    yield
    if mine:
        del os.environ[_ATTEMPTS]


def _saved_token(config: Any) -> str | None:
    """What `modelscope login` saved, read by the package's own code."""
    try:
        token: str | None = config.load_token()
    except (EOFError, AttributeError, ImportError, IndexError, ValueError) as error:
        what = "the saved ModelScope login cannot be read"
        raise AccessError(what, config.credentials_dir, "modelscope login") from error
    return token


def _headers(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}


def _branch(revision: str | None) -> str:
    """What to ask the server for."""
    return _DEFAULT_BRANCH if revision in (None, _MAIN) or is_listing(revision) else str(revision)


def _remote_file(entry: Entry) -> RemoteFile:
    size = entry.get("Size")
    sha256 = entry.get("Sha256") or None
    return RemoteFile(entry["Path"], None if size is None else int(size), sha256 and sha256.lower())


def _updated(entries: list[Entry]) -> datetime | None:
    """Of the newest commit that the listing names; its times are seconds since the epoch."""
    times = [float(entry["CommittedDate"]) for entry in entries if entry.get("CommittedDate")]
    return datetime.fromtimestamp(max(times), timezone.utc) if times else None


def _revision(entries: list[Entry], files: tuple[RemoteFile, ...], asked: str | None) -> str:
    """The commit that was asked for, else the newest that the listing names, else a name for the listing."""
    if asked and _COMMIT.fullmatch(asked):
        return asked
    dated = [entry for entry in entries if _COMMIT.fullmatch(str(entry.get("Revision")))]
    if dated and not is_listing(asked):
        return str(
            max(dated, key=lambda entry: (entry.get("CommittedDate") or 0, entry["Revision"]))["Revision"]
        )
    return listing_revision((file.path, file.sha256 or "") for file in files)

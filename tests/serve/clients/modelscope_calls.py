"""modelscope: its API and downloads. MODELSCOPE_ENDPOINT names the open hub; argument: see the test."""

import json
import sys
from typing import Any

from modelscope import snapshot_download
from modelscope.hub.file_download import model_file_download
from modelscope_hub import HubApi
from modelscope_hub.errors import APIError
from requests.exceptions import HTTPError

asked = json.loads(sys.argv[1])
repo, guarded, tokens = asked["repo"], asked["guarded"], asked["tokens"]
calls: dict[str, Any] = {}


def call(name, function, *args, **options):
    try:
        calls[name] = function(*args, **options)
    except (HTTPError, APIError) as error:
        calls[name] = f"refused: {type(error).__name__}"


def listing(**options):
    return {
        file.path: [file.size, file.sha256]
        for file in HubApi().list_repo_files(repo, "model", **options)
        if not file.is_dir
    }


def revisions():
    return [branch["Revision"] for branch in HubApi().list_repo_revisions(repo, "model")]


call("list_repo_files", listing)
call("list_repo_files of one level", listing, recursive=False)
call("list_repo_files past the cut", lambda: len(HubApi().list_repo_files(asked["crowd"], "model")))
call("list_repo_revisions", revisions)
call("repo_exists", HubApi().repo_exists, repo, "model")
call("snapshot_download", snapshot_download, repo)
call("snapshot_download at a revision", snapshot_download, repo, revision="master", local_dir=asked["local"])
call("model_file_download", model_file_download, repo, "notes/读我.md")
call("a missing repository", snapshot_download, "acme/nothing")
call("a missing revision", snapshot_download, repo, revision="v9")
call("no token", snapshot_download, repo, endpoint=guarded, cache_dir=asked["cache"])
call(
    "a wrong token",
    snapshot_download,
    repo,
    endpoint=guarded,
    token=tokens["wrong"],
    cache_dir=asked["cache"],
)
call(
    "the right token",
    snapshot_download,
    repo,
    endpoint=guarded,
    token=tokens["right"],
    local_dir=asked["guarded_local"],
)
print(json.dumps(calls, default=str))

"""huggingface_hub: its API and downloads. HF_ENDPOINT names the open hub; argument: see the test."""

import json
import sys
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

asked = json.loads(sys.argv[1])
repo, guarded, tokens = asked["repo"], asked["guarded"], asked["tokens"]
calls: dict[str, Any] = {}


def call(name, function, *args, **options):
    try:
        calls[name] = function(*args, **options)
    except HfHubHTTPError as error:
        calls[name] = type(error).__name__


def tree(**options):
    return {
        item.path: [item.size, item.blob_id, item.lfs.sha256 if item.lfs else None]
        for item in HfApi().list_repo_tree(repo, **options)
        if hasattr(item, "size")
    }


def facts(**options):
    info = HfApi().model_info(repo, **options)
    return {"sha": info.sha, "files": {file.rfilename: file.size for file in info.siblings}}


call("model_info", facts)
sha = calls["model_info"]["sha"]
call("model_info with files", facts, files_metadata=True, revision="main")
call("list_repo_tree", tree, recursive=True, revision=sha)
call("list_repo_tree of a folder", tree, path_in_repo="notes")
call("list_repo_files", HfApi().list_repo_files, repo)
call("list_repo_files, paged", HfApi().list_repo_files, asked["crowd"])
call("list_repo_refs", lambda: HfApi().list_repo_refs(repo).branches[0].target_commit)
call("get_paths_info", lambda: [item.path for item in HfApi().get_paths_info(repo, ["config.json", "notes"])])
call("file_exists", HfApi().file_exists, repo, "notes/读我.md")
call("snapshot_download", snapshot_download, repo)
call("snapshot_download at a revision", snapshot_download, repo, revision=sha, local_dir=asked["local"])
call("hf_hub_download", hf_hub_download, repo, "notes/读我.md", force_download=True)
call("a missing repository", HfApi().model_info, "acme/nothing")
call("a missing revision", HfApi().model_info, repo, revision="v9")
call("a missing file", hf_hub_download, repo, "nothing.bin")
call("no token", HfApi(endpoint=guarded, token=False).model_info, repo)
call("a wrong token", HfApi(endpoint=guarded, token=tokens["wrong"]).model_info, repo)
call(
    "the right token",
    snapshot_download,
    repo,
    endpoint=guarded,
    token=tokens["right"],
    local_dir=asked["guarded_local"],
)
print(json.dumps(calls, default=str))

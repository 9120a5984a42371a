"""openmind_hub: its API and downloads. OPENMIND_HUB_ENDPOINT names the open hub; argument: see the test."""

import json
import sys
from pathlib import Path
from typing import Any

from openmind_hub import OmApi, OmFileSystem, OmHubHTTPError, model_info, om_hub_download, snapshot_download
from openmind_hub.plugins.openmind.om_api import RepoFile

asked = json.loads(sys.argv[1])
repo, guarded, tokens = asked["repo"], asked["guarded"], asked["tokens"]
calls: dict[str, Any] = {}


def call(name, function, *args, **options):
    try:
        calls[name] = function(*args, **options)
    except (OmHubHTTPError, ValueError) as error:
        calls[name] = f"{type(error).__name__}: {error}"


def tree(**options):
    return {
        item.path: [item.size, item.blob_id, item.lfs.sha256 if item.lfs else None]
        for item in OmApi().list_repo_tree(repo, **options)
        if isinstance(item, RepoFile)
    }


def facts(**options):
    info = model_info(repo, **options)
    return [info.id, info.name, info.owner, info.private, [file.rfilename for file in info.siblings]]


commit = OmApi().get_repo_last_commit(repo).oid
call("get_repo_last_commit", lambda: commit)
call("model_info", facts)
call("list_repo_tree", tree, recursive=True, revision=commit)
call("list_repo_tree of a folder", tree, path_in_repo="notes")
call("list_repo_files", OmApi().list_repo_files, repo)
call("list_repo_files of a crowd", OmApi().list_repo_files, asked["crowd"])
call("get_path_info of a file", lambda: OmApi().get_path_info(repo, "config.json").blob_id)
call("get_path_info of a folder", lambda: OmApi().get_path_info(repo, "notes").last_commit.oid)
call("OmFileSystem", lambda: OmFileSystem().cat_file(f"{repo}/config.json", 2, 12).decode())
call("snapshot_download", snapshot_download, repo)
call("snapshot_download at a revision", snapshot_download, repo, revision=commit, local_dir=asked["local"])
call("om_hub_download", om_hub_download, repo, "notes/读我.md", force_download=True)

# What a killed download has left goes on where it was.
blob = next(Path(calls["snapshot_download"]).parents[1].glob("blobs/" + asked["weights"]))
whole = blob.read_bytes()
blob.unlink()
blob.with_name(blob.name + ".incomplete").write_bytes(whole[:1000])
Path(calls["snapshot_download"], "model.safetensors").unlink()
call("a resumed download", om_hub_download, repo, "model.safetensors")

call("a missing repository", OmApi().list_repo_files, "acme/nothing")
call("a missing revision", OmApi().list_repo_files, repo, revision="v9")
call("a missing folder", tree, path_in_repo="nowhere")
call("a missing file", om_hub_download, repo, "nothing.bin")
there = {"endpoint": guarded}
call("no token", OmApi(**there).list_repo_files, repo)
call("a wrong token", OmApi(token=tokens["wrong"], **there).list_repo_files, repo)
call(
    "the right token",
    OmApi(token=tokens["right"], **there).snapshot_download,
    repo,
    local_dir=asked["guarded_local"],
)
print(json.dumps(calls, default=str))

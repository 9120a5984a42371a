"""openxlab: `openxlab.model.download`, sent to the open or the guarded hub through its attributes."""

import contextlib
import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import openxlab.model
from openxlab.model.common import bury, constants
from openxlab.model.handler import download_file
from openxlab.xlab.handler import user_token

asked = json.loads(sys.argv[1])
calls: dict[str, Any] = {}


def go_to(url):
    base = url + "/api/v1"
    constants.endpoint = download_file.endpoint = bury.endpoint = base
    user_token.AUTH_CLIENT.endpoint = base + "/sso-be/api/v1/open/"


def call(name, **options):
    said = io.StringIO()
    # The package prints its errors and returns None.
    with contextlib.redirect_stdout(said):
        paths = openxlab.model.download(**options)
    calls[name] = paths if paths is not None else f"refused: {said.getvalue()}"


flat, nested = asked["flat"], asked["repo"]
go_to(asked["open"])
call("download", model_repo=flat, output=asked["local"])
call("download of one model", model_repo=flat, model_name="model.safetensors", output=asked["one"])
# Its cache cannot hold sub-folders; without it, a folder made beforehand will do.
Path(asked["nested"], "notes/deep/er").mkdir(parents=True)
call("download with folders", model_repo=nested, output=asked["nested"], cache=False)
call("a missing repository", model_repo="acme/nothing", output=asked["one"])

go_to(asked["guarded"])
call("no keys", model_repo=flat, output=asked["guarded_local"], overwrite=True)
os.environ["OPENXLAB_AK"] = "someone"
os.environ["OPENXLAB_SK"] = asked["tokens"]["wrong"]
call("wrong keys", model_repo=flat, output=asked["guarded_local"], overwrite=True)
os.environ["OPENXLAB_SK"] = asked["tokens"]["right"]
call("the right keys", model_repo=flat, output=asked["guarded_local"], overwrite=True)

token_file = Path(user_token.get_token_path())
content = ""
while not content or content != token_file.read_text():  # its telemetry signs in as well, in a thread
    content = token_file.read_text()
    time.sleep(0.5)
token = json.loads(content)
token["expiration"] = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - 60))
token_file.write_text(json.dumps({**token, "jwt": "stale"}))
call("an expired token", model_repo=flat, output=asked["guarded_local"], overwrite=True)
sys.stdout.write(json.dumps(calls))

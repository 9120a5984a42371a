"""openmind_hub: one download. OPENMIND_HUB_ENDPOINT names the hub; argument: see the test."""

import json
import sys

from openmind_hub import snapshot_download

asked = json.loads(sys.argv[1])
print(json.dumps({"snapshot_download": snapshot_download(asked["repo"], local_dir=asked["local"])}))

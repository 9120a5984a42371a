"""A locale that cannot write the names of files is said, not stumbled over."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.timing import PATIENCE
from tests.world import FILES, content_below, open_world

PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
MAIN = "from internlm_zoo.cli import main; main()"


@pytest.mark.slow
def test_a_name_that_the_locale_cannot_write_is_a_sentence_with_a_way_out(tmp_path: Path) -> None:
    with ExitStack() as stack:
        world = open_world(tmp_path, stack)
        command = [sys.executable, "-c", MAIN, "download", "tiny", "--source", "huggingface"]
        for more, code in ((PLAIN, 2), ({**PLAIN, "PYTHONUTF8": "1"}, 0)):
            env = {**os.environ, **world.environ, **more}
            done = subprocess.run(command, env=env, capture_output=True, timeout=PATIENCE)
            assert done.returncode == code, done.stderr
            if code:
                assert (
                    rb"the locale cannot write the name of a file" in done.stderr
                    and b"PYTHONUTF8=1" in done.stderr
                )
        assert content_below(Path(os.fsdecode(done.stdout.strip()))) == FILES

"""Files that a person names: pipes of a shell are read, and what never ends is not."""

from __future__ import annotations

import importlib
import os
import socket
import threading
from pathlib import Path

import pytest

from internlm_zoo.fs import user_files
from internlm_zoo.fs.user_files import content_given

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")


def test_what_comes_through_a_pipe_is_read_to_its_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(b"x" * 100_000))
    writer.start()
    assert content_given(tmp_path / "pipe", 1 << 20) == b"x" * 100_000
    writer.join()


def test_a_pipe_of_a_shell_is_read():
    reading, writing = os.pipe()
    os.write(writing, b"hf_something")
    os.close(writing)
    assert content_given(Path(f"/dev/fd/{reading}"), 1 << 16) == b"hf_something"
    os.close(reading)


def test_a_pipe_that_never_ends_is_not_read_to_its_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    file = os.open(tmp_path / "pipe", os.O_RDWR)
    os.write(file, b"x" * 1000)
    assert len(content_given(tmp_path / "pipe", 100)) == 100
    os.close(file)


def test_the_empty_device_is_an_empty_file():
    assert content_given(Path(os.devnull), 10) == b""


NO_FILES = {"zero": "/dev/zero", "directory": "/"}


@pytest.mark.parametrize("verb", ["overlay", "mirror file", "token file", "conversation"])
@pytest.mark.parametrize("what", ["pipe", "socket", *NO_FILES])
def test_nothing_that_a_person_names_is_waited_for_for_ever(zoo, tmp_path, monkeypatch, verb, what):

    for module in ("catalogue", "mirror"):
        importlib.import_module(f"internlm_zoo.cli.{module}")
    monkeypatch.setattr(user_files, "PIPE_SECONDS", 0.2)
    monkeypatch.chdir(tmp_path)
    named = Path(NO_FILES.get(what, "it"))
    if what == "pipe":
        os.mkfifo(named)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(named))
    if verb == "overlay":
        monkeypatch.setenv("INTERNLM_ZOO_REGISTRY", str(named))
    args = {
        "overlay": ("list",),
        "mirror file": ("mirror", "plan", named),
        "token file": ("download", "internlm2-chat-7b", "--offline", "--token-file", named),
        "conversation": ("score", tmp_path, "--chat", named),
    }[verb]
    code, _, err = zoo(*args)
    assert code in (2, 4) and "Traceback" not in err and "fault of" not in err
    assert str(named) in err, err

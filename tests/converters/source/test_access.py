"""What the system refuses of a file or directory: a sentence that names it, and exit code 4 or 2."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import pytest

import converters
from converters.errors import AccessError, IntegrityError, NotFoundError
from converters.formats.access import content_of, regular
from tests.converters.oracle import INTERNLM2, make_model, write_original

if os.name == "nt":
    pytest.skip("its links and pipes are others", allow_module_level=True)

WEIGHTS, CONFIG = "model.safetensors", "config.json"
VERBS = {
    "convert": lambda src, whole, out: ("convert", src, out / "new", "--to", "llama"),
    "inspect": lambda src, whole, out: ("inspect", src),
    "compare": lambda src, whole, out: ("compare", src, whole),
    "compare with": lambda src, whole, out: ("compare", whole, src),
    "fingerprint": lambda src, whole, out: ("fingerprint", src),
    "generate": lambda src, whole, out: ("generate", src, "-p", "x"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("access")
    original = write_original(folder / "original", make_model(INTERNLM2), INTERNLM2, 2)
    converters.convert(original, folder / "hf", to="hf", given={"max_position_embeddings": 64})
    return folder


@pytest.fixture
def whole(made):
    return made / "hf"


@pytest.fixture
def src(tmp_path, whole):
    return shutil.copytree(whole, tmp_path / "src")


def a_directory(path):
    path.unlink()
    path.mkdir()


def a_loop(path):
    path.unlink()
    path.symlink_to(path.name)


def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def a_link_below_a_file(path):
    (path.parent / "file").write_text("")
    path.unlink()
    path.symlink_to("file/x")


FAULTS = {
    "loop": (a_loop, "symbolic links"),
    "pipe": (a_pipe, "a pipe or a device"),
    "below a file": (a_link_below_a_file, "Not a directory"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_file_that_cannot_be_read_is_named(zoo, tmp_path, whole, src, verb, fault, name):
    spoil, said = FAULTS[fault]
    spoil(src / name)
    code, out, err = zoo(*VERBS[verb](src, whole, tmp_path))
    assert (code, out) == (4, "")
    assert said in err and str(src / name) in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("verb", VERBS)
def test_a_directory_in_the_place_of_the_weights_is_a_sentence(zoo, tmp_path, whole, src, verb):
    a_directory(src / WEIGHTS)
    code, _, err = zoo(*VERBS[verb](src, whole, tmp_path))
    assert code in ((1, 4) if verb == "inspect" else (4,))
    assert "Traceback" not in err


@pytest.mark.parametrize("verb", [*VERBS, "verify"])
@pytest.mark.parametrize("place", ["loop", "long", "below a file", "a file", "nowhere"])
def test_a_source_that_is_no_directory_is_named(zoo, tmp_path, whole, verb, place):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    src = {
        "loop": tmp_path / "loop",
        "long": tmp_path / ("x" * 300),
        "below a file": tmp_path / "file" / "x",
        "a file": tmp_path / "file",
        "nowhere": tmp_path / "nowhere",
    }[place]
    args = ("verify", src) if verb == "verify" else VERBS[verb](src, whole, tmp_path)
    code, out, err = zoo(*args)
    assert (code, out) == (4, "")
    assert str(src) in err


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


NO_FILES = {
    "pipe": os.mkfifo,
    "socket": a_socket,
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "directory": Path.mkdir,
}


@pytest.mark.parametrize("what", NO_FILES)
def test_what_is_no_file_is_neither_waited_for_nor_read(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    NO_FILES[what](Path("it"))
    with pytest.raises(AccessError, match="a file is expected here"):
        content_of(Path("it"), 100)


def test_a_pipe_that_takes_a_files_place_while_it_is_opened_is_not_waited_for(tmp_path, monkeypatch):
    file, real = tmp_path / "file", os.open
    file.write_bytes(b"x")

    def swapped(path, flags, *rest, **more):
        a_pipe(Path(path))
        return real(path, flags, *rest, **more)

    with monkeypatch.context() as raced:
        raced.setattr(os, "open", swapped)
        with pytest.raises(OSError, match="a file is expected here"):
            regular(file)


def test_a_small_file_that_is_not_small_is_not_read_to_its_end(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(IntegrityError, match="more than 1,000 bytes"):
        content_of(tmp_path / "large", 1000)


TARGETS = {
    "loop": "symbolic links",
    "long": "name too long",
    "almost too long": "name too long",
    "file/x": "is not a directory",
}


@pytest.mark.parametrize("place", TARGETS)
def test_a_target_that_cannot_be_is_a_mistake_in_its_name(zoo, tmp_path, whole, place):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    name = {"long": "x" * 300, "almost too long": "x" * 250}.get(place, place)
    code, out, err = zoo("convert", whole, tmp_path / name, "--to", "llama")
    assert (code, out) == (2, "")
    assert TARGETS[place] in err
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == ["file", "loop"]


@pytest.mark.parametrize("name", ["x" * 300, "loop"])
def test_a_tokenizer_that_cannot_be_read_is_named(zoo, tmp_path, whole, name):
    (tmp_path / "loop").symlink_to("loop")
    code, _, err = zoo("convert", whole, tmp_path / "new", "--to", "llama", "--tokenizer", tmp_path / name)
    assert code == 4
    assert name in err and "Traceback" not in err
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="it reads otherwise")
def test_a_disk_that_fails_while_it_is_read_is_named(zoo, tmp_path, whole, monkeypatch):
    """The system's own call, as it answers when a disk fails."""
    real, left = os.preadv, [5]

    def preadv(fd, buffers, offset):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    for args in (VERBS["convert"](whole, whole, tmp_path), ("compare", whole, whole)):
        left[0] = 5
        code, _, err = zoo(*args)
        assert code == 4
        assert f"{os.strerror(errno.EIO)} ({whole / WEIGHTS})" in err


@pytest.mark.skipif(not hasattr(os, "pwrite"), reason="it writes otherwise")
def test_a_disk_that_fails_while_it_is_written_is_named_and_a_rerun_goes_on(
    zoo, tmp_path, whole, monkeypatch
):
    def pwrite(fd, data, offset):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", pwrite)
        code, _, err = zoo("convert", whole, tmp_path / "new", "--to", "llama")
    assert code == 4
    assert f"{os.strerror(errno.EIO)} ({tmp_path / 'new'})" in err
    assert not (tmp_path / "new").exists()
    assert zoo("convert", whole, tmp_path / "new", "--to", "llama")[0] == 0


def test_verify_names_a_file_that_cannot_be_read_and_goes_on(zoo, src):
    a_loop(src / "config.json")
    code, out, _ = zoo("verify", src, "--json")
    assert code == 1 and "config.json" in out


def test_python_callers_get_an_error_of_ours(src):
    a_loop(src / WEIGHTS)
    with pytest.raises(AccessError, match="symbolic links") as raised:
        converters.open_checkpoint(src)
    assert raised.value.where == str(src / WEIGHTS)
    with pytest.raises(NotFoundError):
        converters.open_checkpoint(src / ("x" * 300))


def seen_by_all(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


AS_NOBODY = """
import json, os, sys
import internlm_zoo.cli.checkpoints, internlm_zoo.cli.convert, internlm_zoo.cli.models
from internlm_zoo.cli.shell import run

def ended(args, said):
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        os.dup2(said.fileno(), 2)
        os.setuid(65534)
        code = run(args)
        sys.stderr.flush()
        os._exit(code)
    finally:
        os._exit(99)

def refused(closed, *args):
    mode = os.stat(closed).st_mode
    os.chmod(closed, mode & 0o600)
    with open(told, "w+") as said:
        code = ended(args, said)
        os.chmod(closed, mode)
        said.seek(0)
        return code, said.read()

whole, out, told = sys.argv[1:]
assert run(["convert", whole, out, "--to", "llama"]) == 0  # so that all is imported
assert run(["inspect", whole, "-q"]) in (0, 1)
cases = json.load(sys.stdin)
found = [refused(*case) for case in cases]
with open(told, "w") as file:
    json.dump(found, file)
"""
_INSIDE = ("src", f"src/{WEIGHTS}", f"src/{CONFIG}", ".")
CLOSED = list(product(("convert", "inspect", "compare", "fingerprint"), _INSIDE))


@pytest.fixture(scope="module")
def shared(made):
    """A copy that every account sees."""
    folder = Path(tempfile.mkdtemp(prefix="access-"))
    folder.chmod(0o755)
    (folder / "home").mkdir(mode=0o777)
    (folder / "home").chmod(0o777)
    shutil.copytree(made / "hf", folder / "src")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def told(shared, made):
    """What another account is told, (exit code, stderr), by verb and by what is closed to it, and where it
    may not write. All in children of one process, as that takes a second to start."""
    src, told = shared / "src", made / "told"
    cases = [(shared / what, *VERBS[verb](src, src, shared / "home")) for verb, what in CLOSED]
    cases.append((made, "convert", src, shared / "new", "--to", "llama"))
    subprocess.run(
        [sys.executable, "-c", AS_NOBODY, made / "hf", made / "first", told],
        env={**os.environ, "INTERNLM_ZOO_HOME": str(shared / "home"), "HOME": str(shared / "home")},
        input=json.dumps([[str(word) for word in case] for case in cases]).encode(),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return dict(zip([*CLOSED, "new"], json.loads(told.read_text()), strict=True))


needs_another = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or not seen_by_all(Path(__file__)),
    reason="needs to be another account, and a clone where that may look",
)


@needs_another
@pytest.mark.parametrize(("verb", "what"), CLOSED)
def test_what_another_account_does_not_give_is_named(told, shared, verb, what):
    code, err = told[verb, what]
    assert code in (2, 4), err
    assert re.search("Permission denied|not readable", err) and str(shared) in err
    assert "Traceback" not in err


@needs_another
def test_a_target_that_another_account_owns_is_refused(told, shared):
    code, err = told["new"]
    assert code == 2
    assert "cannot be written to" in err and str(shared / "new") in err

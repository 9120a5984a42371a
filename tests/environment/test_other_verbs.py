"""Conversions, mirrors and other tools' caches on odd disks, and temporary files where there is no room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.environment import ENVIRONMENTS, Environment, run_in
from tests.environment.table import ROOT
from tests.world import FILES, REPO, World, content_below

pytestmark = pytest.mark.slow

SOURCE = ROOT / "internlm_zoo" / "demo" / "models" / "demo-internlm2-chat"
GOOD = ("download", "tiny", "--format", "hf")
CARD = Environment(
    "memory card", "", "chmod=EPERM utime=EPERM symlink=EPERM link=EPERM allocate=EOPNOTSUPP fsync=EINVAL"
)
BARE = Environment(
    "bare",
    "",
    "exchange=EINVAL allocate=EOPNOTSUPP truncate=EOPNOTSUPP statvfs=ENOSYS flock=ENOLCK copy=EINVAL",
)


def convert(tmp_path: Path, environment: Environment, *options: str, src: Path = SOURCE):
    args = ("convert", src, tmp_path / "odd" / "dst", "--to", "hf", *options)
    environ = {"INTERNLM_ZOO_HOME": str(tmp_path / "home")}
    (tmp_path / "odd").mkdir(exist_ok=True)
    return run_in(environment, args, environ, tmp_path / "odd")


def weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


@pytest.fixture(scope="module")
def right(tmp_path_factory) -> dict[str, bytes]:
    """What a conversion gives where nothing is odd."""
    folder = tmp_path_factory.mktemp("right")
    assert convert(folder, ENVIRONMENTS["plain"]).code == 0
    return weights(folder / "odd" / "dst")


@pytest.mark.parametrize("environment", [CARD, BARE, ENVIRONMENTS["few threads"]], ids=lambda e: e.name)
def test_a_conversion_does_without(tmp_path, right, environment):
    for options in ((), ("--force",)):  # anew, and in place of what is there
        done = convert(tmp_path, environment, *options)
        assert done.code == 0, done.err
        assert weights(tmp_path / "odd" / "dst") == right
    assert [path.name for path in (tmp_path / "odd").iterdir()] == ["dst"]


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("quota", 8, "this account may use no more"),
        ("small files", 8, "ulimit -f"),
        ("bad disk", 4, "the disk fails: Input/output error"),
        ("read-only and empty", 2, "cannot be written to"),
    ],
)
def test_a_conversion_that_is_refused_goes_on_elsewhere(tmp_path, right, name, code, words):
    done = convert(tmp_path, ENVIRONMENTS[name])
    assert done.code == code, done.err
    assert words in done.err and str(tmp_path / "odd") in done.err and "fix: " in done.err
    assert not (tmp_path / "odd" / "dst").exists()
    again = convert(tmp_path, ENVIRONMENTS["plain"])
    assert again.code == 0, again.err
    assert weights(tmp_path / "odd" / "dst") == right


def test_a_conversion_of_more_files_than_may_be_open(tmp_path):
    many = convert(tmp_path, ENVIRONMENTS["plain"], "--max-shard-size", "40KB")
    assert many.code == 0, many.err
    src = tmp_path / "odd" / "dst"
    assert len(weights(src)) > 20
    less = Environment("less", "", before="ulimit -n 24")
    (tmp_path / "two").mkdir()
    done = convert(tmp_path / "two", less, "--max-shard-size", "50KB", src=src)
    assert done.code == 0, done.err
    plain = convert(tmp_path / "two", ENVIRONMENTS["plain"], "--max-shard-size", "50KB", src=src)
    assert plain.code == 0 and "same" in plain.err + plain.out, plain.err


@pytest.mark.parametrize("environment", [CARD, BARE, ENVIRONMENTS["no moves"]], ids=lambda e: e.name)
def test_a_mirror_does_without(world: World, zoo_in, environment):
    odd = world.folder / "odd"
    odd.mkdir()
    file = world.folder / "mirror.yaml"
    file.write_text(f"destination: {odd}/mirror\nmodels: [tiny]\nformats: [hf]\n")
    refused = zoo_in("read-only and empty", "mirror", "apply", file, odd=odd)
    assert refused.code == 2 and "Read-only file system" in refused.err, refused.err
    for where in (environment, environment, "read-only"):  # where nothing is left to do the last time
        done = zoo_in(where, "mirror", "apply", file, odd=odd)
        assert done.code == 0, done.err
    assert content_below(odd / "mirror" / REPO) == FILES


@pytest.mark.parametrize("environment", [CARD, BARE], ids=lambda e: e.name)
def test_the_cache_of_another_tool_does_without(world: World, zoo_in, environment):
    odd = world.folder / "odd"
    odd.mkdir()
    for _ in range(2):
        done = zoo_in(environment, *GOOD, "--source", "huggingface", "--hf-cache", odd=odd, HF_HOME=str(odd))
        assert done.code == 0, done.err
    (snapshot,) = odd.glob("hub/models--acme--tiny/snapshots/*")
    assert content_below(snapshot) == FILES


def test_a_folder_for_temporary_files_that_is_small_is_named(tmp_path):
    small = Environment(
        "small",
        "",
        namespaces="-m",
        before='mount -t tmpfs -o size=64k tmpfs "$ODD" && export TMPDIR="$ODD"',
    )
    odd = tmp_path / "odd"
    odd.mkdir()
    done = run_in(small, ("smoke", "internlm2-chat-7b", "--miniature"), {"HOME": str(tmp_path)}, odd)
    assert done.code == 8, done.err
    assert str(odd) in done.err and "fix: " in done.err and "Traceback" not in done.err

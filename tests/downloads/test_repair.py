"""`verify --repair`: what is wrong in a download comes again, and nothing else does."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import internlm_zoo.cli.download  # noqa: F401 - importing registers the commands
from internlm_zoo.cli.shell import run
from internlm_zoo.transfer.blocks import BLOCK
from tests.world import REPO, WEIGHTS, World, content_below, write

LARGE = random.Random(4).randbytes(6 * BLOCK + 999)


@pytest.fixture
def folder(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release with weights of some blocks, in the store."""
    write(world.root / REPO, {WEIGHTS: LARGE})
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    return world.download(source="huggingface").path


def answer(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, Any]:
    capsys.readouterr()
    code = run([*map(str, args), "--json"])
    return code, json.loads(capsys.readouterr().out)


def damage(path: Path, *positions: int) -> None:
    """Flip bytes in place, as a bad disk or a careless editor would."""
    real = path.resolve()
    real.chmod(0o644)
    with real.open("r+b") as file:
        for position in positions:
            file.seek(position)
            byte = file.read(1)
            file.seek(position)
            file.write(bytes([byte[0] ^ 0xFF]))


def test_three_bad_blocks_cost_three_blocks(
    world: World, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(folder / WEIGHTS, 5, 2 * BLOCK + 1, 6 * BLOCK + 998)
    code, told = answer(capsys, "verify", "tiny")
    assert code == 1
    why = told["folders"][0]["wrong"][0]["what"]
    assert "block 0, 2, 6 of 7" in why and "block 0 expected blake3" in why
    before = world.sent
    code, told = answer(capsys, "verify", "tiny", "--repair")
    assert code == 0
    [mended] = told["folders"][0]["repaired"]
    assert (mended["path"], mended["size"]) == (WEIGHTS, len(LARGE))
    fetched = sum(world.sent.values()) - sum(before.values())
    assert fetched == sum(mended["served"].values()) == 2 * BLOCK + 999
    assert mended["kept"] == 4 * BLOCK
    assert content_below(folder) == content_below(world.root / REPO)
    assert answer(capsys, "verify", "tiny")[0] == 0
    assert list(world.home.glob("partial/*.part")) == []


def test_any_hub_that_has_the_file_will_do(
    world: World, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(folder / WEIGHTS, BLOCK)
    world.fault("reset", "/*", "huggingface")
    code, told = answer(capsys, "verify", folder, "--repair")
    assert code == 0
    assert told["folders"][0]["repaired"][0]["served"] == {"modelscope": BLOCK}
    assert content_below(folder) == content_below(world.root / REPO)


def test_without_known_blocks_the_file_is_compared_with_a_hub(
    world: World, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(folder / WEIGHTS, 3 * BLOCK + 3)
    for known in world.home.glob("blocks/*/*.json"):
        known.unlink()
    capsys.readouterr()
    assert run(["verify", str(folder), "--repair"]) == 0
    said = capsys.readouterr().err
    assert f"the blocks of {WEIGHTS} are not known: it is compared with what a hub sends" in said
    assert f"{WEIGHTS} block 3" in said
    assert content_below(folder) == content_below(world.root / REPO)


@pytest.mark.parametrize("what", ["truncated", "longer", "removed", "link removed", "replaced"])
def test_whatever_happened_to_the_file_it_is_right_again(
    world: World, folder: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    link = folder / WEIGHTS
    blob = link.resolve()
    blob.chmod(0o644)
    if what == "truncated":
        with blob.open("r+b") as file:
            file.truncate(2 * BLOCK + 77)
    elif what == "longer":
        with blob.open("ab") as file:
            file.write(b"more")
    elif what == "removed":
        blob.unlink()
    elif what == "link removed":
        link.unlink()
    else:
        link.unlink()
        link.write_bytes(LARGE[:-1] + b"?")
    before = sum(world.sent.values())
    assert answer(capsys, "verify", "tiny")[0] == 1
    assert answer(capsys, "verify", "tiny", "--repair")[0] == 0
    assert content_below(folder) == content_below(world.root / REPO)
    fetched = sum(world.sent.values()) - before
    expected = {"truncated": len(LARGE) - 2 * BLOCK, "longer": 0, "removed": len(LARGE)}
    assert fetched == expected.get(what, 0)


def test_plain_files_are_mended_too_and_small_ones_whole(
    world: World, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = world.download(local_dir=tmp_path / "plain", source="modelscope").path
    damage(plain / WEIGHTS, BLOCK)
    damage(plain / "config.json", 1)
    code, told = answer(capsys, "verify", plain, "--repair")
    assert code == 0
    assert {file["path"] for file in told["folders"][0]["repaired"]} == {WEIGHTS, "config.json"}
    assert content_below(plain) == content_below(world.root / REPO)
    assert not (plain / ".internlm-zoo" / "partial").exists()


def test_what_nobody_has_any_more_is_an_error_and_the_damaged_file_stays(
    world: World, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(folder / WEIGHTS, 7)
    damaged = (folder / WEIGHTS).read_bytes()
    world.fault(404, WEIGHTS)
    code, told = answer(capsys, "verify", "tiny", "--repair")
    assert code == 4
    assert WEIGHTS in told["error"]["what"] or WEIGHTS in str(told["error"]["where"])
    assert (folder / WEIGHTS).read_bytes() == damaged
    for hub in world.hubs.values():
        hub.clear()
    assert answer(capsys, "verify", "tiny", "--repair")[0] == 0
    assert content_below(folder) == content_below(world.root / REPO)


def test_the_report_says_who_sent_how_much_how_often_and_how_long(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    world.fault("reset", WEIGHTS, "huggingface", times=1, after=200_000)
    code, told = answer(capsys, "download", "tiny")
    assert code == 0
    sources = told["sources"]
    assert sources["huggingface"]["retries"] == 1
    assert sum(source["served"] for source in sources.values()) == sum(world.sent.values())
    assert told["seconds"] > 0 and all(source["seconds"] > 0 for source in sources.values())


def test_a_large_release_comes_from_the_hub_that_answers_soonest(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("internlm_zoo.downloads.release.WORTH", BLOCK)
    for slow in ("huggingface", "modelers"):
        world.fault("delay", WEIGHTS, slow, seconds=0.3)
    world.environ["INTERNLM_ZOO_HOME"] = str(tmp_path / "fresh")
    done = world.download(max_workers=1)
    assert done.hub == "huggingface", "which release is meant is not a matter of speed"
    assert done.served["modelscope"] >= len(LARGE)
    assert content_below(done.path) == content_below(world.root / REPO)


def test_a_hub_with_other_content_is_no_source_and_said_to_differ(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("internlm_zoo.downloads.release.WORTH", BLOCK)
    world.fault("wrong-digest", WEIGHTS, "modelscope")
    world.environ["INTERNLM_ZOO_HOME"] = str(tmp_path / "fresh")
    done = world.download()
    assert "modelscope" not in done.served
    assert any("modelscope has another model.safetensors (expected sha256" in note for note in done.notes)
    assert content_below(done.path) == content_below(world.root / REPO)

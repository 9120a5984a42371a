"""Mistakes in a mirror file: all of them at once, each with its line, and no hub asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import internlm_zoo.cli.mirror  # noqa: F401 - importing registers the commands
from internlm_zoo.cli.shell import run

OVERLAY = """
models:
  tiny-one: &tiny
    display_name: Tiny
    family: internlm
    size: 1m
    kind: base
    releases: [{hub: modelscope, repo: acme/same, format: hf}]
  tiny-two:
    <<: *tiny
    releases: [{hub: modelscope, repo: acme/same, format: original}]
  tiny-listed:
    <<: *tiny
    releases: [{hub: modelscope, repo: acme/awq, format: awq}]
"""
MISTAKES = """# line 1
destination: [mirror]
models:
  - tiny-one
  - tiny-onee
  - 7
  - tiny-one
formats: [ggml]
hubs:
  - modelscope
  - hugingface
include:
  - "/config.json"
  - "weights[0-9.bin"
  - "[z-a]"
prune: perhaps
max_delete: 12.5
max_deletes: 3
"""


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "overlay.yaml").write_text(OVERLAY)
    monkeypatch.setenv("INTERNLM_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("INTERNLM_ZOO_REGISTRY", str(tmp_path / "overlay.yaml"))

    def call(content: str | bytes, *options: str) -> tuple[int, str]:
        file = tmp_path / "mirror.yaml"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        code = run(["mirror", "plan", str(file), "--offline", *options])
        out = capsys.readouterr()
        return code, out.out if options else out.err

    return call


@pytest.mark.parametrize("encode", ["plain", "windows"])
def test_all_mistakes_come_at_once_each_with_its_line(check, encode: str) -> None:
    content = MISTAKES.encode()
    if encode == "windows":
        content = b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")
    code, told = check(content)
    assert code == 2
    lines = [line.partition("mirror.yaml:")[2] for line in told.splitlines() if "mirror.yaml:" in line]
    assert [int(line.partition(":")[0]) for line in lines] == [
        2,
        5,
        6,
        7,
        8,
        11,
        13,
        14,
        15,
        16,
        17,
        18,
    ]
    for word in ("tiny-onee", "'tiny-one' twice", "ggml", "hugingface", "12.5", "max_delete?", "backwards"):
        assert word in told, word
    assert "at least 1" not in told, "a list with a wrong item is not called empty as well"
    assert "registry" not in told.replace("registry.yaml", "")
    _, document = check(content, "--json")
    assert all(f"mirror.yaml:{line}" in json.loads(document)["error"]["what"] for line in (2, 18))


def test_releases_that_cannot_be_had_or_share_a_folder_are_named_with_their_lines(check) -> None:
    code, told = check("destination: x\nmodels:\n- tiny-one\n- tiny-listed\n- tiny-two\n")
    assert code == 2
    assert "mirror.yaml:4: tiny-listed has no release in hf or original format" in told
    assert "mirror.yaml:5: tiny-one (hf) and tiny-two (original) would both lie in acme/same" in told


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ("destination is missing", "models is missing")),
        (b"- a\n", ("a mirror file is a mapping",)),
        (b"destination: x\n\tmodels: [a]\n", ("mirror.yaml:2",)),
        (b"destination: x\ndestination: y\nmodels: [tiny-one]\n", ("mirror.yaml:2", "twice")),
        (b"destination: x\nmodels: tiny-one\n", ("mirror.yaml:2", "list")),
        (b"destination: x\nmodels: []\n", ("models is []; it should have at least 1 item, not 0",)),
        ("# ok\ndestination: x # 镜像\n".encode("gbk"), ("mirror.yaml:2", "UTF-8")),
        (b"destination: x\nmodels: [a\x07]\n", ("mirror.yaml:2", "control characters")),
        (b"a: &x [*x]\n", ("anchor",)),
    ],
)
def test_whatever_is_in_the_file_is_answered_in_a_sentence(
    check, content: bytes, words: tuple[str, ...]
) -> None:
    code, told = check(content)
    assert code == 2
    for word in words:
        assert word in told

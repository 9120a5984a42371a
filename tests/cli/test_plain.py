"""Text of others is shown, and obeyed by nothing: no terminal, no CI runner, no reader's eye."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import internlm_zoo.cli as cli
from internlm_zoo.plain import MOST, escaped_json, markdown_code, markdown_text, plain, plain_lines
from tests.cli.hostile import HOSTILE, OBEYED, SEEN, obeyed, shown

for _module in cli._MODULES:
    __import__(f"internlm_zoo.cli.{_module}")

TEXTS = st.text(st.characters() | st.sampled_from(OBEYED + SEEN + "\ud800\udcff\0`|<&*_")) | st.text(
    st.sampled_from("\u202e\x1b[]mabc\n::set-x y")
)


@given(TEXTS)
def test_any_text_becomes_one_line_that_nothing_obeys(text):
    told = plain(text)
    assert not obeyed(told) and "\n" not in told
    assert plain(told) == told


@given(st.text(st.characters(exclude_categories=["C", "Z", "M"]), min_size=1))
def test_what_is_only_seen_stays_as_it_is(text):
    if not any(0x1100 <= ord(char) <= 0x3164 or ord(char) > 0xFF00 for char in text) and "#" not in text:
        assert plain(text) == plain_lines(text) == text or ":" in text


@given(TEXTS)
def test_lines_stay_lines_and_joiners_join(text):
    told = plain_lines(text)
    kept = "\n\t\u200c\u200d"
    assert not {char for char in obeyed(told) if char not in kept and not "\ud800" <= char[0] <= "\udfff"}
    assert told.count("\n") == text.count("\n")


@given(TEXTS)
def test_json_says_the_same_without_what_is_obeyed(text):
    document = json.dumps({"name": text}, ensure_ascii=False)
    told = escaped_json(document)
    assert json.loads(told) == json.loads(document)
    assert not {char for char in obeyed(told) if not joins(char)} or "::" in text


def joins(char: str) -> bool:
    return char in "\u200c\u200d" or unicodedata.category(char) == "Cs"


@given(TEXTS)
def test_a_markdown_page_holds_no_html_link_picture_or_cell_of_it(text):
    told = markdown_text(text)
    assert not re.search(r"[<>|`*_\[\]!@\n]|://", re.sub(r"&#\d+;", "", told))
    code = markdown_code(text)
    assert code.count("`") == 2 * bool(text) and "|" not in code and "\n" not in code


def test_a_name_of_a_megabyte_loses_its_middle():
    told = plain("a" * 500_000 + "b" * 500_000)
    assert len(told) <= MOST and told.startswith("aaa") and "a…b" in told and told.endswith("bbb")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b\x7f\0", "\\x9b\\x7f\\x00"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\U000e0041", "\\U000e0041"),
        (os.fsdecode(b"\xff"), "\\xff"),
        ("\ud800", "\\ud800"),
        ("::error file=x::y", "\\x3a:error file=x::y"),
        ("std::vector<::x>", "std::vector<::x>"),
        ("模型 é €", "模型 é €"),
    ],
)
def test_what_is_escaped_is_written_as_python_writes_it(text, told):
    assert plain(text) == told


OVERLAY = {
    "hubs": {
        HOSTILE: {"title": HOSTILE, "short": HOSTILE, "protocol": "huggingface", "page": HOSTILE + "{repo.x}"}
    },
    "families": {
        HOSTILE: {"title": HOSTILE, "layout": "internlm2", "notes": [HOSTILE], "evidence": [HOSTILE]}
    },
    "models": {
        HOSTILE: {
            "display_name": HOSTILE,
            "family": HOSTILE,
            "size": HOSTILE,
            "kind": "chat",
            "licence": {"code": HOSTILE, "weights": HOSTILE, "before": HOSTILE},
            "context": {"trained": 1, "claimed": 2, "claimed_how": HOSTILE},
            "card_licence": HOSTILE,
            "released_config": {HOSTILE: HOSTILE},
            "by_revision": {HOSTILE: HOSTILE},
            "special_tokens": {HOSTILE: {"token": HOSTILE, "piece": HOSTILE}},
            "tokenizer": {"file": HOSTILE},
            "notes": [HOSTILE],
            "evidence": [HOSTILE],
            "releases": [
                {
                    "hub": HOSTILE,
                    "repo": HOSTILE,
                    "format": "hf",
                    "also_listed_as": [HOSTILE + "2"],
                    "known_files": [HOSTILE],
                    "known_revisions": {HOSTILE: HOSTILE},
                    "quoted_files": {HOSTILE + "3": {"bytes": 1, "source": HOSTILE}},
                    "quantisation": HOSTILE,
                    "evidence": [HOSTILE],
                }
            ],
        }
    },
    "evaluations": [
        {
            "id": HOSTILE,
            "section": HOSTILE,
            "source": HOSTILE,
            "models": [HOSTILE],
            "rows": [{"benchmark": HOSTILE, "category": HOSTILE, "scores": {HOSTILE: 1}}],
        }
    ],
}


@pytest.fixture
def overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every text of a registry file is hostile."""
    path = tmp_path / f"over{OBEYED.replace('/', '')[:60]}lay.yaml"
    path.write_text(yaml.safe_dump(OVERLAY), encoding="utf-8")
    monkeypatch.setenv("INTERNLM_ZOO_REGISTRY", str(path))
    monkeypatch.setenv("INTERNLM_ZOO_HOME", str(tmp_path / "home"))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_no_field_of_an_overlay_reaches_a_terminal_as_more_than_text(overlay, monkeypatch, terminal):
    columns = "kind,released,hf,size,licence,family,title,quantised,positions"
    for args, code in (
        (["list", "--columns", columns], 0),
        (["show", HOSTILE], 0),
        (["show", HOSTILE, "--files"], 0),
        (["evals"], 0),
        (["registry", "export"], 0),
        (["download", HOSTILE, HOSTILE, "--offline", "--source", HOSTILE], None),
        (["download", "demo-internlm2-chat", HOSTILE], 4),
        (["cache", "path", HOSTILE], None),
        (["inspect", HOSTILE.replace("/", ""), "--debug"], 4),
        (["lock", HOSTILE], None),
    ):
        found, out, err = shown(monkeypatch, *args, terminal=terminal)
        assert found == code or (code is None and 1 < found < 70), (args, err)
        shown(monkeypatch, *args, terminal=terminal, width=60)
        assert ("MARK" in out + err and "Error" not in err) or "--debug" in args
        document, told, _ = shown(monkeypatch, *args, "--json", terminal=terminal)
        assert document == found and json.loads(told)


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_arguments_are_quoted_and_not_obeyed(monkeypatch, tmp_path, terminal):
    monkeypatch.setenv("INTERNLM_ZOO_HOME", str(tmp_path))
    for args in (
        [HOSTILE],
        ["list", "--MARK" + OBEYED.replace("=", "")],
        ["list", HOSTILE],
        ["list", "--kind", HOSTILE],
        ["list", "--columns", HOSTILE],
        ["download", "demo-internlm2-chat", "--format", HOSTILE],
        ["download", "demo-internlm2-chat", "--max-workers", HOSTILE],
        ["download", "demo-internlm2-chat", "--max-rate", HOSTILE],
        ["inspect", ".", "--set", HOSTILE],
        ["serve", ".", "--port", HOSTILE],
        ["mirror", "plan", HOSTILE],
        ["generate", "demo-internlm2-chat", "-p", "x", "--devices", HOSTILE],
    ):
        width = 30_000 if SEEN in args[-1] else 80
        code, out, err = shown(monkeypatch, *args, terminal=terminal, width=width)
        assert code in (2, 4, 7) and not out and err


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_variables_are_quoted_and_not_obeyed(monkeypatch, tmp_path, terminal):
    for name, args in (
        ("INTERNLM_ZOO_SOURCES", ["download", "demo-internlm2-chat"]),
        ("INTERNLM_ZOO_TIMEOUT", ["download", "internlm-7b"]),
        ("INTERNLM_ZOO_REGISTRY", ["list"]),
        ("HF_ENDPOINT", ["download", "internlm-7b", "--source", "huggingface"]),
        ("HTTPS_PROXY", ["download", "internlm-7b", "--source", "huggingface"]),
        ("SSL_CERT_FILE", ["download", "internlm-7b", "--source", "huggingface"]),
        ("HF_TOKEN", ["download", "internlm-7b", "--source", "huggingface"]),
    ):
        with monkeypatch.context() as patched:
            patched.setenv("INTERNLM_ZOO_HOME", str(tmp_path))
            patched.setenv(name, HOSTILE)
            code, _, _ = shown(patched, *args, terminal=terminal)
        assert code in (2, 4, 5), name


def test_a_path_that_another_program_reads_is_exact_and_told_plainly_to_a_person(monkeypatch, tmp_path):
    home = str(tmp_path / "a\x1b[31m\n\udcffb")
    monkeypatch.setenv("INTERNLM_ZOO_HOME", home)
    _, out, _ = shown(monkeypatch, "cache", "path", terminal=True)
    assert out == plain(home) + "\n"
    from tests.cli.test_outlets import Terminal

    pipe = Terminal(monkeypatch, "utf-8", "surrogateescape")
    cli.shell.run(["cache", "path"])
    pipe.streams[0].flush()
    assert os.fsdecode(pipe.streams[0].buffer.getvalue()) == home + "\n"

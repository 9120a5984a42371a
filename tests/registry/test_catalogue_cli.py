"""What a person, a pipe and a program see of list, show, evals and registry."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.dom import minidom

import jsonschema
import pytest
import yaml
from rich.console import Console

import internlm_zoo.cli.catalogue  # noqa: F401  (registers the verbs)
from internlm_zoo.cli.catalogue_list import models_table
from internlm_zoo.cli.catalogue_scores import evaluation_tables
from internlm_zoo.cli.shell import run
from internlm_zoo.files import Digests, File
from internlm_zoo.registry import read_registry
from internlm_zoo.registry.lock import LockedRelease, record
from internlm_zoo.settings import Settings

HEAVY = [
    "torch",
    "transformers",
    "huggingface_hub",
    "modelscope",
    "aiohttp",
    "numpy",
    "matplotlib",
    "urllib3",
]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("INTERNLM_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("INTERNLM_ZOO_REGISTRY", raising=False)
    yield


def lines(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> list[str]:
    assert run(list(args)) == code
    return capsys.readouterr().out.splitlines()


def document(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> dict:
    assert run([*args, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_list_in_a_pipe_is_one_aligned_line_per_model(capsys):
    header, *rows = lines(capsys, "list", "--family", "internlm2.5")
    models = [row for row in rows if row.startswith("internlm2.5")]
    assert len(models) == 9
    column = header.index("Released")
    assert {row[column : column + 4] for row in models} == {"2024"}
    assert not any(character in "".join(rows) for character in "─│┃━\x1b")


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_no_terminal_width_cuts_a_value_short(width: int):
    registry = read_registry()
    models = tuple(registry.models.values())
    views = [models_table(registry, models), evaluation_tables(registry.evaluations, ())]
    for view in views:
        printed = io.StringIO()
        console = Console(width=width, force_terminal=True, color_system=None, file=printed)
        console.print(view)
        text = printed.getvalue()
        assert max(map(len, text.splitlines())) <= width
        shown = text.split()
        if view is views[0]:
            assert {model.name for model in models} <= set(shown)
            assert ("262,144" in shown) == (width >= 100)
            assert ("internlm2.5" in shown) == (width >= 160) != ("left out" in text)
            assert {"2023-09-20", "chat-sft"} <= set(shown), "the columns that are always there"
        else:
            assert {"62.05†", "35.2*"} <= set(shown)
            assert ("39.60" in shown) == (width >= 100) != ("left out" in text)


def test_list_shows_the_columns_that_are_asked_for_in_their_order(capsys):
    header, *rows = lines(capsys, "list", "--columns", "parameters,licence,trained,claimed")
    assert header.split("  ")[0] == "Model" and "Parameters" in header and "Released" not in header
    row = next(row for row in rows if row.startswith("internlm-20b "))
    assert row.split() == ["internlm-20b", "20,088,714,240", "Apache-2.0", "4,096", "16,384"]
    bare = next(row for row in rows if row.startswith("polar-7b "))
    assert bare.split() == ["polar-7b", "unknown", "unknown", "unknown", "-"]


def test_every_column_there_is_can_be_shown_and_sorted_by_and_the_help_names_it(capsys):
    from internlm_zoo.cli.catalogue import _COLUMNS
    from internlm_zoo.cli.catalogue_list import FIELDS

    assert sorted(_COLUMNS.split(", ")) == sorted(FIELDS)
    models = len(read_registry().models)
    for name in FIELDS:
        shown = lines(capsys, "list", "--columns", name, "--sort", name)
        assert len([line for line in shown if line.strip()]) == models + 2


def test_list_sorts_by_what_a_column_means_and_puts_the_unknown_last(capsys):
    def names(*args: str) -> list[str]:
        return [model["name"] for model in document(capsys, "list", *args)]

    registry = read_registry()
    by_size = names("--sort", "size")
    assert by_size[:2] == ["demo-internlm-base", "demo-internlm2-chat"]
    places = [by_size.index(name) for name in ("internlm2-1.8b", "internlm3-8b-instruct", "internlm-20b")]
    assert places == sorted(places)
    largest = names("--sort", "parameters", "--reverse")
    counts = [registry.model(name).parameters for name in largest]
    known = [count for count in counts if count is not None]
    assert known == sorted(known, reverse=True) and counts[: len(known)] == known
    assert {"polar-7b", "polar-1.8b"} <= set(largest[len(known) :])
    dates = [str(registry.model(name).release_date) for name in names("--sort", "released")]
    assert dates[: dates.index("None")] == sorted(dates[: dates.index("None")])
    assert names("--reverse") == list(registry.models)[::-1]
    assert names("--family", "internlm3", "--sort", "trained") == ["internlm3-8b-instruct"]


def test_list_filters_by_kind(capsys):
    found = document(capsys, "list", "--kind", "reward")
    assert [model["name"] for model in found[:3]] == [
        "internlm2-1.8b-reward",
        "internlm2-7b-reward",
        "internlm2-20b-reward",
    ]
    assert "polar-7b" in [model["name"] for model in found]
    assert found[0]["releases"][0] == {"id": "huggingface:internlm/internlm2-1_8b-reward", "format": "hf"}


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["list", "--kind", "rewrd"], 2, "known kinds: base, chat, chat-sft, reward, instruct, prover"),
        (["list", "--columns", "model,szie"], 2, "did you mean size? columns: model, kind, released"),
        (["list", "--sort", "colour"], 2, "columns: model, kind, released"),
        (["list", "--family", "intern"], 4, "known families: internlm, internlm2, internlm2.5, internlm3"),
        (["show", "internlm-20"], 4, "did you mean internlm-20b"),
        (["evals", "internlm2-20b"], 4, "evaluated: InternLM-20B"),
        (["evals", "--chart", "scores.pdf"], 2, "a chart is a .png or .svg file"),
    ],
)
def test_mistakes_end_with_a_way_out(capsys, args: list[str], code: int, told: str):
    assert run(args) == code
    assert told in capsys.readouterr().err
    error = document(capsys, *args, code=code)["error"]
    assert told in f"{error['what']} {error['fix']}"
    assert error["exit_code"] == code


def test_show_names_every_repository_and_what_is_unknown(capsys):
    text = "\n".join(lines(capsys, "show", "internlm-chat-20b"))
    for repo in (
        "internlm/internlm-chat-20b",
        "also internlm/internlm-20b-chat",
        "Shanghai_AI_Laboratory/internlm-chat-20b",
        "OpenLMLab/InternLM-chat-20b-original",
    ):
        assert repo in text
    assert "20.09 billion" in text
    assert "internlm-zoo lock internlm-chat-20b" in text
    unknown = "\n".join(lines(capsys, "show", "internlm2.5-20b-chat"))
    assert "Rotary base     unknown" in unknown


def test_show_tells_lengths_licence_payload_config_and_history(capsys):
    text = " ".join("\n".join(lines(capsys, "show", "internlm-chat-20b")).split())
    for told in (
        "released 2023-09-20, updated 2023-12-12",
        "4,096 tokens trained, 16,384 claimed",
        "(20,088,714,240), 40.2 GB in 16 bits",
        "Apache-2.0: the code always, the weights since 2025-01-15; before that weights open",
        "On its card licence: apache-2.0",
        "40 heads, no biases",
        "max_position_embeddings 4096",
        "awq int4 internlm/internlm-chat-20b-4bit",
        "Known revisions, quoted by public sources and not confirmed",
        "84969e0447c3807207e9acdd92c9302309ec64fc 2023-09",
    ):
        assert told in text, told
    assert "rope_scaling: null, then" in "\n".join(lines(capsys, "show", "internlm2-chat-7b"))
    rows = " ".join("\n".join(lines(capsys, "show", "internlm3-8b-instruct", "--files")).split())
    assert "128,512 rows" in rows and "128,133 pieces" in rows and "<|im_end|> (128131)" in rows
    assert "Quoted by public sources, not confirmed" in rows and "e1d88b33517b569d" in rows


def test_nothing_is_unknown_that_public_sources_answer():
    """What is left: how the later ones were trained, and what no quoted config.json of two models says."""
    from internlm_zoo.cli.catalogue_sheet import fact_lines

    registry = read_registry()
    left = {"internlm2.5-1.8b": {"Context"}, "internlm2.5-20b-chat": {"Rotary base"}}
    for name, model in registry.models.items():
        if name.startswith("internlm") and "math" not in name and "prover" not in name:
            unknown = {fact for fact, value in fact_lines(registry, model) if value == "unknown"}
            assert unknown - {"Trained with"} == left.get(name, set()), name


def test_show_json_has_the_facts_a_program_needs(capsys):
    found = document(capsys, "show", "internlm2-chat-7b")
    assert found["architecture"]["num_kv_heads"] == 8
    assert found["special_tokens"]["turn_end"] == {
        "token": "<|im_end|>",
        "id": 92542,
        "piece": "[UNUSED_TOKEN_145]",
    }
    assert found["stop_tokens"] == ["</s>", "<|im_end|>"]
    assert found["locked"] == []


def test_show_files_come_from_the_lock(capsys, tmp_path: Path):
    digest = "ab" * 32
    files = (File("config.json", 512, Digests(digest)), File("w.bin", 14_600_000_000, Digests("cd" * 32)))
    home = Settings(home=tmp_path / "home")
    record(home, LockedRelease("openxlab", "OpenLMLab/InternLM-7b", "f" * 40, None, "hf", "first-use", files))
    shown = lines(capsys, "show", "internlm-7b", "--files")
    assert ["config.json", "512", "B", digest] in [line.split() for line in shown]
    text = "\n".join(shown)
    assert "14.6 GB" in text
    assert "ffffffffffff (first use)" in text
    assert "not resolved yet: run `internlm-zoo lock internlm-7b`" in text
    assert document(capsys, "show", "internlm-7b")["locked"][0]["files"][0]["sha256"] == digest


def test_show_says_which_values_an_overlay_states(capsys, tmp_path: Path):
    overlay = tmp_path / "my.yaml"
    overlay.write_text("models:\n  internlm-7b:\n    context: {trained: 4096}\n")
    assert f"  context.trained from {overlay}:3" in lines(
        capsys, "show", "internlm-7b", "--registry", str(overlay)
    )
    found = document(capsys, "show", "internlm-7b", "--registry", str(overlay))
    assert found["overlaid"] == {"context.trained": f"{overlay}:3"}


def test_evals_put_the_asked_model_first_and_keep_the_marks(capsys):
    header, *rows = lines(capsys, "evals", "InternLM-7B")[1:]
    assert header.split()[:3] == ["Benchmark", "InternLM-7B", "InternLM-Chat-7B"]
    mmlu = next(row for row in rows if row.startswith("MMLU"))
    assert mmlu.split()[1:4] == ["51.0", "52.6", "35.2*"]
    assert rows[-1] == "* from the original paper"
    whole = lines(capsys, "evals")
    assert any(row.split()[:2] == ["Examination", "MMLU"] and "62.05†" in row for row in whole)
    assert document(capsys, "evals", "internlm-7b")[0]["rows"][1]["from_original_paper"] == ["LLaMA-7B"]


def test_no_name_of_an_overlay_is_a_formula_of_a_chart(capsys, tmp_path: Path):
    pytest.importorskip("matplotlib")
    name, overlay, chart = "$\\bad{$\x1b[31m", tmp_path / "over.yaml", tmp_path / "chart.svg"
    row = {"benchmark": name, "category": name, "scores": {name: 5}}
    table = {"id": name, "section": name, "source": name, "models": [name], "rows": [row]}
    overlay.write_text(yaml.safe_dump({"evaluations": [table]}))
    lines(capsys, "evals", "--registry", str(overlay), "--chart", str(chart))
    minidom.parse(str(chart))


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_evals_draw_a_chart(capsys, tmp_path: Path, ending: str):
    pytest.importorskip("matplotlib")
    chart = tmp_path / "charts" / f"scores.{ending}"
    assert lines(capsys, "evals", "internlm-chat-7b", "--chart", str(chart)) == [str(chart)]
    head = chart.read_bytes()[:200]
    assert head.startswith(b"\x89PNG") if ending == "png" else b"<svg" in chart.read_bytes()[:1000]


def test_chart_without_matplotlib_names_the_extra(tmp_path: Path):
    code = (
        "import sys; sys.modules['matplotlib.figure'] = None\n"
        "import internlm_zoo.cli.catalogue; from internlm_zoo.cli.shell import run\n"
        "sys.exit(run(['evals', '--chart', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.png")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 7
    assert "internlm-zoo[chart]" in done.stderr


def test_registry_validate_lists_every_problem_and_exits_2(capsys, tmp_path: Path):
    assert lines(capsys, "registry", "validate")[0].startswith("valid: 5 hubs, 4 families, 44 models")
    bad = tmp_path / "bad.yaml"
    bad.write_text("models:\n  internlm-7b:\n    kind: bse\n    colour: red\n")
    first, second = lines(capsys, "registry", "validate", str(bad), code=2)
    assert first.startswith(f"{bad}:3: models.internlm-7b.kind is 'bse'")
    assert second.startswith(f"{bad}:4: models.internlm-7b has no field 'colour'")
    found = document(capsys, "registry", "validate", str(bad), code=2)
    assert [problem["place"]["line"] for problem in found["problems"]] == [3, 4]


def test_the_shipped_file_validates_by_its_name(capsys):
    root = Path(__file__).parents[2]
    assert lines(capsys, "registry", "validate", str(root / "registry.yaml"))[0].startswith("valid")


def test_registry_export_follows_the_printed_schema(capsys):
    exported = document(capsys, "registry", "export")
    assert exported == json.loads("\n".join(lines(capsys, "registry", "export")))
    schema = document(capsys, "registry", "schema")
    for section in ("hubs", "families", "models"):
        for entry in exported[section].values():
            del entry["name"]
    jsonschema.validate(exported, schema)


@pytest.mark.parametrize("args", [["list"], ["show", "internlm-20b"], ["evals"], ["registry", "validate"]])
def test_looking_something_up_imports_nothing_heavy(args: list[str]):
    code = (
        "import sys, internlm_zoo.cli.catalogue\n"
        "from internlm_zoo.cli.shell import run\n"
        f"run({args!r})\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"

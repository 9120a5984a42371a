"""A checkpoint's chat template, tokenizer and token ids end in a value or a sentence, whatever they ask."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from internlm_zoo.errors import IntegrityError, UnsupportedError, UsageError, ZooError
from internlm_zoo.loading.answer import generate
from internlm_zoo.loading.generate import encode, encode_turns
from internlm_zoo.loading.sandbox import limits, process
from tests.loading.demo import MODELS, edit_config, home_of, load_model
from tests.timing import PATIENCE

CHAT = MODELS[1]
TURNS = [{"role": "user", "content": "Hello"}]
ROWS = 2048
ENDLESS = (
    "a\n{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
    "{% endfor %}{% endfor %}{% endfor %}"
)
HUGE = "{{ 'a' * 10**10 }}"
# As short as a test can wait for.
IMPATIENT = replace(limits.LIMITS, seconds=1, opening=2)


@pytest.fixture
def folder(directories, tmp_path):
    return shutil.copytree(directories[CHAT, "llama"], tmp_path / "model")


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(limits, "LIMITS", IMPATIENT)


def changed(folder, name, **fields):
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return folder


def loaded(folder):
    return load_model(folder, settings=home_of(folder.parent), known_as=CHAT)


def rendered(folder, template):
    return encode_turns(loaded(changed(folder, "tokenizer_config.json", chat_template=template)), TURNS)


def special(id):
    """A tokenizer.json's post-processor that puts a token of this id before every text."""
    both = [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]
    return {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, both[0]],
        "pair": both,
        "special_tokens": {"<s>": {"id": "<s>", "ids": [id], "tokens": ["<s>"]}},
    }


@pytest.mark.parametrize(
    ("template", "error", "says"),
    [
        (HUGE, IntegrityError, "line 1 .* 1.1 GB of memory"),
        ("{{ 'a' * 10**6 }}", IntegrityError, "1000000 characters"),
        ("a\n{{ 1/0 }}", UnsupportedError, "line 2 .*ZeroDivisionError"),
        ("{% include 'config.json' %}", UnsupportedError, "another template"),
        ("a\nb\n{% if %}", UnsupportedError, "line 3 .*TemplateSyntaxError"),
        ("{{ ''.__class__.__mro__ }}", UnsupportedError, "SecurityError"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", UnsupportedError, "RecursionError"),
        ("{{ range(10**9)|list }}", UnsupportedError, "range"),
        ("{{ '\\ud800' }}", UnsupportedError, "surrogate"),
        ([{"name": "default", "template": "{{ x.y }}"}], UnsupportedError, "UndefinedError"),
        ([{"name": "tools", "template": "x"}], UnsupportedError, "default"),
    ],
)
def test_a_template_that_asks_for_too_much_or_fails_is_a_sentence_with_its_file(
    folder, template, error, says
):
    with pytest.raises(error, match=says) as refused:
        rendered(folder, template)
    assert refused.value.where == str(folder / "tokenizer_config.json") and "raw=True" in refused.value.fix


def test_a_template_in_a_file_of_its_own_is_named_by_it(zoo, folder):
    (folder / "chat_template.jinja").write_text("a\n\n{{ a.b.c }}")
    code, _, err = zoo("generate", folder, "--as", CHAT, "-p", "Hello")
    assert code == 7 and "line 3" in err and "chat_template.jinja" in err and "Traceback" not in err
    assert zoo("generate", folder, "--as", CHAT, "-p", "Hello", "--raw")[0] == 0


def test_an_endless_template_ends_with_its_line_and_the_next_text_is_read(folder, impatient):
    with pytest.raises(IntegrityError, match="line 2 of its chat template runs for more than 1 s"):
        rendered(folder, ENDLESS)
    assert encode(loaded(folder), "Hello")


@pytest.mark.slow
@pytest.mark.parametrize(
    "template",
    [
        "{{ '%999999999d' % 1 }}{{ '%999999999d' % 1 }}",
        "{{ 'a'|center(10**10) }}",
        "{{ [1]|batch(10**9, 'x')|list|length }}",
        "{{ ('a\n' * 1000000)|indent(10000) }}",
        "{{ messages|tojson(indent=10**9) }}",
        "{{ range(99999)|join('x' * 100000) }}",
        "{{ ('a' * 1000000)|wordwrap(1) }}",
        "{{ lipsum(n=10**7) }}",
        "{% set n = namespace(a='a') %}{% for i in range(64) %}{% set n.a = n.a.replace('a', 'aa') %}"
        "{% endfor %}",
    ],
)
def test_no_filter_takes_more_than_it_may(folder, template, impatient):
    with pytest.raises(IntegrityError, match=r"line 1|its chat template"):
        rendered(folder, template)


@pytest.mark.parametrize(
    ("normalizer", "says"),
    [
        ({"type": "Prepend", "prepend": "x" * 1_000_000}, "1000004 tokens"),
        ({"type": "Precompiled", "precompiled_charsmap": "/////w=="}, "crashes"),
        ({"type": "Precompiled", "precompiled_charsmap": "AAAA"}, "PanicException"),
        ({"type": "Replace", "pattern": {"Regex": "((("}, "content": "x"}, "parenthesis"),
    ],
)
def test_a_tokenizer_that_grows_or_crashes_is_a_sentence_and_does_not_end_this_process(
    folder, normalizer, says
):
    changed(folder, "tokenizer.json", normalizer=normalizer)
    with pytest.raises(IntegrityError, match=says) as refused:
        encode(loaded(folder), "Hello")
    assert str(folder) in refused.value.where


@pytest.mark.slow
@pytest.mark.parametrize(
    "field",
    [
        {"normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Replace", "pattern": {"String": "l"}, "content": "l" * 10}] * 40}},
        {"decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}] * 40}},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated",
                           "invert": False}},
    ],
)  # fmt: skip
def test_replacements_and_patterns_that_explode_end(folder, field, impatient):
    changed(folder, "tokenizer.json", **field)
    with pytest.raises(IntegrityError):
        generate(loaded(folder), "Hello all, a banana" + "x" * 40, raw=True)


def test_a_tokenizer_that_pads_to_a_thousand_million_does_not(folder):
    padding = {"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None}
    changed(
        folder, "tokenizer.json", padding={**padding, "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"}
    )
    assert len(encode(loaded(folder), "Hello")) < 10


@pytest.mark.parametrize("id", [ROWS, 92600, 2**32 - 1])
def test_an_id_beyond_the_embedding_is_named_with_its_rows(zoo, folder, id):
    changed(folder, "tokenizer.json", post_processor=special(id))
    code, _, err = zoo("generate", folder, "--as", CHAT, "-p", "Hello", "--raw")
    assert code == 7 and str(id) in err and "2048 rows" in err and "Traceback" not in err


@pytest.mark.parametrize("id", ["2", ROWS, [2, 92600], 10**12, [2, "x"], [[2]], {"a": 1}, True])
def test_a_stop_token_that_is_none_is_named_with_its_file(folder, id):
    changed(folder, "generation_config.json", eos_token_id=id)
    with pytest.raises(ZooError, match="eos_token_id") as refused:
        generate(loaded(folder), "Hello", raw=True)
    assert "generation_config.json" in refused.value.where and refused.value.exit_code in (6, 7)


def test_a_stop_token_of_minus_one_is_none(folder):
    changed(folder, "generation_config.json", eos_token_id=-1)
    assert generate(loaded(folder), "Hello", raw=True, max_new_tokens=2)


def test_of_generation_config_nothing_but_the_stop_tokens_counts(folder):
    before = generate(loaded(folder), "Hello", raw=True, max_new_tokens=4)
    hostile = {
        "max_new_tokens": 10**12,
        "temperature": -1,
        "top_k": -5,
        "do_sample": True,
        "num_beams": 10**9,
    }
    hostile |= {"forced_decoder_ids": [[1, 10**9]], "bad_words_ids": [[-3]], "stop_strings": "x" * 10**6}
    changed(folder, "generation_config.json", **hostile)
    assert generate(loaded(folder), "Hello", raw=True, max_new_tokens=4) == before


def test_a_padding_token_beyond_the_embedding_is_named(folder):
    (folder / "generation_config.json").unlink()
    edit_config(folder, pad_token_id=92600)
    with pytest.raises(UnsupportedError, match=r"92600.*2048 rows.*pad_token_id"):
        loaded(folder)


def children():
    return [child for child in psutil.Process().children() if "sandbox.child" in " ".join(child.cmdline())]


def test_one_process_reads_all_and_has_no_credential(folder, monkeypatch):
    for name in ("HF_TOKEN", "MODELSCOPE_API_TOKEN", "AWS_SECRET_ACCESS_KEY", "https_proxy"):
        monkeypatch.setenv(name, "a-secret")
    process._end()
    for _ in range(2):
        encode(loaded(folder), "Hello")
    (child,) = children()
    assert "a-secret" not in child.environ().values() and child.environ()["HF_HUB_OFFLINE"] == "1"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's choice")
def test_where_memory_is_full_the_process_of_tokenizers_ends_and_the_model_goes_on(folder, monkeypatch):
    """The kernel's choice is by this number; its killing is a signal from outside."""
    model = loaded(folder)
    (child,) = children()
    assert Path(f"/proc/{child.pid}/oom_score_adj").read_text().strip() == "1000"
    child.suspend()
    threading.Timer(0.2, child.kill).start()
    with pytest.raises(IntegrityError, match="no memory left"):
        encode(model, "Hello")
    assert encode(model, "Hello")


@pytest.mark.slow
def test_where_the_system_keeps_no_limits_the_process_is_watched(folder, monkeypatch):
    """As on Windows, and for memory on macOS."""
    unlimited = process._BEGIN.replace(
        "serve()", "import internlm_zoo.loading.sandbox.child as c; c._confine = lambda *_: None; serve()"
    )
    monkeypatch.setattr(process, "_BEGIN", unlimited)
    monkeypatch.setattr(limits, "LIMITS", replace(IMPATIENT, memory=200_000_000))
    process._end()
    try:
        with pytest.raises(IntegrityError, match=r"200\.0 MB of memory"):
            rendered(folder, HUGE)
        with pytest.raises(IntegrityError, match="more than 1 s"):
            rendered(folder, ENDLESS)
    finally:
        process._end()


def test_without_another_process_nothing_of_a_tokenizer_is_run(zoo, folder, monkeypatch):
    process._end()
    monkeypatch.setattr(sys, "executable", str(folder / "nowhere"))
    code, _, err = zoo("generate", folder, "--as", CHAT, "-p", "Hello")
    assert code == 7 and "cannot be started" in err and "Traceback" not in err


def test_an_interrupt_ends_the_work_of_the_other_process(folder, monkeypatch):
    model = loaded(folder)
    assert children()

    def interrupted(stream):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(process, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            encode(model, "Hello")
    assert not children() and encode(model, "Hello")


@pytest.mark.slow
def test_an_endless_template_does_not_outlive_a_killed_process(folder, impatient):
    changed(folder, "tokenizer_config.json", chat_template=ENDLESS)
    script = (
        "import sys; from dataclasses import replace; from pathlib import Path\n"
        "from internlm_zoo.loading.sandbox import limits\n"
        "from internlm_zoo.loading.generate import encode_turns\n"
        "from tests.loading.demo import load_model; from internlm_zoo.settings import Settings\n"
        "limits.LIMITS = replace(limits.LIMITS, seconds=2)\n"
        "model = load_model(sys.argv[1], settings=Settings(home=Path(sys.argv[1]), offline=True))\n"
        "print('ready', flush=True); encode_turns(model, [{'role': 'user', 'content': 'x'}])"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, folder], stdout=subprocess.PIPE)
    assert parent.stdout.readline() == b"ready\n"
    (child,) = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    child.wait(PATIENCE)
    assert not child.is_running()


def test_the_python_api_refuses_what_does_not_build_and_gives_what_does(folder):
    import internlm_zoo as zoo

    settings = home_of(folder.parent)
    _, tokenizer = zoo.load(folder, settings=settings)
    assert tokenizer("Hello").input_ids == encode(loaded(folder), "Hello")
    for kind, says in (
        ({"type": "Precompiled", "precompiled_charsmap": "/////w=="}, "crashes"),
        ({"type": "Prepend", "prepend": "x" * 100_000}, "tokens of this"),
    ):
        changed(folder, "tokenizer.json", normalizer=kind)
        with pytest.raises(ZooError, match=says):
            zoo.load(folder, settings=settings)


@pytest.mark.parametrize(
    "turn", ["Hello", {"role": "user", "content": 3}, {"role": "user", "content": ["x"]}]
)
def test_a_turn_that_is_none_is_a_usage_error_with_its_number(folder, turn):
    with pytest.raises(UsageError, match="turn 2"):
        encode_turns(loaded(folder), [*TURNS, turn])

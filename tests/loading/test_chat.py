"""`chat`: turns of one conversation, each answered as transformers answers the whole of it."""

from __future__ import annotations

import io
import json
import os
import re
import select
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import internlm_zoo
from internlm_zoo.errors import UnsupportedError
from tests.loading.demo import MODELS, edit_json, home_of, nameless
from tests.processes import interruptible
from tests.timing import PATIENCE

BASE, CHAT = MODELS
SAID = ("What is a proverb?", "and you", "你好")
ENDLESS = """
import internlm_zoo.loading.answer as answer
answer.stop_ids = lambda loaded: frozenset()
from internlm_zoo.cli import main
main()
"""


@pytest.fixture(scope="module")
def loaded(directories, tmp_path_factory):
    """transformers' own model and tokenizer, and what they answer."""
    settings = home_of(tmp_path_factory.mktemp("chat"))
    model, tokenizer = internlm_zoo.load(directories[CHAT, "llama"], devices=["cpu"], settings=settings)

    def answer(*turns: str) -> str:
        roles = ("user", "assistant") * len(turns)
        messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=False
        )
        written = model.generate(
            ids, max_new_tokens=40, do_sample=False, pad_token_id=0, attention_mask=ids * 0 + 1
        )
        return tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)

    return answer


@pytest.fixture
def chat(zoo, monkeypatch):
    import internlm_zoo.cli.chat

    assert internlm_zoo.cli.chat

    def run(folder, text, *args):
        stdin = io.TextIOWrapper(io.BytesIO(text if isinstance(text, bytes) else text.encode()), "utf-8")
        monkeypatch.setattr(sys, "stdin", stdin)
        return zoo("chat", folder, "--max-new-tokens", 40, *args)

    return run


def test_a_session_answers_as_transformers_does_the_whole_conversation(directories, loaded, tmp_path):
    session = internlm_zoo.chat(
        directories[CHAT, "llama"], max_new_tokens=40, devices=["cpu"], settings=home_of(tmp_path)
    )
    turns: list[str] = []
    for text in SAID:
        pieces: list[str] = []
        answer = session.ask(text, stream=pieces.append)
        assert answer.text == "".join(pieces) == loaded(*turns, text)
        turns += [text, answer.text]
    assert [message["content"] for message in session.messages] == turns
    session.reset()
    assert session.messages == [] and session.ask(SAID[0]).text == turns[1]
    before = [*session.messages]
    with pytest.raises(UnsupportedError, match="serves"):
        session.ask("word " * 300)
    assert session.messages == before
    stop = threading.Event()
    stop.set()
    stopped = session.ask("again", cancel=stop)
    assert stopped.tokens == 1 and session.messages[-1]["content"] == stopped.text


def test_every_line_of_a_pipe_is_answered_and_answers_alone_are_on_stdout(chat, directories, loaded):
    first = loaded(SAID[0])
    second = loaded(SAID[0], first, SAID[1])
    text = f"{SAID[0]}\n\n/help\n{SAID[1]}\n/reset\n/nonsense\n{SAID[0]}\n/exit\nnot said\n"
    code, out, err = chat(directories[CHAT, "llama"], text)
    assert (code, out) == (0, f"{first}\n{second}\n{first}\n")
    assert "/reset  begin a new conversation" in err and "there is no /nonsense" in err
    code, out, _ = chat(directories[CHAT, "llama"], f"{SAID[0]}\n{SAID[1]}", "--json")
    turns = json.loads(out)["turns"]
    assert code == 0 and [turn["text"] for turn in turns] == [first, second]
    assert turns[0]["prompt"] == SAID[0] and turns[0]["tokens"] > 0


def test_the_template_of_a_directory_is_used_and_it_is_said_where_there_is_none(
    chat, directories, loaded, tmp_path
):
    assert "template" not in chat(directories[CHAT, "llama"], "")[2]
    code, out, err = chat(directories[CHAT, "original"], SAID[0], "--as", CHAT)
    assert (code, out) == (0, f"{loaded(SAID[0])}\n")
    assert "no chat template in its files" in err
    bare = nameless(directories[CHAT, "llama"], tmp_path)
    (bare / "chat_template.jinja").write_text("{{ messages | length }}{{ messages[0].content }}")
    code, _, err = chat(bare, "one\ntwo\n")
    assert code == 0 and "its own chat template is used (" in err
    code, _, err = chat(bare, "", "--system", "Be brief.")
    assert code == 0
    (bare / "chat_template.jinja").write_text("{{ messages[-1].content }}")
    code, _, err = chat(bare, "", "--system", "Be brief.")
    assert code == 7 and "no place for a system's turn" in err


def test_a_system_turn_is_part_of_every_conversation(directories, tmp_path):
    session = internlm_zoo.chat(
        directories[CHAT, "llama"], system="Be brief.", max_new_tokens=4, settings=home_of(tmp_path)
    )
    session.ask("Hello")
    session.reset()
    assert session.messages == [{"role": "system", "content": "Be brief."}]


@pytest.mark.parametrize(
    ("form", "args", "said"),
    [
        ("named", (), "it is a base model, which goes on with a text and takes no turns"),
        ("nameless", (), "nothing says which model this is, and there is no chat template in it"),
        ("named", ("--parallel", "tensor"), "held by one process"),
    ],
)
def test_what_nobody_can_talk_to_is_refused_with_advice(chat, directories, tmp_path, form, args, said):
    folder = directories[BASE, "llama"]
    if form == "nameless":
        folder = nameless(folder, tmp_path)
        edit_json(folder / "tokenizer_config.json", chat_template=None)
    code, out, err = chat(folder, "Hello\n", *args)
    assert (code, out) == (7, "") and said in err and "fix: " in err
    assert args or "internlm-zoo generate" in err


@pytest.mark.parametrize(
    ("name", "said"), [("internlm-20b", "a base model"), ("internlm2-20b-reward", "internlm-zoo score")]
)
def test_a_model_that_takes_no_turns_is_refused_before_it_is_downloaded(chat, name, said):
    code, _, err = chat(name, "Hello\n", "--offline")
    assert code == 7 and said in err


def test_a_conversation_that_grows_beyond_what_the_model_serves_says_what_to_do(chat, directories):
    code, _, err = chat(directories[CHAT, "llama"], "word " * 119 + "\n" + "word " * 119 + "\n")
    assert code == 7 and "/reset" in err and err.count("was trained on") == 1


def test_bytes_that_are_no_text_are_a_mistake_of_whoever_sends_them(chat, directories):
    code, _, err = chat(directories[CHAT, "llama"], b"\xff\xfe\n")
    assert code == 2 and "UTF-8" in err and "Traceback" not in err


def test_what_a_terminal_would_obey_is_written_out(chat, directories, tmp_path):
    folder = shutil.copytree(directories[CHAT, "llama"], tmp_path / "model")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["decoder"]["decoders"].insert(
        0, {"type": "Replace", "pattern": {"String": "e"}, "content": "\x1b[2J"}
    )
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    code, out, _ = chat(folder, f"{SAID[0]}\n")
    assert code == 0 and "\\x1b[2J" in out and "\x1b" not in out


def until(terminal: int, pattern: str) -> str:
    """What comes from a terminal up to a pattern."""
    text = ""
    while not re.search(pattern, text):
        assert select.select([terminal], [], [], PATIENCE)[0], f"nothing came after {text!r}"
        text += os.read(terminal, 1000).decode(errors="replace")
    return text


@pytest.mark.slow
def test_ctrl_c_stops_an_answer_and_clears_a_line_and_at_an_empty_prompt_ends(directories, tmp_path):
    pty = pytest.importorskip("pty", reason="its terminals are others")
    folder = shutil.copytree(directories[CHAT, "llama"], tmp_path / "model")
    ours, theirs = pty.openpty()
    args = [sys.executable, "-c", ENDLESS, "chat", str(folder), "--max-new-tokens", "1000000"]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "dumb"}

    def own_terminal() -> None:
        import fcntl
        import termios

        interruptible()
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        args, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, preexec_fn=own_terminal
    )
    os.close(theirs)
    try:
        until(ours, r"> $")
        for _ in range(2):
            os.write(ours, b"Hello\n")
            until(ours, r"Hello\r\n\S+ ")
            os.write(ours, b"\x03")
            until(ours, r"stopped\r\n> $")
        os.write(ours, b"half a line")
        until(ours, r"half a line$")
        os.write(ours, b"\x03")
        until(ours, r"\n> $")
        os.write(ours, b"\x03")
        assert process.wait() == 130
    finally:
        process.kill()
        process.wait()
        os.close(ours)

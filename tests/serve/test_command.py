"""`internlm-zoo serve`: says where it is, lets in whom it should, and stops cleanly when told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3

from tests.hubs.authority import Authority
from tests.openmind import client_python, leading_to
from tests.processes import interruptible
from tests.serve import content
from tests.timing import PATIENCE

# Two groups of verbs: with a single command the command line would take no verb at all.
CODE = "from internlm_zoo.cli import main; main()"
FACTS = f"/api/models/{content.REPO}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    content.write(tmp_path / "root")
    return tmp_path / "root"


@contextmanager
def serving(*args: str | Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", CODE, "serve", *map(str, args)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | env,
        preexec_fn=None if os.name == "nt" else interruptible,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def fails(*args: str | Path) -> tuple[int, str]:
    command = [sys.executable, "-c", CODE, "serve", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    return done.returncode, done.stderr


def first_document(process: subprocess.Popen[str]) -> dict[str, object]:
    assert process.stdout is not None
    lines = ""
    for line in process.stdout:
        lines += line
        if line == "}\n":
            break
    return json.loads(lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_a_signal_ends_it_well(root: Path, number: signal.Signals) -> None:
    with serving(root, "--port", "0", "--json") as process:
        told = first_document(process)
        url = told["url"]
        assert told["environment"] == dict.fromkeys(
            (
                "HF_ENDPOINT",
                "MODELSCOPE_ENDPOINT",
                "INTERNLM_ZOO_OPENXLAB_ENDPOINT",
                "INTERNLM_ZOO_MODELERS_ENDPOINT",
            ),
            url,
        )
        assert told["repositories"] == [content.REPO] and told["guarded"] is False
        assert urllib3.request("GET", f"{url}{FACTS}").status == 200
        process.send_signal(number)
        rest, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, rest) == (0, "")
        assert "Traceback" not in errors


def test_lines_to_paste_on_stdout_and_the_rest_on_stderr(root: Path) -> None:
    with serving(root, "--port", "0") as process:
        assert process.stdout is not None and process.stderr is not None
        lines = [process.stdout.readline() for _ in range(4)]
        assert [line.partition("=")[0] for line in lines] == [
            "export HF_ENDPOINT",
            "export MODELSCOPE_ENDPOINT",
            "export INTERNLM_ZOO_OPENXLAB_ENDPOINT",
            "export INTERNLM_ZOO_MODELERS_ENDPOINT",
        ]
        assert "Ctrl-C" in process.stderr.readline()


def test_a_token_guards_and_is_not_shown(root: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_bytes("from-file\r\nanother\r\n".encode("utf-16"))  # as PowerShell's > writes it
    with serving(root, "--port", "0", "--json", INTERNLM_ZOO_SERVE_TOKEN="from-env") as process:
        assert _guards(process, "from-env")
    with serving(root, "--port", "0", "--json", "--token-file", tokens) as process:
        assert _guards(process, "another")


def _guards(process: subprocess.Popen[str], token: str) -> bool:
    told = first_document(process)
    assert told["guarded"] is True and token not in json.dumps(told)
    url = f"{told['url']}{FACTS}"
    assert urllib3.request("GET", url).status == 401
    return urllib3.request("GET", url, headers={"Authorization": f"Bearer {token}"}).status == 200


@pytest.mark.parametrize("form", ["one file", "two files"])
def test_with_a_certificate_it_speaks_https_and_so_to_openmind_hub_too(
    root: Path, tmp_path: Path, form: str
) -> None:
    authority = Authority(tmp_path)
    files = authority.files(tmp_path) if form == "two files" else (authority.together(tmp_path),)
    options = [item for pair in zip(("--certificate", "--key"), files, strict=False) for item in pair]
    with serving(root, "--port", "0", "--json", *options) as process:
        told = first_document(process)
        url = str(told["url"])
        assert url.startswith("https://")
        assert told["environment"] == dict.fromkeys(
            (
                "HF_ENDPOINT",
                "MODELSCOPE_ENDPOINT",
                "INTERNLM_ZOO_OPENXLAB_ENDPOINT",
                "OPENMIND_HUB_ENDPOINT",
            ),
            url,
        )
        with urllib3.PoolManager(ca_certs=str(authority.pem), retries=False) as pool:
            assert pool.request("GET", f"{url}{FACTS}").status == 200
        with leading_to(url, authority, tmp_path) as environment:
            program = "import sys; from openmind_hub import om_hub_download as get; print(get(*sys.argv[1:]))"
            done = subprocess.run(
                [client_python("modelers"), "-c", program, content.REPO, "config.json"],
                env={**os.environ, **environment, "HOME": str(tmp_path)},
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == content.FILES["config.json"]


def test_a_certificate_that_is_none_is_refused(root: Path, tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path).files(tmp_path)
    assert fails(root, "--certificate", tmp_path / "nowhere")[0] == 4
    assert fails(root, "--certificate", certificate, "--key", tmp_path / "nowhere")[0] == 4
    wrong: list[list[str | Path]]
    wrong = [["--certificate", certificate], ["--key", key], ["--certificate", key, "--key", key]]
    for options in wrong:
        code, said = fails(root, *options)
        assert code == 2 and "Traceback" not in said


def test_what_cannot_be_served_is_refused_with_its_exit_code(root: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    assert fails("s3://bucket/prefix")[0] == 7
    assert fails(tmp_path / "nowhere")[0] == 4
    assert fails(root, "--token-file", tmp_path / "nowhere")[0] == 4
    assert fails(root, "--token-file", empty)[0] == 2
    with serving(root, "--port", "0", "--json") as process:
        port = str(first_document(process)["url"]).rpartition(":")[2]
        code, said = fails(root, "--port", port)
        assert code == 2 and "Traceback" not in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--port", "80000"), "80000 is no port (--port)"),
        (("--port", "-1"), "-1 is no port (--port)"),
        (("--host", "no-such-host.invalid"), "'no-such-host.invalid' is no address of this machine (--host)"),
        (("--host", "192.0.2.1"), "'192.0.2.1' is no address of this machine (--host)"),
        (("--host", ""), "'' is no address (--host)"),
        (("--host", "*"), "'*' is no address (--host)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_an_address_that_cannot_be_is_refused_by_its_option(root: Path, options: tuple[str, str], said: str):
    code, err = fails(root, *options)
    assert code == 2
    assert said in err and "fix: " in err and "Traceback" not in err

"""Miniatures go the whole way, and what is wrong on the way fails the step that it is in, and that model
alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import psutil
import pytest

import internlm_zoo as zoo_api
from internlm_zoo.cli.junit import write_junit
from internlm_zoo.errors import NoSpaceError
from internlm_zoo.loading.generate import all_logits
from internlm_zoo.miniatures import steps, workers
from internlm_zoo.miniatures.hub import serving
from internlm_zoo.miniatures.miniature import Miniature
from internlm_zoo.miniatures.second_rank import SecondRank
from internlm_zoo.miniatures.steps import STEPS, try_steps
from internlm_zoo.registry import load_registry
from internlm_zoo.settings import Settings
from internlm_zoo.smoke.result import Check, conclude
from tests.loading.demo import edit_json, rewritten
from tests.processes import interruptible
from tests.timing import wait_for

REGISTRY = load_registry(Settings.from_environment({}))
BASE, CHAT, REWARD = "demo-internlm-base", "internlm2-chat-1.8b", "internlm2-1.8b-reward"
# One of each family, kind of model and of head grouping, element type, and start in original or in hf format.
SOME = (BASE, "internlm-chat-7b", CHAT, "internlm2.5-20b-chat", REWARD, "internlm3-8b-instruct", "mine")
OVERLAY = "models: {mine: {display_name: Mine, family: internlm2, size: 7B, kind: base}}"
NAMES = [step.name for step in STEPS]


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """The folder for temporary files of all processes."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.mark.slow
def test_a_miniature_of_each_kind_goes_the_whole_way_and_leaves_nothing(tmp_path, temporary):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(OVERLAY)
    settings = Settings(home=tmp_path / "home", registry=overlay)
    results = zoo_api.smoke_miniatures(SOME, jobs=2, settings=settings)
    assert [result.sentence for result in results if not result.ok] == []
    assert [result.model for result in results] == list(SOME)
    done = {result.model: [check.name for check in result.checks] for result in results}
    assert done[BASE] == done[CHAT] == done["mine"] == NAMES
    assert done["internlm3-8b-instruct"] == [name for name in NAMES if name != "hf"]
    assert done[REWARD] == [name for name in NAMES if name not in ("hf", "pp 2")]
    written = {result.model: result.checks[0].sentence for result in results}
    assert "F16, original, grids 1x1, 2x1, 2x2" in written["internlm-chat-7b"]
    assert not settings.home.exists() and list(temporary.iterdir()) == []


# What each worker runs first: its conversions into llama format exchange gate and up.
_EXCHANGES = f"""
import internlm_zoo.miniatures.steps as steps, sys
sys.path.insert(0, {os.getcwd()!r})
from tests.miniatures.test_steps import exchanging
steps.convert = exchanging(steps.convert)
"""


@pytest.mark.slow
def test_a_fault_of_one_step_is_named_with_it_and_told_to_ci(smoke, monkeypatch, tmp_path, temporary):
    monkeypatch.setattr(workers, "_RUN", _EXCHANGES + workers._RUN)
    report = tmp_path / "report.xml"
    code, result = smoke(BASE, "--miniature", "--junit", report)
    assert code == 1 and not result["ok"]
    checks = {check["name"]: check for check in result["checks"]}
    assert list(checks) == NAMES[: NAMES.index("llama") + 1]
    assert [name for name, check in checks.items() if not check["ok"]] == ["llama"]
    assert "mlp.gate.weight with the fingerprint" in result["sentence"]
    assert "llama: expected" in result["sentence"] and ", found " in result["sentence"]
    root = ElementTree.parse(report).getroot()
    failed = [case for case in root.iter("testcase") if case.find("failure") is not None]
    assert [(case.get("classname"), case.get("name")) for case in failed] == [(BASE, "llama")]
    assert failed[0].find("failure").get("message") == result["sentence"]
    assert (root.get("tests"), root.get("failures")) == (str(len(checks)), "1")
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_a_byte_that_is_flipped_on_the_way_fails_the_download_of_that_model_alone(
    monkeypatch, tmp_path, temporary
):
    flip_served(monkeypatch, BASE)
    settings = Settings(home=tmp_path / "home")
    wrong, right = zoo_api.smoke_miniatures([BASE, "demo-internlm2-chat"], jobs=2, settings=settings)
    assert right.ok, right.sentence
    assert not wrong.ok and [check.name for check in wrong.checks] == ["written", "download"]
    assert "model_tp0_pp0.pt" in wrong.sentence


def flip_served(monkeypatch, model: str) -> None:
    """The server sends weights of one model with a bit flipped in the middle."""
    from internlm_zoo.serve.files import FileBody

    send = FileBody._send

    async def flipping(self, request):
        if model not in str(self.entry.file) or not self.entry.file.name.startswith("model_tp"):
            return await send(self, request)
        content = bytearray(await asyncio.to_thread(self.entry.file.read_bytes))
        content[self.entry.size // 2] ^= 1
        await self.write(bytes(content[self.offset : self.offset + self.count]))

    monkeypatch.setattr(FileBody, "_send", flipping)


@pytest.mark.slow
def test_a_worker_that_is_killed_fails_the_step_it_was_at_and_another_goes_on(
    monkeypatch, tmp_path, temporary
):
    killing = f"""
import os, internlm_zoo.miniatures.worker as worker
try_steps = worker.try_steps
worker.try_steps = lambda one: os.kill(os.getpid(), 9) if one.model.name == {BASE!r} else try_steps(one)
"""
    monkeypatch.setattr(workers, "_RUN", killing + workers._RUN)
    settings = Settings(home=tmp_path / "home")
    lost, other = zoo_api.smoke_miniatures([BASE, "demo-internlm2-chat"], jobs=1, settings=settings)
    assert lost.sentence == "written: the process that did it ended before it was done (SIGKILL)"
    assert other.ok, other.sentence
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begins", "says"),
    [
        ("", "the second rank ended before it was there"),
        ("import os, sys; os.write(1, b'!'); rank._join(sys.argv[1], 1)", "another of the 2 ranks has ended"),
    ],
)
def test_a_second_rank_that_ends_fails_the_step_that_needs_it(begins, says, monkeypatch, smoke, temporary):
    rank = "import internlm_zoo.miniatures.second_rank as rank"
    monkeypatch.setattr(workers, "_RUN", f"{rank}; rank._RUN = {f'{rank}; {begins}'!r}; {workers._RUN}")
    code, result = smoke(BASE, "--miniature")
    assert code == 1 and result["checks"][-1]["name"] == "tp 2"
    assert says in result["sentence"]


def test_without_torch_it_says_what_to_install(monkeypatch, smoke, temporary):
    monkeypatch.setattr(workers, "_RUN", f"import sys; sys.modules['torch'] = None; {workers._RUN}")
    code, error = smoke("--all", "--miniature")
    assert code == 7 and "needs torch, which is not installed" in error["what"]
    assert "internlm-zoo[torch]" in error["fix"]
    assert list(temporary.iterdir()) == []


def test_on_a_terminal_a_bar_counts_the_models_and_elsewhere_there_is_a_line_for_each():
    code = (
        "from pathlib import Path\n"
        "from internlm_zoo.cli.models_progress import counting_models\n"
        "from internlm_zoo.cli.shell import Shell\n"
        "from internlm_zoo.settings import Settings\n"
        "with counting_models(Shell(Settings(Path()))) as progress:\n"
        "    progress.plan(2, None)\n"
        "    for name in ('one', 'two'):\n"
        "        progress.start(name, None)\n"
        "        progress.finish(name)\n"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True).stderr == "1 of 2: one\n2 of 2: two\n"
    ours, theirs = os.openpty()
    env = {**os.environ, "TERM": "xterm"}
    subprocess.run(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs, check=True)
    os.close(theirs)
    drawn = os.read(ours, 1 << 16).decode()
    assert "2/2" in drawn and "\x1b[" in drawn and "2 of 2" not in drawn


@pytest.mark.slow
def test_interrupted_it_ends_with_all_its_processes_and_leaves_nothing(tmp_path, temporary):
    env = {**os.environ, "PYTHONPATH": os.getcwd(), "INTERNLM_ZOO_HOME": str(tmp_path / "home")}
    process = subprocess.Popen(
        [sys.executable, "-m", "internlm_zoo", "smoke", "--all", "--miniature", "--jobs", "1"],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=interruptible,
    )
    assert process.stderr is not None
    assert "1 of " in process.stderr.readline()
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) >= 2
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    wait_for(lambda: not any(child.is_running() and child.status() != "zombie" for child in below))
    assert list(temporary.iterdir()) == [] and not (tmp_path / "home").exists()
    assert "Traceback" not in process.stderr.read()


class Alone(SecondRank):
    """One process does what two would."""

    def logits(self, asked):
        directory = steps.open_directory(
            steps.LoadRequest(asked.path, known_as=asked.known_as), settings=Settings(asked.home)
        )
        plan = steps.plan_directory(directory, devices=["cpu"], dtype="float32")
        return all_logits(steps.execute(plan, tokenizer=False), asked.ids)


def gone(tmp_path: Path):
    """The result of the base demo model's miniature, in this process."""
    (tmp_path / "own").mkdir()
    with serving(tmp_path, Settings(home=tmp_path / "home")) as overlay:
        settings = Settings(home=tmp_path / "home", registry=overlay)
        registry = load_registry(settings)
        model = registry.model(BASE)
        miniature = Miniature(
            model, registry, settings, tmp_path / "hubs", tmp_path / "own", Alone(tmp_path), ["cpu"]
        )
        return conclude(BASE, try_steps(miniature))


def exchanging(convert):
    """Of a converted llama directory, gate and up."""

    def exchange(tensors):
        for name in [name for name in tensors if "gate_proj" in name]:
            other = name.replace("gate", "up")
            tensors[name], tensors[other] = tensors[other], tensors[name]

    def converting(source, target, options, *rest, **how):
        convert(source, target, options, *rest, **how)
        if options.to == "llama":
            made = rewritten(target, target.with_name("made"), exchange)
            (made / "model.safetensors").replace(target / "model.safetensors")

    return converting


def cutting(download):
    """The last download's weights are another's of the same size."""

    def downloading(request, **how):
        done = download(request, **how)
        file = sorted(done.path.glob("*.pt"))[-1]
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.unlink()
        file.write_bytes(content)
        return done

    return downloading


def lying(convert):
    """A llama directory says another eps."""

    def converting(source, target, options, *rest, **how):
        convert(source, target, options, *rest, **how)
        if options.to == "llama":
            edit_json(target / "config.json", rms_norm_eps=0.1)

    return converting


def shifted(logits):
    return lambda *asked: logits(*asked) + np.float32(1e-3)


def second_best(greedy):
    return lambda *asked: [(token + 1) % 1000 for token in greedy(*asked)]


FAULTS = {
    "verify": ("download", cutting, "verify: expected every file as listed, found others: model_tp0_pp0.pt"),
    "llama": ("convert", exchanging, "llama: expected layers.0.mlp.gate.weight with the fingerprint "),
    "facts": ("convert", lying, "facts: not demo-internlm-base: rms_norm_eps: expected 1e-05, found 0.1"),
    "one device": ("all_logits", shifted, "one device: expected the reference's logits within 1e-05, found "),
    "generate": ("greedy", second_best, "generate: expected the tokens ["),
}
LATE = ("one device", "generate")


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=[pytest.mark.slow] * (step in LATE)) for step in FAULTS]
)
def test_what_is_wrong_in_a_step_fails_it_with_what_was_expected_and_found(step, monkeypatch, tmp_path):
    name, fault, says = FAULTS[step]
    monkeypatch.setattr(steps, name, fault(getattr(steps, name)))
    result = gone(tmp_path)
    assert [check.name for check in result.checks if not check.ok] == [step]
    assert result.checks[-1].name == step
    assert result.sentence.startswith(says)
    assert ", found " in result.sentence


def test_an_ordinary_smoke_test_is_told_to_ci_too(smoke, directories, tmp_path):
    report = tmp_path / "report.xml"
    code, result = smoke(directories[BASE, "llama"], "--as", REWARD, "--junit", report)
    assert code == 1
    (suite,) = ElementTree.parse(report).getroot()
    cases = {case.get("name"): case.find("failure") for case in suite}
    assert suite.get("name") == REWARD and cases.keys() == {check["name"] for check in result["checks"]}
    assert cases["facts"].get("message") == result["sentence"]


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("--all", "--jobs", "2"), 2, "only miniatures"),
        ((BASE, "--miniature", "--jobs", "2"), 2, "only miniatures"),
        (("--all", "--miniature", "--jobs", "0"), 2, "--jobs"),
        (("--all", "--miniature", "--parallel", "tensor"), 2, "ranks of their own"),
        ((BASE, "--miniature", "--junit", "absent/report.xml"), 2, "no such folder"),
        (("nosuch", "--miniature"), 4, "nosuch"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_tried(smoke, args, code, says):
    found, error = smoke(*args)
    assert found == code and says in json.dumps(error)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk here is always full")
def test_a_full_disk_is_what_a_report_says_and_no_fault():
    with pytest.raises(NoSpaceError, match="/dev/full"):
        write_junit([conclude(BASE, [Check("a", True, "x" * 9000)])], Path("/dev/full"), strict=False)

"""What the demo does with each model, one function per step, through the functions that the CLI calls.

A step returns what it proved; one that fails raises: then its result is not ok, and the next one runs.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from internlm_zoo import compare, convert, download, smoke_test
from internlm_zoo.demo.environment import BUNDLED, ENDPOINTS, Environment
from internlm_zoo.demo.report import StepResult
from internlm_zoo.downloads.on_demand import find_model
from internlm_zoo.errors import IntegrityError, ZooError
from internlm_zoo.integrity.folder import verify_folder
from internlm_zoo.loading.answer import generate
from internlm_zoo.loading.directory import LoadRequest
from internlm_zoo.loading.load import load_model
from internlm_zoo.mirror import apply
from internlm_zoo.registry import load_registry
from internlm_zoo.registry.lock import Lock
from internlm_zoo.store.locate import downloads_of, expected_files

_DEVICES = ("cpu", "cpu")
_TP, _PP = 2, 2
_MIRROR_FILE = "mirror.yaml"
# One English and one Chinese text each: beginnings for the base model, questions for the chat model.
_PROMPTS: Mapping[str, tuple[str, str]] = {
    "demo-internlm-base": ("A rolling stone", "千里之行"),
    "demo-internlm2-chat": ("What colour is snow?", "守株待兔是什么意思？"),
}
_SENTENCE = re.compile(r".+?(?:[.!?。！？]|$)", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """proved: in words. nbytes: moved or checked. said: sentences a model wrote, with the prompt."""

    proved: str
    nbytes: int = 0
    said: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Step:
    """commands: what one would type for it; {model} stands for the model's name."""

    name: str
    run: Callable[[Environment, str], Outcome]
    commands: tuple[str, ...]


def _require(holds: bool, what: str, where: str) -> None:
    if not holds:
        raise IntegrityError(what, where)


def _list(environment: Environment, model: str) -> Outcome:
    registry = load_registry(environment.settings("user"))
    releases = [release for release in registry.model(model).releases if release.hub in ENDPOINTS]
    hubs = sorted({release.hub for release in releases})
    _require(set(hubs) == set(ENDPOINTS), f"it is on {', '.join(hubs)} only", model)
    return Outcome(f"{len(releases)} releases on {len(hubs)} hubs: {', '.join(hubs)}")


def _download(environment: Environment, model: str) -> Outcome:
    got = [
        download(model, settings=environment.settings(hub), source=hub, format=format)
        for hub in ENDPOINTS
        for format in (("hf", "original") if hub == "openxlab" else ("hf",))
    ]
    alike = [done.files for done in got if done.format == "hf"]
    digests = {tuple(sorted((file.path, file.sha256) for file in files)) for files in alike}
    _require(len(digests) == 1, "the hubs delivered different files", model)
    again = download(model, settings=environment.settings("huggingface"), source="huggingface", format="hf")
    _require(again.fetched_bytes == 0, "a second download fetched something", model)
    count = sum(len(done.files) for done in got)
    proved = f"{count} files from {len(ENDPOINTS)} hubs, every sha256 as listed; a second run fetches nothing"
    return Outcome(proved, sum(done.fetched_bytes for done in got))


def _corruption(environment: Environment, model: str) -> Outcome:
    settings = environment.settings("unlucky", huggingface=environment.faulty)
    done = download(model, settings=settings, format="hf")
    sources = {file.path: file.source for file in done.files}
    weights = sources["model.safetensors"]
    _require(weights != "huggingface", "weights with a wrong byte were accepted", model)
    proved = f"model.safetensors with one wrong byte refused from huggingface, fetched from {weights}"
    return Outcome(proved, sum(done.served.values()))


def _verify(environment: Environment, model: str) -> Outcome:
    reports = []
    for home in (*ENDPOINTS, "unlucky"):
        settings = environment.settings(home)
        for folder in downloads_of(model, settings):
            reports.append(verify_folder(folder, expected_files(folder, Lock.load(settings)), None))
    for report in reports:
        what = f"{len(report.wrong)} wrong, {len(report.missing)} missing files"
        _require(report.ok, what, str(report.path))
    count = sum(report.checked for report in reports)
    proved = f"{count} files hashed again, none wrong, missing or extra"
    return Outcome(proved, sum(report.size for report in reports))


def _convert(environment: Environment, model: str) -> Outcome:
    settings, work = environment.settings("openxlab"), environment.work(model)
    original = find_model(model, settings=settings, format="original").path
    there = convert(original, work / "hf", to="hf", settings=settings)
    back = convert(work / "hf", work / "original", to="original", tp=_TP, pp=_PP, settings=settings)
    again = convert(work / "original", work / "hf-again", to="hf", known_as=model, settings=settings)
    _require(there.fingerprints == again.fingerprints == back.fingerprints, "fingerprints differ", model)
    verdict = compare(work / "hf", work / "hf-again").verdict
    _require(verdict == "identical", f"after the round trip they are {verdict}", model)
    same = (work / "hf/model.safetensors").read_bytes() == (work / "hf-again/model.safetensors").read_bytes()
    _require(same, "after the round trip the files differ", model)
    return Outcome(
        f"original -> hf -> original (tp {_TP}, pp {_PP}) -> hf: "
        f"{len(there.fingerprints)} tensors, byte for byte the same",
        there.nbytes + back.nbytes + again.nbytes,
    )


def _load(environment: Environment, model: str) -> Outcome:
    request = LoadRequest(environment.work(model) / "hf", _DEVICES, known_as=model)
    plan = load_model(request, settings=environment.settings("user")).plan
    parts = ", ".join(
        f"layers {part.first} to {part.stop - 1} on device {n}" for n, part in enumerate(plan.placement.parts)
    )
    return Outcome(f"{plan.parameters:,} parameters: {parts}", plan.placement.nbytes)


def _smoke(environment: Environment, model: str) -> Outcome:
    settings, work = environment.settings("user"), environment.work(model)
    shipped = shutil.copytree(BUNDLED / model, work / "shipped")  # a smoke test keeps its result there
    for directory in (shipped, work / "hf"):
        result = smoke_test(directory, settings=settings, devices=_DEVICES, known_as=model)
        _require(result.ok, result.sentence, str(directory))
    return Outcome(result.sentence)


def _generate(environment: Environment, model: str) -> Outcome:
    request = LoadRequest(environment.work(model) / "hf", known_as=model)
    loaded = load_model(request, settings=environment.settings("user"))
    prompts = _PROMPTS[model]
    said = tuple((prompt, _sentence(generate(loaded, prompt, max_new_tokens=40))) for prompt in prompts)
    _require(all(answer for _, answer in said), "it has nothing to say", model)
    return Outcome(" / ".join(f"{prompt} … {text}" for prompt, text in said), said=said)


def _sentence(text: str) -> str:
    """As far as the first sentence or line goes."""
    found = _SENTENCE.match(text.strip())
    return found[0] if found else ""


def _mirror(environment: Environment, model: str) -> Outcome:
    file = environment.work(model) / _MIRROR_FILE
    file.write_text(json.dumps({"destination": "mirror", "models": [model], "formats": ["hf", "original"]}))
    settings = environment.settings("mirror")
    first, second = apply(file, settings=settings), apply(file, settings=settings)
    _require(first.result == "changed", f"the first apply says: {first.result}", model)
    unchanged = second.result == "no change" and second.fetched_bytes == 0
    _require(unchanged, f"the second apply says: {second.result}", model)
    proved = f"{len(first.releases)} releases copied and checked; the second apply moves 0 bytes"
    return Outcome(proved, first.fetched_bytes)


STEPS = (
    Step("list", _list, ("internlm-zoo show {model}",)),
    Step(
        "download",
        _download,
        (
            *(f"internlm-zoo download {{model}} --format hf --source {hub}" for hub in ENDPOINTS),
            "internlm-zoo download {model} --format original --source openxlab",
        ),
    ),
    Step("corrupted hub", _corruption, ("internlm-zoo download {model} --format hf",)),
    Step("verify", _verify, ("internlm-zoo verify {model}",)),
    Step(
        "convert",
        _convert,
        (
            "internlm-zoo convert {model} hf/ --to hf",
            "internlm-zoo convert hf/ original/ --to original --tp 2 --pp 2",
            "internlm-zoo convert original/ hf-again/ --to hf",
            "internlm-zoo compare hf/ hf-again/",
        ),
    ),
    Step("load", _load, ("internlm-zoo load hf/ --devices cpu,cpu",)),
    Step("smoke test", _smoke, ("internlm-zoo smoke hf/ --as {model}",)),
    Step("generate", _generate, ("internlm-zoo generate hf/ --as {model} -p TEXT",)),
    Step(
        "mirror", _mirror, ("internlm-zoo mirror apply mirror.yaml", "internlm-zoo mirror apply mirror.yaml")
    ),
)


def run_steps(environment: Environment, model: str) -> Iterator[StepResult]:
    """The steps of one model, each as it is done. A step that fails is a result that is not ok."""
    for step in STEPS:
        start = time.perf_counter()
        try:
            outcome, ok = step.run(environment, model), True
        except ZooError as error:
            outcome, ok = Outcome(str(error)), False
        yield StepResult(
            step=step.name,
            model=model,
            ok=ok,
            proved=outcome.proved,
            bytes=outcome.nbytes,
            seconds=time.perf_counter() - start,
            said=outcome.said,
            commands=tuple(command.format(model=model) for command in step.commands),
        )

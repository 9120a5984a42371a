"""A miniature's whole path, step by step: written as released, served, downloaded, verified, converted,
loaded in every way, made to generate, and converted back.

Each step says what it found. One that fails says what was expected and what was found, and is the last one.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters import ConversionOptions, Execution, fingerprint
from converters.saved import CONVERSION
from internlm_zoo.checkpoints.conversion import ConversionSource, convert
from internlm_zoo.downloads.request import DownloadRequest
from internlm_zoo.downloads.run import download
from internlm_zoo.errors import DiskError, IntegrityError, NoSpaceError, ZooError
from internlm_zoo.integrity.verify import verify_all
from internlm_zoo.loading.directory import LoadRequest, open_directory
from internlm_zoo.loading.generate import all_logits, encode, encode_turns, greedy
from internlm_zoo.loading.load import execute, plan_directory
from internlm_zoo.registry import Model, Registry
from internlm_zoo.registry.schema import CONVERSATION, takes_turns
from internlm_zoo.smoke.facts import facts_check
from internlm_zoo.smoke.independent import TOLERANCE, difference, logits_of
from internlm_zoo.smoke.journey import Journey
from internlm_zoo.smoke.miniature import expected_of_miniature, has_original, special_ids
from internlm_zoo.smoke.result import Check
from internlm_zoo.smoke.second_rank import SharedForward
from internlm_zoo.smoke.statistics import RANDOM, statistical_checks
from internlm_zoo.smoke.values import values_check

if TYPE_CHECKING:
    import torch


TOKENS = 8
_PROMPT = "1+1 是多少？"


@dataclass(frozen=True)
class JourneyStep:
    """run: says what was found; raises ZooError for what is wrong. original: whether it is only for models
    that are written in the original format; writes: for those that write text, as transformers divides no
    reward model into stages."""

    name: str
    run: Callable[[Journey], str]
    original: bool = False
    writes: bool = False

    def suits(self, model: Model, registry: Registry) -> bool:
        misses = self.original and not has_original(model, registry)
        return not misses and not (self.writes and model.kind == "reward")


def travel(journey: Journey) -> Iterator[Check]:
    """The steps' verdicts, each as it comes; a step that fails is the last one."""
    for step in steps_of(journey.model, journey.registry):
        check = _tried(step, journey)
        yield check
        if not check.ok:
            return


def steps_of(model: Model, registry: Registry) -> tuple[JourneyStep, ...]:
    """What its miniature goes through."""
    return tuple(step for step in STEPS if step.suits(model, registry))


def _tried(step: JourneyStep, journey: Journey) -> Check:
    try:
        return Check(step.name, True, step.run(journey))
    except (OSError, DiskError, NoSpaceError):  # of the machine, not of the model
        raise
    except ZooError as error:
        return Check(step.name, False, f"{step.name}: {error}")
    except Exception as error:  # noqa: BLE001  # one model's fault is told among the other models' results
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}, line {last.lineno}"
        fault = f"a fault of internlm-zoo, {type(error).__name__}: {error} ({where})"
        return Check(step.name, False, f"{step.name}: {fault}")


def _write(journey: Journey) -> str:
    """Drawn in one piece, which is divided by conversions."""
    first, *others = journey.hubs
    said, begun = journey.blueprint.dtype, journey.served_by(first)
    for hub in others:
        target = journey.served_by(hub)
        _convert(journey, begun, target, to="original", tp=hub.tp, pp=hub.pp)
        (target / CONVERSION.file).unlink()  # which no release has
        _same_weights(journey, target, f"in grid {hub.grid}")
        begun = target
    grids = f"original, grids {', '.join(hub.grid for hub in journey.hubs)}" if journey.original else "hf"
    return f"{len(journey.digests)} tensors, {said}, {grids}"


def _download(journey: Journey) -> str:
    count = 0
    for hub in journey.hubs:
        request = DownloadRequest(
            journey.model.name,
            format="original" if journey.original else "hf",
            source=hub.name,
            local_dir=journey.downloaded(hub),
        )
        count += len(download(request, settings=journey.settings).files)
    return f"{count} files, by the protocols of {', '.join(hub.protocol for hub in journey.hubs)}"


def _verify(journey: Journey) -> str:
    checked = 0
    for hub in journey.hubs:
        for report in verify_all(str(journey.downloaded(hub)), None, settings=journey.settings):
            bad = [*report.missing, *(file.path for file in report.wrong)]
            _require(report.ok, "every file as listed", f"others: {', '.join(bad)}", report.path)
            checked += report.checked
        _same_weights(journey, journey.downloaded(hub), "as it arrived")
    return f"{checked} files as listed, the weights as drawn"


def _to_hf(journey: Journey) -> str:
    _convert(journey, journey.source, journey.hf, to="hf")
    return _same_weights(journey, journey.hf, "in hf format")


def _to_llama(journey: Journey) -> str:
    _convert(journey, journey.hf, journey.llama, to="llama")
    return _same_weights(journey, journey.llama, "in llama format")


def _facts(journey: Journey) -> str:
    wanted = expected_of_miniature(journey.model, journey.registry, journey.blueprint)
    released = open_directory(LoadRequest(journey.hf, known_as=journey.model.name), settings=journey.settings)
    said = [_held(facts_check(directory, wanted)) for directory in (released, journey.directory)]
    return said[-1]


def _values(journey: Journey) -> str:
    return _held(values_check(journey.directory, trained=False))


def _on_one(journey: Journey) -> str:
    return _same_logits(journey, all_logits(journey.loaded, journey.ids), "llama format")


def _on_two(journey: Journey) -> str:
    directory = open_directory(
        LoadRequest(journey.hf, known_as=journey.model.name), settings=journey.settings
    )
    plan = plan_directory(directory, devices=journey.two, dtype="float32")
    parts = len(plan.placement.parts)
    _require(parts == len(journey.two), f"parts on {len(journey.two)} devices", f"{parts}", journey.hf)
    return _same_logits(journey, all_logits(execute(plan, tokenizer=False), journey.ids), "hf format")


def _over_tensors(journey: Journey) -> str:
    return _over_ranks(journey, journey.source, pp=1)


def _over_stages(journey: Journey) -> str:
    return _over_ranks(journey, journey.downloaded(journey.hubs[0]), pp=2)


def _over_ranks(journey: Journey, path: Path, pp: int) -> str:
    settings = journey.settings
    asked = SharedForward(path, journey.model.name, settings.home, settings.registry, pp, journey.ids)
    return _same_logits(journey, journey.second.logits(asked), path.name)


def _template(journey: Journey) -> str:
    """What the chat template makes of some turns, and that every special token is one token."""
    ids = special_ids(journey.model, journey.registry, journey.blueprint.sizes["vocab"])
    for text, id in ids.items():
        found = encode(journey.loaded, text)
        _require(
            found[-1] == id and len(found) <= 2, f"the token {id}", f"{found}", f"{text} of the tokenizer"
        )
    rendered, tokenizer = journey.registry.rendered_of(journey.model), journey.loaded.tokenizer
    if rendered is None or tokenizer is None or not takes_turns(journey.model.kind):
        return f"{len(ids)} special tokens; it takes no turns"
    said = tokenizer.render(CONVERSATION, answer=True)
    _require(said == rendered, repr(rendered), repr(said), "chat template")
    return f"{len(ids)} special tokens; turns as the registry has them"


def _generate(journey: Journey) -> str:
    """Every token is the one that the reference finds most likely, as far as float32 can tell."""
    loaded = journey.loaded
    said = [_held(check) for check in statistical_checks(loaded, RANDOM, TOKENS)]
    if loaded.plan.directory.scores:
        return "; ".join(said)
    turn = [{"role": "user", "content": _PROMPT}]
    prompt = encode_turns(loaded, turn) if loaded.plan.directory.takes_turns else encode(loaded, _PROMPT)
    written = list(greedy(loaded, prompt, TOKENS))
    logits = logits_of(journey.reference, [*prompt, *written])[len(prompt) - 1 : -1]
    lead = logits.max(-1).values - logits.gather(1, logits.new_tensor(written).long()[:, None])[:, 0]
    far = float(lead.max() / logits.abs().max())
    best = logits.argmax(-1).tolist()
    _require(far <= TOLERANCE, f"the tokens {best}", f"{written}", "what it writes")
    return "; ".join([*said, f"{len(written)} tokens as by the reference"])


def _back(journey: Journey) -> str:
    """Every file as it was served; what conversion adds is its own record."""
    hub, back, start = journey.hubs[-1], journey.folder / "back", journey.served_by(journey.hubs[-1])
    if journey.original:
        how = {"to": "original", "tp": hub.tp, "pp": hub.pp, "given": journey.blueprint.choices}
    else:
        how = {"to": "hf"}
    _convert(journey, journey.llama, back, **how)
    _same_weights(journey, back, f"back in {how['to']} format")
    names = sorted(file.name for file in start.iterdir())
    for name in names:
        found = "another" if (back / name).exists() else "none"
        same = found == "another" and (back / name).read_bytes() == (start / name).read_bytes()
        _require(same, f"{name} as it was served", found, f"back in {how['to']} format")
    return f"fingerprint equal, {len(names)} files byte for byte the same"


STEPS = (
    JourneyStep("written", _write),
    JourneyStep("download", _download),
    JourneyStep("verify", _verify),
    JourneyStep("hf", _to_hf, original=True),
    JourneyStep("llama", _to_llama),
    JourneyStep("facts", _facts),
    JourneyStep("values", _values),
    JourneyStep("one device", _on_one),
    JourneyStep("two devices", _on_two),
    JourneyStep("tp 2", _over_tensors),
    JourneyStep("pp 2", _over_stages, writes=True),
    JourneyStep("template", _template),
    JourneyStep("generate", _generate),
    JourneyStep("back", _back),
)


def _convert(journey: Journey, start: Path, target: Path, **how: Any) -> None:
    source = ConversionSource(str(start), journey.model.name)
    execution = Execution(evidence=False, workers=1)
    convert(source, target, ConversionOptions(**how), execution, settings=journey.settings)


def _same_weights(journey: Journey, folder: Path, what: str) -> str:
    expected, found = journey.digests, fingerprint(folder)
    for name in sorted(expected.keys() | found.keys()):
        one, other = (digests.get(name, "no such tensor")[:14] for digests in (expected, found))
        _require(one == other, f"{name} with the fingerprint {one}", other, f"the weights {what}")
    return f"fingerprint equal {what}"


def _same_logits(journey: Journey, found: torch.Tensor, where: str) -> str:
    expected = logits_of(journey.reference, journey.ids)
    if journey.model.kind == "reward":
        expected = expected[-1:]
    _require(found.shape == expected.shape, f"{[*expected.shape]} logits", f"{[*found.shape]}", where)
    off = difference(expected, found)
    _require(off <= TOLERANCE, f"the reference's logits within {TOLERANCE:g}", f"{off:.2g} off", where)
    return f"logits of {where} are the reference's within {off:.1e}"


def _held(check: Check) -> str:
    if not check.ok:
        raise IntegrityError(check.sentence)
    return check.sentence


def _require(holds: bool, expected: str, found: str, where: str | Path) -> None:
    if not holds:
        raise IntegrityError(f"expected {expected}, found {found}", str(where))

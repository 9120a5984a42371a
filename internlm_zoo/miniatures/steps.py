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
from internlm_zoo.miniatures.draw import expected_of_miniature, has_original, special_ids
from internlm_zoo.miniatures.independent import TOLERANCE, difference, logits_of
from internlm_zoo.miniatures.miniature import Miniature
from internlm_zoo.miniatures.second_rank import SharedForward
from internlm_zoo.registry import Model, Registry
from internlm_zoo.registry.schema import CONVERSATION, takes_turns
from internlm_zoo.smoke.facts import facts_check
from internlm_zoo.smoke.result import Check
from internlm_zoo.smoke.statistics import RANDOM, statistical_checks
from internlm_zoo.smoke.values import values_check

if TYPE_CHECKING:
    import torch


TOKENS = 8
_PROMPT = "1+1 是多少？"


@dataclass(frozen=True)
class MiniatureStep:
    """run: says what was found; raises ZooError for what is wrong. original: whether it is only for models
    that are written in the original format; writes: for those that write text, as transformers divides no
    reward model into stages."""

    name: str
    run: Callable[[Miniature], str]
    original: bool = False
    writes: bool = False

    def suits(self, model: Model, registry: Registry) -> bool:
        misses = self.original and not has_original(model, registry)
        return not misses and not (self.writes and model.kind == "reward")


def try_steps(miniature: Miniature) -> Iterator[Check]:
    """The steps' verdicts, each as it comes; a step that fails is the last one."""
    for step in steps_of(miniature.model, miniature.registry):
        check = _tried(step, miniature)
        yield check
        if not check.ok:
            return


def steps_of(model: Model, registry: Registry) -> tuple[MiniatureStep, ...]:
    """What its miniature goes through."""
    return tuple(step for step in STEPS if step.suits(model, registry))


def _tried(step: MiniatureStep, miniature: Miniature) -> Check:
    try:
        return Check(step.name, True, step.run(miniature))
    except (OSError, DiskError, NoSpaceError):  # of the machine, not of the model
        raise
    except ZooError as error:
        return Check(step.name, False, f"{step.name}: {error}")
    except Exception as error:  # noqa: BLE001  # one model's fault is told among the other models' results
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}, line {last.lineno}"
        fault = f"a fault of internlm-zoo, {type(error).__name__}: {error} ({where})"
        return Check(step.name, False, f"{step.name}: {fault}")


def _write(miniature: Miniature) -> str:
    """Drawn in one piece, which is divided by conversions."""
    first, *others = miniature.hubs
    said, begun = miniature.blueprint.dtype, miniature.served_by(first)
    for hub in others:
        target = miniature.served_by(hub)
        _convert(miniature, begun, target, to="original", tp=hub.tp, pp=hub.pp)
        (target / CONVERSION.file).unlink()  # which no release has
        _same_weights(miniature, target, f"in grid {hub.grid}")
        begun = target
    grids = f"original, grids {', '.join(hub.grid for hub in miniature.hubs)}" if miniature.original else "hf"
    return f"{len(miniature.digests)} tensors, {said}, {grids}"


def _download(miniature: Miniature) -> str:
    count = 0
    for hub in miniature.hubs:
        request = DownloadRequest(
            miniature.model.name,
            format="original" if miniature.original else "hf",
            source=hub.name,
            local_dir=miniature.downloaded(hub),
        )
        count += len(download(request, settings=miniature.settings).files)
    return f"{count} files, by the protocols of {', '.join(hub.protocol for hub in miniature.hubs)}"


def _verify(miniature: Miniature) -> str:
    checked = 0
    for hub in miniature.hubs:
        for report in verify_all(str(miniature.downloaded(hub)), None, settings=miniature.settings):
            bad = [*report.missing, *(file.path for file in report.wrong)]
            _require(report.ok, "every file as listed", f"others: {', '.join(bad)}", report.path)
            checked += report.checked
        _same_weights(miniature, miniature.downloaded(hub), "as it arrived")
    return f"{checked} files as listed, the weights as drawn"


def _to_hf(miniature: Miniature) -> str:
    _convert(miniature, miniature.source, miniature.hf, to="hf")
    return _same_weights(miniature, miniature.hf, "in hf format")


def _to_llama(miniature: Miniature) -> str:
    _convert(miniature, miniature.hf, miniature.llama, to="llama")
    return _same_weights(miniature, miniature.llama, "in llama format")


def _facts(miniature: Miniature) -> str:
    wanted = expected_of_miniature(miniature.model, miniature.registry, miniature.blueprint)
    released = open_directory(
        LoadRequest(miniature.hf, known_as=miniature.model.name), settings=miniature.settings
    )
    said = [_held(facts_check(directory, wanted)) for directory in (released, miniature.directory)]
    return said[-1]


def _values(miniature: Miniature) -> str:
    return _held(values_check(miniature.directory, trained=False))


def _on_one(miniature: Miniature) -> str:
    return _same_logits(miniature, all_logits(miniature.loaded, miniature.ids), "llama format")


def _on_two(miniature: Miniature) -> str:
    directory = open_directory(
        LoadRequest(miniature.hf, known_as=miniature.model.name), settings=miniature.settings
    )
    plan = plan_directory(directory, devices=miniature.two, dtype="float32")
    parts = len(plan.placement.parts)
    _require(parts == len(miniature.two), f"parts on {len(miniature.two)} devices", f"{parts}", miniature.hf)
    return _same_logits(miniature, all_logits(execute(plan, tokenizer=False), miniature.ids), "hf format")


def _over_tensors(miniature: Miniature) -> str:
    return _over_ranks(miniature, miniature.source, pp=1)


def _over_stages(miniature: Miniature) -> str:
    return _over_ranks(miniature, miniature.downloaded(miniature.hubs[0]), pp=2)


def _over_ranks(miniature: Miniature, path: Path, pp: int) -> str:
    settings = miniature.settings
    asked = SharedForward(path, miniature.model.name, settings.home, settings.registry, pp, miniature.ids)
    return _same_logits(miniature, miniature.second.logits(asked), path.name)


def _template(miniature: Miniature) -> str:
    """What the chat template makes of some turns, and that every special token is one token."""
    ids = special_ids(miniature.model, miniature.registry, miniature.blueprint.sizes["vocab"])
    for text, id in ids.items():
        found = encode(miniature.loaded, text)
        _require(
            found[-1] == id and len(found) <= 2, f"the token {id}", f"{found}", f"{text} of the tokenizer"
        )
    rendered, tokenizer = miniature.registry.rendered_of(miniature.model), miniature.loaded.tokenizer
    if rendered is None or tokenizer is None or not takes_turns(miniature.model.kind):
        return f"{len(ids)} special tokens; it takes no turns"
    said = tokenizer.render(CONVERSATION, answer=True)
    _require(said == rendered, repr(rendered), repr(said), "chat template")
    return f"{len(ids)} special tokens; turns as the registry has them"


def _generate(miniature: Miniature) -> str:
    """Every token is the one that the reference finds most likely, as far as float32 can tell."""
    loaded = miniature.loaded
    said = [_held(check) for check in statistical_checks(loaded, RANDOM, TOKENS)]
    if loaded.plan.directory.scores:
        return "; ".join(said)
    turn = [{"role": "user", "content": _PROMPT}]
    prompt = encode_turns(loaded, turn) if loaded.plan.directory.takes_turns else encode(loaded, _PROMPT)
    written = list(greedy(loaded, prompt, TOKENS))
    logits = logits_of(miniature.reference, [*prompt, *written])[len(prompt) - 1 : -1]
    lead = logits.max(-1).values - logits.gather(1, logits.new_tensor(written).long()[:, None])[:, 0]
    far = float(lead.max() / logits.abs().max())
    best = logits.argmax(-1).tolist()
    _require(far <= TOLERANCE, f"the tokens {best}", f"{written}", "what it writes")
    return "; ".join([*said, f"{len(written)} tokens as by the reference"])


def _back(miniature: Miniature) -> str:
    """Every file as it was served; what conversion adds is its own record."""
    hub, back, start = miniature.hubs[-1], miniature.folder / "back", miniature.served_by(miniature.hubs[-1])
    if miniature.original:
        how = {"to": "original", "tp": hub.tp, "pp": hub.pp, "given": miniature.blueprint.choices}
    else:
        how = {"to": "hf"}
    _convert(miniature, miniature.llama, back, **how)
    _same_weights(miniature, back, f"back in {how['to']} format")
    names = sorted(file.name for file in start.iterdir())
    for name in names:
        found = "another" if (back / name).exists() else "none"
        same = found == "another" and (back / name).read_bytes() == (start / name).read_bytes()
        _require(same, f"{name} as it was served", found, f"back in {how['to']} format")
    return f"fingerprint equal, {len(names)} files byte for byte the same"


STEPS = (
    MiniatureStep("written", _write),
    MiniatureStep("download", _download),
    MiniatureStep("verify", _verify),
    MiniatureStep("hf", _to_hf, original=True),
    MiniatureStep("llama", _to_llama),
    MiniatureStep("facts", _facts),
    MiniatureStep("values", _values),
    MiniatureStep("one device", _on_one),
    MiniatureStep("two devices", _on_two),
    MiniatureStep("tp 2", _over_tensors),
    MiniatureStep("pp 2", _over_stages, writes=True),
    MiniatureStep("template", _template),
    MiniatureStep("generate", _generate),
    MiniatureStep("back", _back),
)


def _convert(miniature: Miniature, start: Path, target: Path, **how: Any) -> None:
    source = ConversionSource(str(start), miniature.model.name)
    execution = Execution(evidence=False, workers=1)
    convert(source, target, ConversionOptions(**how), execution, settings=miniature.settings)


def _same_weights(miniature: Miniature, folder: Path, what: str) -> str:
    expected, found = miniature.digests, fingerprint(folder)
    for name in sorted(expected.keys() | found.keys()):
        one, other = (digests.get(name, "no such tensor")[:14] for digests in (expected, found))
        _require(one == other, f"{name} with the fingerprint {one}", other, f"the weights {what}")
    return f"fingerprint equal {what}"


def _same_logits(miniature: Miniature, found: torch.Tensor, where: str) -> str:
    expected = logits_of(miniature.reference, miniature.ids)
    if miniature.model.kind == "reward":
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

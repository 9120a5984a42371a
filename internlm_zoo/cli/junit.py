"""Results of smoke tests as JUnit XML, which CI systems show: a suite for each model, a case for each
check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from converters.system.filesystem import writing
from internlm_zoo.errors import UsageError
from internlm_zoo.plain import plain

if TYPE_CHECKING:
    from internlm_zoo.smoke.result import Check, SmokeResult


def check_writable(file: Path) -> None:
    """Before anything is tried. Raises UsageError for a file that cannot be."""
    if file.is_dir() or not file.absolute().parent.is_dir():
        what = "this is a folder" if file.is_dir() else "there is no such folder to write it into"
        raise UsageError(what, f"--junit {file}", "name a file in a folder that is there")


def write_junit(results: Sequence[SmokeResult], file: Path, *, strict: bool) -> None:
    """Replace the file. strict: what could not be judged has failed, else it was skipped. Raises what
    `writing` raises for a place that takes nothing."""
    root = Element("testsuites", name="internlm-zoo smoke")
    for result in results:
        suite = SubElement(root, "testsuite", name=plain(result.model))
        for check in result.checks:
            _case(suite, result.model, check, strict=strict)
        _count(suite)
    _count(root)
    indent(root)
    with writing(file):
        ElementTree(root).write(file, "utf-8", xml_declaration=True)


def _case(suite: Element, model: str, check: Check, *, strict: bool) -> None:
    case = SubElement(
        suite, "testcase", classname=plain(model), name=plain(check.name), time=f"{check.seconds:.3f}"
    )
    said = plain(as_told(check))
    if not check.ok or (strict and not check.judged):
        SubElement(case, "failure", message=said).text = said
    elif not check.judged:
        SubElement(case, "skipped", message=said)
    else:
        SubElement(case, "system-out").text = said


def as_told(check: Check) -> str:
    """What was found, and the mistake that explains it."""
    return check.sentence if check.cause is None else f"{check.sentence}; {check.cause}"


def _count(whole: Element) -> None:
    cases = list(whole.iter("testcase"))
    whole.set("tests", str(len(cases)))
    whole.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    whole.set("errors", "0")
    whole.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    whole.set("time", f"{sum(float(case.get('time', 0)) for case in cases):.3f}")

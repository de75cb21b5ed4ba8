"""Verdict -> JUnit XML, as GitHub, GitLab and Jenkins read it: a test case for the verdict, an output, a site each.

different -> failure; inconclusive -> error, since it is no result; a provider left out by default -> skipped. Source of
the format: github.com/testmoapp/junitxml, and the reports that pytest writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from onnxact.report import evidence

if TYPE_CHECKING:
    from onnxact.check import OutputEvidence, Verdict

SUITES = "onnxact"
"""The name of the outermost element; a file that begins with it is overwritten."""
_ENDINGS = {"different": "failure", "inconclusive": "error"}
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped (w3.org/TR/xml, 2.2)."""


@dataclass(frozen=True)
class Case:
    """One test case; `ending` is "failure", "error", "skipped", or "" for one that passed, `kind` its type."""

    name: str
    ending: str = ""
    message: str = ""
    text: str = ""
    kind: str = ""


def document(verdict: Verdict, title: str, *, text: str, seconds: float = 0.0) -> bytes:
    """The report as a file; `title` says what was checked, `text` is the report for people."""
    properties = {
        "verdict": verdict.outcome,
        "providers": ", ".join(verdict.providers),
        "runtime": verdict.runtime,
        "left out": "; ".join(f"{name}: {why}" for name, why in evidence.left_out(verdict).items()),
    }
    return _written(title, list(_cases(verdict, text)), properties, seconds)


def refusal(message: str, kind: str, title: str) -> bytes:
    """The report of a check that was not made: one error, so that no job takes it for a pass."""
    return _written(title, [Case("verdict", "error", message, message, kind)], {"verdict": "not checked"}, 0.0)


def nothing(message: str, title: str) -> bytes:
    """The report of a run that had nothing to check, and was allowed to."""
    return _written(title, [Case("verdict", "skipped", message)], {"verdict": "nothing to check"}, 0.0)


def _cases(verdict: Verdict, text: str) -> Iterator[Case]:
    first = next(iter(evidence.reasons(verdict)), verdict.outcome)
    yield Case("verdict", _ENDINGS.get(verdict.outcome, ""), first, text)
    for (name, provider), item in evidence.worst_by_provider(verdict).items():
        outcome = evidence.output_outcome(verdict, item)
        yield Case(f"output {name} on {provider}", _ENDINGS.get(outcome, ""), *_output_texts(item))
    for site in verdict.sites:
        where = f" in {site.site.scope}" if site.site.scope else ""
        lines = [site.reason, f"entered: {evidence.entered(site)}", evidence.worst_element(site)]
        name = f"site {site.site.node or site.site.output}{where}"
        ending = "" if site.tolerated else _ENDINGS.get(site.outcome, "")
        yield Case(name, ending, site.doubt or site.reason, "\n".join(filter(None, lines)))
    for placed in verdict.placements:
        if placed.fell_back:
            yield Case(f"placement of {placed.site} on {placed.provider}", "error", str(placed), str(placed))
    for provider, why in evidence.left_out(verdict).items():
        yield Case(f"provider {provider}", "skipped", why)


def _output_texts(item: OutputEvidence) -> tuple[str, str]:
    names = ("differing elements", "largest difference", "noise floor", "tolerance", "least that passes")
    numbers = zip(names, evidence.output_numbers(item), strict=True)
    lines = [f"{item.name} {evidence.type_text(item)} ({item.run})"]
    lines += [f"{name}: {value}" for name, value in numbers if value]
    return item.reason or "no finite element in any run, so nothing was compared", "\n".join([*lines, item.reason])


def _written(title: str, cases: list[Case], properties: Mapping[str, str], seconds: float) -> bytes:
    endings = [case.ending for case in cases]
    counts = {"tests": str(len(cases))}
    counts |= {f"{name}s": str(endings.count(name)) for name in ("failure", "error")}
    suites = ET.Element("testsuites", {"name": SUITES, **counts, "time": f"{seconds:.3f}"})
    attributes = {"name": clean(title), **counts, "skipped": str(endings.count("skipped")), "time": f"{seconds:.3f}"}
    suite = ET.SubElement(suites, "testsuite", attributes)
    listed = ET.SubElement(suite, "properties")
    for name, value in properties.items():
        if value:
            ET.SubElement(listed, "property", {"name": name, "value": clean(value)})
    for number, case in enumerate(cases):
        _add(suite, title, case, seconds if number == 0 else 0.0)
    ET.indent(suites)
    return bytes(ET.tostring(suites, encoding="utf-8", xml_declaration=True)) + b"\n"


def _add(suite: ET.Element, title: str, case: Case, seconds: float) -> None:
    attributes = {"classname": clean(f"onnxact.{title}"), "name": clean(case.name), "time": f"{seconds:.3f}"}
    element = ET.SubElement(suite, "testcase", attributes)
    if case.ending == "skipped":
        ET.SubElement(element, "skipped", {"message": clean(case.message)})
    elif case.ending:
        kind = case.kind or ("different" if case.ending == "failure" else "inconclusive")
        ending = ET.SubElement(element, case.ending, {"message": clean(case.message), "type": kind})
        ending.text = clean(case.text)


def clean(text: str) -> str:
    """Text with what XML cannot hold written as \\x1b."""
    return _FORBIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)

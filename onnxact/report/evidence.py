"""Verdict -> what a report says of it: sentences and tables of plain texts, for terminal, Markdown and JUnit alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from onnxact.report.printable import printable

if TYPE_CHECKING:
    from onnxact.check import OutputEvidence, SiteEvidence, SiteProbe, Verdict
    from onnxact.check.site_evidence import Accuracy, KinkCount, Reach
    from onnxact.check.verdict import Outcome, Run

_RANK: Mapping[str, int] = {"different": 0, "inconclusive": 1, "equivalent": 2}
"""What a reader wants to see first."""
_REACH: Mapping[Reach, str] = {
    "one-sided": "on every side that what feeds them allows",
    "settled": "not reached on every side, settled without inputs",
    "missed": "not reached on every side",
}
LEFT_OUT = "left out: "
"""How a note begins that says why a provider was not tried, after the provider's name if one is known."""


@dataclass(frozen=True)
class Block:
    """A part of a report: a heading, sentences, and a table, each of which may be missing."""

    title: str = ""
    lines: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def headline(verdict: Verdict) -> str:
    """What was run where: "4 runs on cpu, cuda left out, onnxruntime 1.31.1"."""
    places = ", ".join(verdict.providers) or "no provider"
    parts = [f"{_count(len(verdict.runs), 'run')} on {places}"]
    parts += [f"{name} left out" for name in left_out(verdict)]
    return ", ".join([*parts, verdict.runtime] if verdict.runtime else parts)


def blocks(verdict: Verdict, *, subject: str = "", verbose: bool = False) -> Iterator[Block]:
    """Everything but the outcome itself, in the order in which it matters. `subject`: what was compared, in words."""
    yield from map(_shown, _blocks(verdict, subject, verbose=verbose))


def _shown(block: Block) -> Block:
    rows = tuple(tuple(map(printable, row)) for row in block.rows)
    return replace(block, lines=tuple(map(printable, block.lines)), rows=rows)


def _blocks(verdict: Verdict, subject: str, *, verbose: bool) -> Iterator[Block]:
    compared = [subject] if subject and verdict.outputs else []
    yield Block(lines=(*compared, *(f"because {text}" for text in reasons(verdict))))
    yield output_block(verdict)
    yield site_block(verdict, verbose=verbose)
    yield _divergence(verdict)
    yield Block("Likely cause", tuple(cause.text for cause in verdict.triage))
    yield Block("Where it ran", tuple(placements(verdict, verbose=verbose)))
    yield Block(lines=tuple(_notes(verdict, verbose=verbose)))


def reasons(verdict: Verdict) -> tuple[str, ...]:
    """Why it is not equivalent; sites that are in doubt for the same reason stand together."""
    doubts: dict[str, list[str]] = {}
    for item in verdict.sites:
        if item.doubt:
            doubts.setdefault(item.doubt, []).append(item.site.node or item.site.output)
    of_sites = {f"{item.site}: {item.doubt}" for item in verdict.sites}
    alike = [f"site {_some(nodes)}: {doubt}" for doubt, nodes in doubts.items()]
    return (*(reason for reason in verdict.reasons if reason not in of_sites), *alike)


def _divergence(verdict: Verdict) -> Block:
    found = verdict.divergence
    return Block() if found is None else Block("First divergence", found.lines())


# Outputs


def worst_by_provider(verdict: Verdict) -> dict[tuple[str, str], OutputEvidence]:
    """(output, provider) -> its worst run, in the order of the outputs."""
    worst: dict[tuple[str, str], OutputEvidence] = {}
    for item in verdict.outputs:
        key = item.name, item.run.provider
        if key not in worst or _badness(item) > _badness(worst[key]):
            worst[key] = item
    return worst


def _badness(item: OutputEvidence) -> tuple[float, ...]:
    return -_RANK[item.outcome], item.differing > 0, item.max_abs, item.differing


def output_block(verdict: Verdict) -> Block:
    """One row an output and provider: how far it moved, next to the noise floor and to what was allowed."""
    several = len(verdict.providers) > 1
    columns = (
        "output", "type", "provider", "verdict", "differing", "largest difference", "noise floor", "tolerance",
        "least that passes",
    )  # fmt: skip
    rows = tuple(
        (name, type_text(item), provider if several else "", output_outcome(verdict, item), *output_numbers(item))
        for (name, provider), item in worst_by_provider(verdict).items()
    )
    return Block("Outputs", columns=columns, rows=rows)


def output_outcome(verdict: Verdict, item: OutputEvidence) -> Outcome:
    """What a row says of an output: no more than all its runs together, which may have compared nothing."""
    overall = verdict.output_outcomes()[item.name]
    return "inconclusive" if (item.outcome, overall) == ("equivalent", "inconclusive") else item.outcome


def type_text(item: OutputEvidence) -> str:
    """The type and shape of an output: float32[2, 10]."""
    return f"{item.dtype}{list(item.shape)}" if item.dtype else ""


def output_numbers(item: OutputEvidence) -> tuple[str, str, str, str, str]:
    """Differing elements, largest difference, noise floor, tolerance, and the least one that passes."""
    if not item.dtype:
        return ("", "", "", "", "")
    if not item.differing:
        return ("", "bit-equal" if item.elements else "no elements", "", "", "")
    differing = f"{item.differing} of {item.elements}"
    if item.tolerance == "exact":
        return (differing, "has to be equal", "", "", "")
    found = f"{item.max_abs:.3g} ({item.max_u:.3g} u)" if item.max_u else f"{item.max_abs:.3g}"
    largest = found if item.max_abs else "NaN or infinity on one side"
    return (differing, largest, f"{item.noise:.3g}", tolerance_text(item), _least(item))


def _least(item: OutputEvidence) -> str:
    """The least tolerance that passes; one way alone where the other has none."""
    each = (("rtol", item.least_rtol), ("atol", item.least_atol))
    found = [f"{name} {value:.3g}" for name, value in each if math.isfinite(value)]
    return "" if item.outcome == "equivalent" else " or ".join(found) or "none"


def tolerance_text(item: OutputEvidence) -> str:
    """What was allowed, and whose choice that was."""
    return f"rtol {item.rtol:.3g}, atol {item.atol:.3g} ({item.tolerance})"


# Sites


def site_block(verdict: Verdict, *, verbose: bool) -> Block:
    """One row a site where something is wrong or in doubt, every site with `verbose`; else one sentence on all."""
    ordered = sorted(verdict.sites, key=lambda item: _RANK[item.outcome])
    shown = [item for item in ordered if verbose or item.outcome != "equivalent"]
    columns = ("site", "is", "verdict", "values that entered", "before", "after", "worst element", "remark")
    rows = tuple((*site_row(item), item.reason if verbose else "") for item in shown)
    return Block("Sites" if shown else "", tuple(_sites_summary(verdict)), columns, rows)


def _sites_summary(verdict: Verdict) -> Iterator[str]:
    if not verdict.sites:
        return
    total = len(verdict.sites)
    fine = [item for item in verdict.sites if item.outcome == "equivalent"]
    yield f"{len(fine)} of {_count(total, 'site')} equivalent{_at_most(fine)}"
    reach = Counter(item.reach for item in verdict.sites)
    others = (f"{reach[kind]} {text}" for kind, text in _REACH.items() if reach[kind])
    yield ", ".join([f"{reach['reached']} of {_count(total, 'site')} reached on every side of their kinks", *others])


def _at_most(sites: Iterable[SiteEvidence]) -> str:
    """How far the sites are from their functions at most, after the change."""
    found = [part.max_u for item in sites for part in (item.after, item.alone_after) if part is not None]
    return f", at most {max(found):.3g} u from their functions" if found else ""


def site_row(item: SiteEvidence) -> tuple[str, ...]:
    """Where, what it is, the verdict, what entered, how exact it is in both models, and the worst element."""
    probe = item.site
    where = f"{probe.scope} > {probe.node or probe.output}" if probe.scope else probe.node or probe.output
    return (
        where,
        meaning_text(probe),
        item.outcome,
        entered(item),
        _accuracy(item.before),
        _accuracy(item.after),
        worst_element(item),
    )


def meaning_text(probe: SiteProbe) -> str:
    """What a site computes and in which form, or what it did and what it does now."""
    told = [meaning for meaning in (probe.before, probe.after) if meaning is not None]
    forms = list(dict.fromkeys(meaning.form for meaning in told if meaning.form))
    text = " -> ".join(dict.fromkeys(map(str, told)))
    return f"{text}, {' -> '.join(forms)}" if forms and forms != ["op"] else text


def entered(item: SiteEvidence) -> str:
    """How many values lay on which side of each kink."""
    if not item.counts:
        return f"{item.elements}" if item.elements else ""
    return "; ".join(_sides(count) for count in item.counts)


def _sides(count: KinkCount) -> str:
    return f"{count.below} below, {count.at} at, {count.above} above {count.kink:g}"


def _accuracy(found: Accuracy | None) -> str:
    if found is None:
        return ""
    if found.problem:
        return found.problem
    return f"{found.outside} of {found.compared} wrong" if found.outside else f"{found.max_u:.3g} u"


def worst_element(item: SiteEvidence) -> str:
    """What the site should have given and gave at its worst element; "" where every element is within its bound."""
    for found in (item.after, item.alone_after, item.before, item.alone_before):
        if found is not None and found.outside and found.x is not None:
            return f"{list(found.index)}: f({found.x:.9g}) is {found.expected:.9g}, not {found.y:.9g}"
    return ""


# Where it ran


def placements(verdict: Verdict, *, verbose: bool) -> Iterator[str]:
    """How many nodes each provider was given, and the sites that ran elsewhere than asked."""
    for provider in verdict.providers if verbose or verdict.providers not in ((), ("cpu",)) else ():
        run = next((run for run in verdict.runs if run.provider == provider and run.placement), None)
        if run is not None:
            yield f"{provider}: {_nodes(run)}"
    for item in verdict.placements:
        if verbose or (item.provider != "cpu" and (item.fell_back or item.unclear)):
            yield f"{item}{f' ({item.unclear})' if item.unclear and item.unclear not in str(item) else ''}"


def _nodes(run: Run) -> str:
    return ", ".join(f"{_count(count, 'node')} on {name}" for name, count in run.placement)


def left_out(verdict: Verdict) -> dict[str, str]:
    """Provider -> why it was not tried, for those that nobody asked for by name."""
    found: dict[str, str] = {}
    for note in verdict.notes:
        name, separator, why = note.partition(LEFT_OUT)
        if separator and " " not in name.strip():
            provider = name.strip() or why.removeprefix("provider ").partition(":")[0].partition(" ")[0]
            found[provider] = why
    return found


def _notes(verdict: Verdict, *, verbose: bool) -> Iterator[str]:
    """What was assumed or left out; how special values are judged only where somebody asks for all."""
    yield from (f"note: {note}" for note in verdict.notes if verbose or LEFT_OUT not in note)
    if verbose:
        yield f"inputs: {', '.join(dict.fromkeys(run.inputs for run in verdict.runs))}"
        yield f"rule: {verdict.policy}"


# Words


def worst_of(outcomes: Iterable[Outcome]) -> Outcome:
    """The one that decides."""
    return min(outcomes, key=lambda outcome: _RANK[outcome])


def _some(names: Sequence[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{', '.join(names[:limit])}{more}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"

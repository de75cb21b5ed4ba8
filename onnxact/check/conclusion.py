"""What every provider and every site showed -> Verdict: what keeps the models from being equivalent, if anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from onnx import ModelProto

from onnxact.check.options import RuntimeOptions
from onnxact.check.pairs import Finding, PairEvidence
from onnxact.check.providers import runtime_version
from onnxact.check.site_evidence import SiteEvidence
from onnxact.check.site_outcome import site_outcome, weighed
from onnxact.check.sites import Judged
from onnxact.check.tolerance import Tolerance
from onnxact.check.verdict import OutputEvidence, Verdict, conclude


@dataclass(frozen=True)
class Evidence:
    """Everything that was found: by provider, by site and outside the sites, and what a reader has to know besides."""

    parts: Mapping[str, PairEvidence]
    judged: Judged
    notes: tuple[str, ...] = ()

    @property
    def sites(self) -> tuple[SiteEvidence, ...]:
        """What is known of each site."""
        return self.judged.evidence

    @property
    def outputs(self) -> tuple[OutputEvidence, ...]:
        """The outputs of all runs."""
        return tuple(item for part in self.parts.values() for item in part.outputs)

    @property
    def differs(self) -> bool:
        """Whether outputs do: then nothing that they might hide is looked for."""
        return any(output.outcome == "different" for output in self.outputs)


def verdict_of(before: ModelProto, evidence: Evidence, tolerance: Tolerance, options: RuntimeOptions) -> Verdict:
    """Different beats inconclusive beats equivalent; every reason once, differences first."""
    parts = evidence.parts.values()
    weighted = tuple(weighed(item, evidence.outputs) for item in evidence.sites)
    evidence = replace(evidence, judged=replace(evidence.judged, evidence=weighted))
    findings = [
        *(finding for part in parts for finding in part.findings),
        *_output_findings(evidence.outputs),
        *_gaps(before, evidence.parts),
        *_site_findings(evidence),
        *_hidden_constants(evidence),
        *_unlike(evidence),
        *(Finding("inconclusive", doubt) for doubt in evidence.judged.doubts),
    ]
    outcomes = [item.outcome for item in evidence.outputs] + [finding.outcome for finding in findings]
    return Verdict(
        conclude(outcomes),
        tuple(dict.fromkeys(item.reason for item in sorted(findings, key=lambda item: item.outcome))),
        runs=tuple(run for part in parts for run in part.runs),
        outputs=evidence.outputs,
        sites=evidence.sites,
        providers=tuple(evidence.parts),
        tolerance=tolerance,
        notes=(
            *evidence.notes,
            *_besides(evidence),
            *_tolerated(evidence.sites),
            *(note for part in parts for note in part.notes),
        ),
        placements=tuple(item for part in parts for item in part.placements),
        options=options,
        runtime=runtime_version(),
    )


def _output_findings(outputs: Sequence[OutputEvidence]) -> Iterator[Finding]:
    """The first disagreement of each output on each provider; the others are in the evidence."""
    seen: set[tuple[str, str, str]] = set()
    for item in outputs:
        key = (item.name, item.run.provider, item.outcome)
        if item.outcome != "equivalent" and key not in seen:
            seen.add(key)
            yield Finding(item.outcome, f"output {item.name} ({item.run}): {item.reason}")


def _site_findings(evidence: Evidence) -> Iterator[Finding]:
    for item in evidence.sites:
        outcome = site_outcome(item, evidence.outputs)
        if outcome is not None:
            yield Finding(outcome, f"{item.site}: {item.doubt}")


def _tolerated(sites: Sequence[SiteEvidence]) -> Iterator[str]:
    for item in sites:
        if item.tolerated:
            yield f"{item.site} is another function, within the tolerance given for the outputs: {item.differs}"


def _hidden_constants(evidence: Evidence) -> Iterator[Finding]:
    """Constants that are not the same although no output shows what they do."""
    exchange = evidence.judged.exchange
    noise = {item.name: item.noise / (item.scale or 1.0) for item in evidence.outputs}
    hidden = () if exchange is None or evidence.differs else replace(exchange, noise=noise).hidden
    if hidden:
        several = len(hidden) > 1
        named = f"constant {hidden[0]!r} and {len(hidden) - 1} more are" if several else f"constant {hidden[0]!r} is"
        what = "what they do" if several else "what it does"
        yield Finding("inconclusive", f"{named} not the same in both models, and no output shows {what}")


def _unlike(evidence: Evidence) -> Iterator[Finding]:
    """Parts that are not the same, and show it on values that no inputs brought there."""
    unlike = evidence.judged.unlike
    texts = () if unlike is None or evidence.differs else unlike.tried.differing
    if texts:
        more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
        yield Finding("inconclusive", f"{texts[0]}{more}")


def _besides(evidence: Evidence) -> Iterator[str]:
    """On what it rests that a difference outside the sites makes none."""
    judged = evidence.judged
    if not judged.besides or evidence.differs:
        return
    tried = judged.unlike.tried if judged.unlike is not None else None
    if tried is not None and tried.differing:
        return
    if tried is None:
        grounds = "tried on these inputs only"
    elif tried.untried:
        grounds = f"tried on these inputs only, since {tried.untried[0]}"
    else:
        grounds = "all parts that are not the same were tried on their own, too"
    yield f"besides its sites, {judged.besides}: {grounds}"


def _gaps(model: ModelProto, parts: Mapping[str, PairEvidence]) -> Iterator[Finding]:
    """Outputs of which nothing was compared on a provider, although both models ran."""
    if not model.graph.output:
        yield Finding("inconclusive", "the models have no outputs, so nothing was compared")
    for provider, part in parts.items():
        by_name: dict[str, list[OutputEvidence]] = {}
        for item in part.outputs:
            by_name.setdefault(item.name, []).append(item)
        for name, items in by_name.items():
            yield from _gap(name, provider, items)


def _gap(name: str, provider: str, items: Sequence[OutputEvidence]) -> Iterator[Finding]:
    if all(item.outcome == "equivalent" and item.finite == 0 for item in items):
        what = "finite element" if any(item.elements for item in items) else "element"
        yield Finding("inconclusive", f"output {name} had no {what} in any run, so nothing was compared ({provider})")

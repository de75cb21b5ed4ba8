"""(before, after) -> Verdict: the order of the evidence, and what follows from it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnx import ModelProto

from onnxact.check.alone import anatomy, on_its_own
from onnxact.check.feeding import Feeding, Recipe, find_feeds, further_feeds
from onnxact.check.inputs import Feed, NoInputError
from onnxact.check.interface import interface_differences
from onnxact.check.pairs import Finding, Pair, PairEvidence, run_pair
from onnxact.check.providers import Resolved, resolve_providers
from onnxact.check.session import RunFailure, Session, open_session
from onnxact.check.sites import DEFAULT_MEMORY_BUDGET, Reached, reach
from onnxact.check.subject import Source, Subject, open_subject, same_source
from onnxact.check.verdict import OutputEvidence, SiteEvidence, SiteProbe, Tolerance, Verdict, conclude
from onnxact.errors import ProviderError, UsageError

Progress = Callable[[str, float], None]


def check(
    before: Source,
    after: Source,
    *,
    sites: Sequence[SiteProbe] = (),
    providers: Sequence[str] | None = None,
    inputs: Mapping[str, Any] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    seeds: Sequence[int] = (0, 1),
    rtol: float | None = None,
    atol: float | None = None,
    exact: bool = False,
    folder: str | os.PathLike[str] | None = None,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
    progress: Progress | None = None,
) -> Verdict:
    """Judge whether two models compute the same, from runs on ONNX Runtime.

    Both run on the same inputs (one set a seed; see make_inputs), with graph optimisation off and on, on every
    provider (None: cpu, and cuda if a session gets it). "equivalent" means that all declared outputs agreed in all
    those runs and that the inputs went through every branch of every site that can be reached; whatever did not run,
    or was not compared, makes it "inconclusive"; whatever differs, "different".

    Outputs agree by compare's rule; `rtol` or `atol` put NumPy's rule in its place (the one not given is 0). `exact`
    asks for equal values in the runs on the CPU with optimisation off. `sites` are looked up in `before`. `inputs`
    replace made-up ones by name. `folder` is where external data of a ModelProto lie. `memory_budget`, in bytes, is
    for observed values. `progress` is called with what is being done and the fraction done.

    Raises UsageError, ProviderError, ModelError (a file that is no model), MissingPackageError.
    """
    _demand_sense(before, after, seeds, rtol, atol)
    resolved = resolve_providers(providers)
    pair = open_subject(before, folder=folder), open_subject(after, folder=folder)
    tolerance = Tolerance(rtol, atol)
    differences = interface_differences(pair[0].model, pair[1].model)
    if differences:
        return Verdict("different", differences, providers=resolved.names, tolerance=tolerance, notes=resolved.notes)
    shapes = {name: tuple(shape) for name, shape in (input_shapes or {}).items()}
    recipe = Recipe(pair[0].model, tuple(seeds), shapes, inputs or {})
    job = _Job(*pair, recipe, tuple(sites), tolerance, exact, memory_budget, progress or (lambda _what, _done: None))
    try:
        return _judged(job, resolved, may_drop=providers is None)
    except NoInputError as error:
        return Verdict("inconclusive", (str(error),), providers=resolved.names, tolerance=tolerance)


@dataclass(frozen=True)
class _Job:
    """What is to be checked, and how."""

    before: Subject
    after: Subject
    recipe: Recipe
    sites: tuple[SiteProbe, ...]
    tolerance: Tolerance
    exact: bool
    memory_budget: int
    progress: Progress


def _demand_sense(before: Source, after: Source, seeds: Sequence[int], rtol: float | None, atol: float | None) -> None:
    if same_source(before, after):
        raise UsageError("before and after are the same model: comparing it with itself says nothing")
    if not seeds or any(seed < 0 for seed in seeds):
        raise UsageError(f"seeds {list(seeds)}: give at least one, none negative")
    for name, value in (("rtol", rtol), ("atol", atol)):
        if value is not None and not (value >= 0 and math.isfinite(value)):
            raise UsageError(f"{name} {value}: expected a finite number of at least 0")


def _judged(job: _Job, resolved: Resolved, *, may_drop: bool) -> Verdict:
    job.progress("making inputs", 0.0)
    first = open_session(job.before, resolved.names[0], optimise=False)
    feeding = find_feeds(job.recipe, first)
    job.progress("observing sites", 0.1)
    reached = _reached(job, feeding, resolved.names[0])
    feeds = feeding.feeds + reached.feeds
    parts: dict[str, PairEvidence] = {}
    notes = [*resolved.notes, *feeding.assumed, *_same_content(job)]
    for position, name in enumerate(resolved.names):
        found = _on_provider(job, feeds, name, first if position == 0 else None, may_drop)
        if isinstance(found, str):
            notes.append(f"left out: {found}")
        else:
            parts[name] = found
    return _verdict(job, parts, reached, tuple(notes))


def _reached(job: _Job, feeding: Feeding, provider: str) -> Reached:
    """On the plain inputs, then on its own; further inputs are searched for what neither settles."""
    if not job.sites:
        return Reached((), ())
    observed = reach(job.before, job.sites, feeding.feeds, provider=provider, memory_budget=job.memory_budget)
    alone = _alone(job, provider)
    plain = {item.site: alone(item) for item in observed.evidence}
    open_sites = [site for site, item in plain.items() if not item.reached]
    if not open_sites:
        return Reached(tuple(plain[site] for site in job.sites), ())
    job.progress("searching inputs for sites", 0.15)
    found = reach(
        job.before,
        open_sites,
        feeding.feeds,
        lambda: further_feeds(job.recipe, feeding.guess),
        provider=provider,
        memory_budget=job.memory_budget,
    )
    searched = {item.site: replace(item, alone=plain[item.site].alone) for item in found.evidence}
    settled = {site: item if item.alone else alone(item) for site, item in searched.items()}
    return Reached(tuple({**plain, **settled}[site] for site in job.sites), found.feeds)


def _alone(job: _Job, provider: str) -> Callable[[SiteEvidence], SiteEvidence]:
    tolerance = Tolerance(0.0, 0.0) if job.exact and provider == "cpu" else job.tolerance
    before, after = anatomy(job.before), anatomy(job.after)
    return lambda item: on_its_own(item, before, after, tolerance, provider=provider)


def _on_provider(
    job: _Job, feeds: tuple[Feed, ...], name: str, opened: Session | RunFailure | None, may_drop: bool
) -> PairEvidence | str:
    """The evidence, or why there is none on a provider that nobody asked for by name."""
    pair = Pair(job.before, job.after, name, feeds, job.tolerance, job.exact)
    try:
        return run_pair(pair, opened, lambda done: job.progress(f"running on {name}", 0.2 + 0.8 * done))
    except ProviderError as error:
        if may_drop:
            return str(error)
        raise


def _same_content(job: _Job) -> tuple[str, ...]:
    same = job.before.model == job.after.model and job.before.folder == job.after.folder
    return ("the two models have the same content",) if same else ()


def _verdict(job: _Job, parts: Mapping[str, PairEvidence], reached: Reached, notes: tuple[str, ...]) -> Verdict:
    outputs = tuple(item for part in parts.values() for item in part.outputs)
    findings = [
        *(finding for part in parts.values() for finding in part.findings),
        *_output_findings(outputs),
        *_gaps(job.before.model, parts),
        *(Finding("inconclusive", f"{item.site}: {item.doubt}") for item in reached.evidence if item.doubt),
    ]
    compared = [item.outcome for item in outputs]
    return Verdict(
        conclude([*compared, *(finding.outcome for finding in findings)]),
        tuple(dict.fromkeys(item.reason for item in sorted(findings, key=lambda item: item.outcome))),
        tuple(run for part in parts.values() for run in part.runs),
        outputs,
        reached.evidence,
        tuple(parts),
        job.tolerance,
        notes,
    )


def _output_findings(outputs: Sequence[OutputEvidence]) -> Iterator[Finding]:
    """The first disagreement of each output on each provider; the others are in the evidence."""
    seen: set[tuple[str, str, str]] = set()
    for item in outputs:
        key = (item.name, item.run.provider, item.outcome)
        if item.outcome != "equivalent" and key not in seen:
            seen.add(key)
            yield Finding(item.outcome, f"output {item.name} ({item.run}): {item.reason}")


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

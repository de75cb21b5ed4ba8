"""(a module in PyTorch, its ONNX file) -> Verdict: outputs on the same inputs, and every activation site.

before: eager PyTorch, the module itself in evaluation mode.   after: the file on ONNX Runtime, optimisation off and on.

Inputs, tolerances and verdicts are those of onnxact.check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from onnx import ModelProto, TensorProto, ValueInfoProto
from torch.export import ExportedProgram

from onnxact.check.conclusion import Evidence, verdict_of
from onnxact.check.drawing import ValRange
from onnxact.check.feeding import Feeding, Given, Recipe, find_feeds, make_recipe, save_feeds
from onnxact.check.further import further_feeds
from onnxact.check.inputs import Feed, NoInputError
from onnxact.check.knowledge import Knowledge
from onnxact.check.options import RuntimeOptions
from onnxact.check.pairs import Finding, PairEvidence
from onnxact.check.providers import Resolved, resolve_providers, runtime_options, runtime_version
from onnxact.check.ranges import integer_range
from onnxact.check.session import RunFailure, open_session
from onnxact.check.site_evidence import SiteEvidence, SiteProbe
from onnxact.check.sites import DEFAULT_MEMORY_BUDGET, Judged
from onnxact.check.subject import Subject, open_subject
from onnxact.check.tolerance import Given as GivenTolerance
from onnxact.check.tolerance import Tolerance, demand_outputs, tolerance
from onnxact.check.verdict import Verdict
from onnxact.errors import ProviderError, UsageError
from onnxact.export.alone import Tried, try_alone
from onnxact.export.coverage import Coverage, site_evidence
from onnxact.export.eager import Eager, to_tensor
from onnxact.export.outputs import Comparison, Expected, run_eager
from onnxact.export.sites import locate
from onnxact.export.staging import Staged
from onnxact.export.tracing import Trace

Progress = Callable[[str, float], None]
_OTHER_SIZES = ((1, 1), (2, 0), (1, 32))
"""Other sizes of a dynamic axis that are tried in turn: n + 1, 2 n, and n + 32."""
_RARE = {torch.bfloat16: "bfloat16", torch.float64: "float64"}
"""Types that ONNX Runtime has few kernels for: no Conv-11 of double on the CPU (1.31)."""
_BEFORE = "before is the module in eager PyTorch, after the exported file on ONNX Runtime"


@dataclass(frozen=True)
class Options:
    """What a caller sets of the check; as for onnxact.check."""

    providers: Sequence[str] | None = None
    inputs: Given | None = None
    input_shapes: Mapping[str, Sequence[int]] | None = None
    val_range: ValRange | None = None
    seeds: Sequence[int] = (0, 1)
    save_inputs: Any = None
    rtol: GivenTolerance = None
    atol: GivenTolerance = None
    provider_options: Mapping[str, Mapping[str, Any]] | None = None
    session_options: Mapping[str, Any] | None = None
    tf32: bool = False
    memory_budget: int = DEFAULT_MEMORY_BUDGET


@dataclass(frozen=True)
class _Job:
    """What is compared, and how."""

    eager: Eager
    subject: Subject
    program: ExportedProgram
    recipe: Recipe
    tolerance: Tolerance
    options: RuntimeOptions
    memory_budget: int
    progress: Progress
    assumed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Judge:
    """Options that were looked at, and the providers that they ask for."""

    options: Options
    runtime: RuntimeOptions
    resolved: Resolved
    tolerance: Tolerance

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Judge:
        """Raise UsageError for an option that is none, ProviderError for a provider that was asked for and is not
        there, MissingPackageError; all before anything is exported.
        """
        known = {item.name for item in fields(Options)}
        unknown = sorted(set(options) - known)
        if unknown:
            raise UsageError(f"check: no option {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        chosen = Options(**options)
        runtime = runtime_options(chosen.provider_options, chosen.session_options, tf32=chosen.tf32)
        return cls(chosen, runtime, resolve_providers(chosen.providers, runtime), tolerance(chosen.rtol, chosen.atol))

    def run(self, eager: Eager, program: ExportedProgram, staged: Staged, progress: Progress) -> Verdict:
        """Judge whether the staged file computes what the module does in PyTorch. Three-valued, as onnxact.check.

        Raises UsageError for options that do not fit the model.
        """
        subject, options = open_subject(staged.path, options=self.runtime), self.options
        demand_outputs(self.tolerance, (value.name for value in subject.model.graph.output))
        recipe = make_recipe(
            subject.model,
            seeds=options.seeds,
            input_shapes={**open_shapes(subject.model, eager), **(options.input_shapes or {})},
            inputs=options.inputs,
            val_range=options.val_range or _indices_from_zero(subject.model),
            save_to=options.save_inputs,
        )
        job = _Job(eager, subject, program, recipe, self.tolerance, self.runtime, options.memory_budget, progress)
        try:
            return _judged(job, self.resolved, may_drop=options.providers is None)
        except NoInputError as error:
            return _inconclusive(job, self.resolved, str(error))


def _indices_from_zero(model: ModelProto) -> ValRange | None:
    """Return the range of every integer input that is an index, without those that count from the end.

    ONNX's Gather takes them and PyTorch's embedding does not, so that a module need not be made for them.
    """
    ranges = {value.name: integer_range(model, value.name) for value in model.graph.input if _is_whole(value)}
    found = {name: (0.0, float(r.high)) for name, r in ranges.items() if r.limited and r.low < 0 <= r.high}
    return found or None


def _is_whole(value: ValueInfoProto) -> bool:
    return value.type.tensor_type.elem_type in (TensorProto.INT32, TensorProto.INT64)


def _inconclusive(job: _Job, resolved: Resolved, reason: str) -> Verdict:
    return Verdict(
        "inconclusive",
        (reason,),
        providers=resolved.names,
        tolerance=job.tolerance,
        notes=resolved.notes,
        options=job.options,
        runtime=runtime_version(),
    )


def _hint(eager: Eager) -> str:
    """Return the way out where a type is what the runtime lacks."""
    rare = next((name for kind, name in _RARE.items() if kind in eager.dtypes), "")
    return rare and f"; it has few {rare} kernels: check on another provider, such as cuda, or export another --dtype"


def _judged(job: _Job, resolved: Resolved, *, may_drop: bool) -> Verdict:
    providers = resolved.names
    job.progress("making inputs", 0.0)
    opened = open_session(job.subject, providers[0], optimise=False)
    if isinstance(opened, RunFailure):
        said_so = str(opened).replace(str(job.subject.path), "the exported file")
        reason = f"nothing was compared: {runtime_version()} ({providers[0]}) {said_so}"
        return _inconclusive(job, resolved, reason + _hint(job.eager))
    feeding = find_feeds(job.recipe, opened)
    del opened
    feeds = (*feeding.feeds, *_resized(job, feeding))
    job.progress("looking at every activation", 0.1)
    sites, more, untaken = _sites(job, feeds, feeding, providers[0])
    feeds = (*feeds, *more)
    save_feeds(job.recipe, feeds)
    comparison = Comparison(Expected(job.eager, job.memory_budget), job.subject, job.tolerance)
    parts: dict[str, PairEvidence] = {}
    told = [_BEFORE, *resolved.notes, *feeding.assumed, *job.assumed]
    for number, name in enumerate(providers):
        job.progress(f"comparing on {name}", 0.4 + 0.6 * number / len(providers))
        try:
            parts[name] = comparison.on(name, feeds).plus(PairEvidence(findings=untaken))
        except ProviderError as error:
            if not may_drop:
                raise
            told.append(f"left out: {error}")
    return verdict_of(
        job.subject.model, Evidence(parts, Judged(evidence=sites), tuple(told)), job.tolerance, job.options
    )


# Inputs


def open_shapes(model: ModelProto, eager: Eager) -> dict[str, tuple[int, ...]]:
    """Return the example's shapes of inputs that have a dynamic axis: the module runs on these."""
    shapes = {name: tuple(item.shape) for name, item in zip(eager.inputs, eager.example.tensors, strict=True)}
    dynamic = (v.name for v in model.graph.input if any(d.dim_param for d in v.type.tensor_type.shape.dim))
    return {name: shapes[name] for name in dynamic}


def _resized(job: _Job, feeding: Feeding) -> Iterator[Feed]:
    """Yield one set of inputs in which every dynamic axis has another size, if the module takes one."""
    symbols = _symbols(job.subject.model)
    if not symbols or job.recipe.complete or len(job.recipe.given) > 1:
        return
    for factor, more in _OTHER_SIZES:
        shapes = dict(job.recipe.shapes)
        for name, axes in symbols.items():
            sizes = enumerate(shapes[name])
            shapes[name] = tuple(factor * size + more if at in axes else size for at, size in sizes)
        recipe = replace(job.recipe, shapes=shapes, seeds=(max(job.recipe.seeds) + 1,))
        (feed,) = find_feeds(recipe, RunFailure("run", "")).feeds
        if not isinstance(run_eager(job.eager, feed), RunFailure):
            yield replace(feed, label=f"{feed.label}, other sizes")
            return
    job.assumed.append("the dynamic axes were compared at the example's sizes only: PyTorch takes none of those tried")


def _symbols(model: ModelProto) -> dict[str, set[int]]:
    """Return input -> its dynamic axes."""
    found = {
        value.name: {at for at, dim in enumerate(value.type.tensor_type.shape.dim) if dim.dim_param}
        for value in model.graph.input
    }
    return {name: axes for name, axes in found.items() if axes}


# Sites


def _sites(
    job: _Job, feeds: Sequence[Feed], feeding: Feeding, provider: str
) -> tuple[tuple[SiteEvidence, ...], tuple[Feed, ...], tuple[Finding, ...]]:
    """Return the evidence of every site, the further inputs that it took, and what was not run at all."""
    known, trace = Knowledge(job.subject, job.subject), Trace(job.program)
    sites = locate(job.subject, known, trace)
    tried = try_alone(sites, known, trace, provider)

    def candidates() -> Iterable[Feed]:
        return further_feeds(job.recipe, feeding.guess)

    def tensors(feed: Feed) -> list[Any]:
        return [to_tensor(feed.values[name], job.eager.device) for name in job.eager.inputs]

    def settled(probe: SiteProbe) -> bool:
        return tried.get(probe, Tried()).is_same

    coverage = Coverage(trace, sites, tensors, known.possible, settled)
    covered = coverage.over(feeds, candidates)
    evidence = (site_evidence(site, covered, tried.get(site.probe, Tried()), known.possible) for site in sites)
    untaken = (Finding("inconclusive", f"no inputs took the branch {path}") for path in coverage.untaken(covered))
    return tuple(evidence), covered.feeds, tuple(untaken)

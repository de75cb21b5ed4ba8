"""(before, after) -> Verdict: the order of the evidence, and what is asked next where it does not suffice."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnx import ModelProto

from onnxact.arguments import number, whole
from onnxact.check.case import Case
from onnxact.check.conclusion import Evidence, verdict_of
from onnxact.check.conditioning import doubted
from onnxact.check.conditions import thresholds
from onnxact.check.distance import UNIT_ROUNDOFF
from onnxact.check.divergence import find_divergence
from onnxact.check.drawing import ValRange
from onnxact.check.feeding import Feeding, Given, Recipe, find_feeds, make_recipe, save_feeds
from onnxact.check.further import further_feeds, sized_feeds
from onnxact.check.in_place import open_in_place
from onnxact.check.inputs import Feed, NoInputError
from onnxact.check.interface import Interface
from onnxact.check.interval import Interval
from onnxact.check.loading import UnloadableError
from onnxact.check.options import RuntimeOptions
from onnxact.check.pairs import Held, Pair, PairEvidence, open_primary, run_pair
from onnxact.check.providers import Resolved, resolve_providers, runtime_options, runtime_version
from onnxact.check.runners.backend import Backend
from onnxact.check.runners.judging import BackendJob, judge_on_backend
from onnxact.check.runners.known import ONNXRUNTIME, find_backend
from onnxact.check.session import SHARING, RunFailure, Session
from onnxact.check.sites import DEFAULT_MEMORY_BUDGET, Judged, SiteJob, judge_sites
from onnxact.check.subject import Source, Subject, open_subject, same_source, without_inputs
from onnxact.check.symptoms import Symptoms
from onnxact.check.tolerance import Given as GivenTolerance
from onnxact.check.tolerance import Tolerance, demand_outputs, tolerance
from onnxact.check.triage import causes
from onnxact.check.verdict import SiteProbe, Verdict
from onnxact.check.weights import Weights
from onnxact.errors import ProviderError, UsageError

Progress = Callable[[str, float], None]


def check(
    before: Source,
    after: Source,
    *,
    sites: Sequence[SiteProbe] = (),
    providers: str | Sequence[str] | None = None,
    backend: str | Backend | None = None,
    inputs: Given | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    val_range: ValRange | None = None,
    seeds: Sequence[int] = (0, 1),
    save_inputs: str | os.PathLike[str] | None = None,
    rtol: GivenTolerance = None,
    atol: GivenTolerance = None,
    exact: bool = False,
    provider_options: Mapping[str, Mapping[str, Any]] | None = None,
    session_options: Mapping[str, Any] | None = None,
    tf32: bool = False,
    folder: str | os.PathLike[str] | None = None,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
    diagnose: bool = True,
    progress: Progress | None = None,
) -> Verdict:
    """Judge whether two models compute the same, from runs on ONNX Runtime.

    Both run on the same inputs (one set a seed; see make_inputs), with graph optimisation off and on, on every
    provider (None: cpu, and cuda if a session gets it). "equivalent" means that all declared outputs agreed in all
    those runs and that the inputs went through every branch of every site that can be reached; whatever did not run,
    or was not compared, makes it "inconclusive"; whatever differs, "different". Where outputs differ, and unless
    `diagnose` is off, the first value that does is looked for, and likely causes are tried.

    `backend` is another runtime, by name (see runners), a program that is one, by path, or a Backend: `after` runs
    there, and `before` on ONNX Runtime's CPU provider, optimisation off, says what is right. A backend that refuses
    `after` makes it "different". Each site is tried on the backend on its own, too. Both may be one model then.

    Outputs agree by compare's rule; `rtol` or `atol`, numbers or by output name ("" for all others), put NumPy's rule
    in its place (the one not given is 0). `exact` asks for equal values in the runs on the CPU with optimisation off.
    `sites` are looked up in `before`. `inputs` replace made-up ones by name; several sets may be given, as load_inputs
    gives them. `val_range` limits made-up ones: low and high, or those by name. `save_inputs` is where all that was run
    on is written (see save_inputs). `provider_options`, by provider name, and `session_options` (attributes and config
    entries of SessionOptions) go to ONNX Runtime; `tf32` allows CUDA to use it. `folder` is where external data of a
    ModelProto lie. `memory_budget`, in bytes, is for values held at a time. `progress` is called with what is being
    done and the fraction done.

    Raises UsageError; ProviderError, also where a site of `after` did not run on a provider that was asked for;
    ModelError (a file that is no model, and UnloadableError where ONNX Runtime does not load `before`, or knows
    an op of `after` not at all or finds it invalid: without a kernel for it, `after` is different);
    MissingPackageError.
    """
    chosen = _backend(backend, providers)
    _demand_sense(None if chosen else (before, after), seeds, memory_budget)
    options = runtime_options(provider_options, session_options, tf32=tf32)
    resolved = resolve_providers(["cpu"] if chosen else providers, options)
    shares = chosen is None and SHARING.issuperset(resolved.names)
    pair = _opened(before, after, folder, options, shares=shares)
    allowed = tolerance(rtol, atol)
    demand_outputs(allowed, (value.name for value in pair[0].model.graph.output))
    said = Verdict("different", (), (), (), (), resolved.names, allowed, resolved.notes, options=options)
    interface = Interface(pair[0].model, pair[1].model)
    if interface.differences:
        return replace(said, reasons=interface.differences, runtime=runtime_version())
    pair[1] = without_inputs(pair[1], interface.unread)
    recipe = make_recipe(
        pair[0].model, seeds=seeds, input_shapes=input_shapes, inputs=inputs, val_range=val_range, save_to=save_inputs
    )
    report = progress or (lambda _what, _done: None)
    job = _Job(
        pair[0], pair[1], recipe, tuple(sites), allowed, interface, exact, memory_budget, diagnose, report, chosen
    )
    try:
        return _judged(job, resolved, may_drop=providers is None)
    except NoInputError as error:
        return replace(said, outcome="inconclusive", reasons=(str(error),), runtime=runtime_version())
    except MemoryError as error:
        text = f"memory ran out: {error or 'no details'}; give smaller --input-shapes or a smaller --memory-budget"
        return replace(said, outcome="inconclusive", reasons=(text,), runtime=runtime_version())


@dataclass(frozen=True)
class _Job:
    """What is to be checked, and how. `interface`: of both models as they were given."""

    before: Subject
    after: Subject
    recipe: Recipe
    sites: tuple[SiteProbe, ...]
    tolerance: Tolerance
    interface: Interface
    exact: bool
    memory_budget: int
    diagnose: bool
    progress: Progress
    backend: Backend | None = None

    @property
    def options(self) -> RuntimeOptions:
        """How ONNX Runtime is set up, for both models."""
        return self.before.options


def _backend(given: str | Backend | None, providers: Sequence[str] | None) -> Backend | None:
    """The runtime that `after` runs on, None for ONNX Runtime itself."""
    if given is None or given == ONNXRUNTIME:
        return None
    if providers is not None:
        raise UsageError("providers are those of ONNX Runtime; give providers or a backend, not both")
    return given if isinstance(given, Backend) else find_backend(given)


def _opened(
    before: Source, after: Source, folder: str | os.PathLike[str] | None, options: RuntimeOptions, *, shares: bool
) -> list[Subject]:
    """Both models; where sessions can share weights, with the large ones in a file, and not in memory."""
    found = open_in_place(before, after, options) if shares else None
    if found is not None:
        return list(found)
    lean = shares and not isinstance(before, ModelProto) and not isinstance(after, ModelProto)
    weights = Weights(remembers=not lean)
    return [
        open_subject(source, folder=folder, options=options, weights=weights, lean=lean) for source in (before, after)
    ]


def _demand_sense(pair: tuple[Source, Source] | None, seeds: Sequence[int], memory_budget: int) -> None:
    """`pair`: two models on one runtime; one model on two runtimes can be compared."""
    if pair is not None and same_source(*pair):
        raise UsageError("before and after are the same model: comparing it with itself says nothing")
    if not isinstance(seeds, Sequence) or not seeds or any(whole("seeds", seed) < 0 for seed in seeds):
        raise UsageError(f"seeds {seeds}: give at least one, none negative")
    if number("memory budget", memory_budget) <= 0:
        raise UsageError(f"memory budget {memory_budget}: expected a number of bytes above 0")


def _judged(job: _Job, resolved: Resolved, *, may_drop: bool) -> Verdict:
    job.progress("making inputs", 0.0)
    opened = open_primary(job.before, resolved.names[0])
    _demand_loaded(job, opened, resolved.names[0])
    feeding = find_feeds(job.recipe, opened)
    held = Held(opened if job.before.weight_bytes <= job.memory_budget else None)
    del opened
    judged = _sites(job, feeding, resolved.names[0])
    job = replace(job, sites=tuple(item.site for item in judged.evidence))
    feeds = feeding.feeds + judged.feeds
    save_feeds(job.recipe, feeds)
    if job.backend is not None:
        known = (*feeding.assumed, *_notes(job))
        return judge_on_backend(BackendJob(_pair(job, feeds, "cpu"), job.backend, judged, known, held, job.progress))
    parts: dict[str, PairEvidence] = {}
    notes = [*resolved.notes, *feeding.assumed, *_notes(job)]
    for position, name in enumerate(resolved.names):
        found = _on_provider(job, feeds, name, held if position == 0 else Held(), may_drop)
        if isinstance(found, str):
            notes.append(f"left out: {found}")
        else:
            parts[name] = found if job.exact else doubted(job.before, name, feeding.feeds, found)
    judged = replace(judged, doubts=(*judged.doubts, *job.interface.defaults_read_by_one()))
    evidence = Evidence(parts, judged, tuple(notes))
    if judged.unlike is not None and not evidence.differs:
        job.progress("trying what is not the same on its own", 1.0)
    verdict = verdict_of(job.before.model, evidence, job.tolerance, job.options)
    return _diagnosed(job, verdict, feeds) if job.diagnose else verdict


def _diagnosed(job: _Job, verdict: Verdict, feeds: tuple[Feed, ...]) -> Verdict:
    """The verdict with the first value that differs and likely causes, where outputs differ."""
    failing = [item for item in verdict.outputs if item.outcome != "equivalent"]
    if not failing:
        return verdict
    job.progress("looking for the cause", 1.0)
    item = min(failing, key=lambda item: (item.outcome != "different", item.run.optimise))
    feed = next(feed for feed in feeds if feed.label == item.run.inputs)
    exact = item.tolerance == "exact" and item.dtype in UNIT_ROUNDOFF
    case = Case(job.before, job.after, feed, item.run, exact, job.memory_budget)
    symptoms = Symptoms(case, verdict.outputs, job.tolerance)
    try:
        found = find_divergence(case)
        if isinstance(found, str):
            return replace(verdict, triage=causes(symptoms), notes=(*verdict.notes, found))
        return replace(verdict, divergence=found, triage=causes(replace(symptoms, divergence=found)))
    except (ProviderError, MemoryError) as error:
        return replace(verdict, notes=(*verdict.notes, f"the cause was not looked into any further: {error}"))


def _demand_loaded(job: _Job, opened: Session | RunFailure, provider: str) -> None:
    """Where `before` cannot be loaded there is nothing to compare with, whatever `after` is."""
    if not isinstance(opened, RunFailure) or not opened.is_of_model:
        return
    after = open_primary(job.after, provider)
    other = f"; nor the model after: {after.message}" if isinstance(after, RunFailure) else ""
    if other.endswith(opened.message):
        other = "; nor the model after, for the same reason"
    name = job.before.title or "the model before"
    message = f"{runtime_version()} ({provider}) cannot load {name}: {opened.message}{other}"
    raise UnloadableError(message, opened.message)


def _sites(job: _Job, feeding: Feeding, provider: str) -> Judged:
    """The sites of the rewrite; without one, all that the two models have."""
    return judge_sites(
        SiteJob(
            job.before,
            job.after,
            feeding.feeds,
            lambda: further_feeds(job.recipe, feeding.guess),
            job.sites,
            provider,
            job.exact,
            job.memory_budget,
            job.progress,
            lambda model, conditions: further_feeds(job.recipe, feeding.guess, thresholds(model, conditions)),
            lambda sizes: sized_feeds(job.recipe, feeding.guess, sizes),
            job.tolerance,
            {name: Interval(*ends) for name in job.recipe.names if (ends := job.recipe.limits.of(name)) is not None},
        )
    )


def _on_provider(job: _Job, feeds: tuple[Feed, ...], name: str, held: Held, may_drop: bool) -> PairEvidence | str:
    """The evidence, or why there is none on a provider that nobody asked for by name."""
    try:
        return run_pair(
            _pair(job, feeds, name), held, lambda done: job.progress(f"running on {name}", 0.2 + 0.8 * done)
        )
    except ProviderError as error:
        if may_drop:
            return str(error)
        raise


def _pair(job: _Job, feeds: tuple[Feed, ...], provider: str) -> Pair:
    return Pair(job.before, job.after, provider, feeds, job.tolerance, job.exact, job.sites, job.memory_budget)


def _notes(job: _Job) -> tuple[str, ...]:
    """What a reader should know of the two models, without their being run."""
    same = job.before.has_content_of(job.after)
    return ("the two models have the same content", *job.interface.notes) if same else job.interface.notes

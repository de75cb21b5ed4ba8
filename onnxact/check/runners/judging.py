"""(what a check is asked for, a Backend) -> Verdict: ONNX Runtime's CPU provider says what is right.

The sites are judged on ONNX Runtime as in any check, and those that the backend runs on their own are tried there too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from onnxact.check.conclusion import Evidence, verdict_of
from onnxact.check.knowledge import Knowledge
from onnxact.check.pairs import Finding, Held, Pair, PairEvidence
from onnxact.check.providers import runtime_version
from onnxact.check.runners.backend import Backend
from onnxact.check.runners.comparing import compared_on_both, run_on_backend
from onnxact.check.runners.trials import Trial, described, try_sites
from onnxact.check.session import RunFailure
from onnxact.check.site_evidence import SiteEvidence, SiteProbe
from onnxact.check.sites import Judged, Progress
from onnxact.check.verdict import Verdict


@dataclass(frozen=True)
class BackendJob:
    """Two models, their sites as judged on ONNX Runtime, and what is to be run where. `notes`: what is known."""

    pair: Pair
    backend: Backend
    judged: Judged
    notes: tuple[str, ...]
    held: Held
    progress: Progress


def judge_on_backend(job: BackendJob) -> Verdict:
    """The verdict. A backend that refuses `after` makes it "different", with what it said."""
    pair, backend = job.pair, job.backend
    job.progress(f"running on {backend.title}", 0.3)
    found = run_on_backend(
        pair, backend, job.held, lambda done: job.progress(f"running on {backend.title}", 0.3 + 0.5 * done)
    )
    refused = any(run.after != "ran" for run in found.runs)
    trials = {} if refused else _trials(job)
    found = found.plus(PairEvidence(findings=tuple(_findings(trials, backend))))
    sites = tuple(_with_trial(item, trials.get(item.site), backend) for item in job.judged.evidence)
    notes = (*job.notes, *described(trials, backend))
    evidence = Evidence({backend.name: found}, replace(job.judged, evidence=sites), notes)
    verdict = verdict_of(pair.before.model, evidence, pair.tolerance, pair.before.options)
    verdict = replace(verdict, runtime=f"{backend.title}, {runtime_version()}")
    return replace(verdict, notes=(*verdict.notes, *_own(job, verdict)))


def _trials(job: BackendJob) -> Mapping[SiteProbe, Trial]:
    job.progress(f"running sites on {job.backend.title}", 0.8)
    pair = job.pair
    sites = tuple(item.site for item in job.judged.evidence)
    known = Knowledge(pair.before, pair.after, sites, "cpu", pair.exact)
    return try_sites(known, job.backend, pair.tolerance.of("")) if sites else {}


def _findings(trials: Mapping[SiteProbe, Trial], backend: Backend) -> Iterator[Finding]:
    """A site that is another function on the backend; where no output shows it, what was run on did not reach it."""
    for probe, trial in trials.items():
        if trial.differs:
            yield Finding("inconclusive", f"{probe}: on its own on {backend.title}, it {trial.text}")


def _with_trial(item: SiteEvidence, trial: Trial | None, backend: Backend) -> SiteEvidence:
    if trial is None:
        return item
    note = f"on {backend.title}: {trial.text}"
    outcome = "different" if trial.differs else item.outcome
    return replace(item, outcome=outcome, notes=(*item.notes, note))


def _own(job: BackendJob, verdict: Verdict) -> Iterator[str]:
    """Where outputs differ: whether the backend computes `before` any better."""
    failing = {item.run.inputs for item in verdict.outputs if item.outcome != "equivalent"}
    feed = next((feed for feed in job.pair.feeds if feed.label in failing), None)
    if feed is None:
        return
    found = compared_on_both(job.pair.before, job.backend, feed)
    if isinstance(found, RunFailure):
        yield f"the model before on {job.backend.title}: it {found}"
    elif any(item.outcome != "equivalent" for item in found):
        worst = max(found, key=lambda item: (item.outcome != "equivalent", item.max_abs))
        yield f"{job.backend.title} does not compute the model before, either: output {worst.name}, {worst.reason}"
    else:
        yield f"{job.backend.title} computes the model before as ONNX Runtime does, so the rewrite differs there"

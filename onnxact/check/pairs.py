"""(before, after, provider, inputs) -> every run of both, optimisation off and on, and what their outputs show."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from onnxact.check.batches import Batch, byte_count, plan_batches, repeated
from onnxact.check.compare import Leaf, compare_sized, sized
from onnxact.check.inputs import Feed
from onnxact.check.noise import is_optimised_ahead, noise_floor
from onnxact.check.placement import Counts, SitePlacement, Whereabouts, place_sites, place_sites_on_cpu
from onnxact.check.session import Outputs, RunFailure, Session, demand_valid, open_session, run_session, whereabouts
from onnxact.check.site_evidence import SiteProbe
from onnxact.check.sites import DEFAULT_MEMORY_BUDGET
from onnxact.check.subject import Subject
from onnxact.check.tolerance import EXACT, Tolerance
from onnxact.check.verdict import Outcome, OutputEvidence, Run
from onnxact.errors import ProviderError
from onnxact.words import counted

Result = Outputs | RunFailure
# By output name, measured once for every comparison.
Reference = Mapping[str, tuple[Leaf, ...]] | RunFailure
_SHOWN = 3
RAN_BEFORE = "ran before, "
"""How the reason begins where one model runs and the other does not."""


@dataclass(frozen=True)
class Finding:
    """Something that bears on the verdict beyond the outputs."""

    outcome: Outcome
    reason: str


@dataclass(frozen=True)
class PairEvidence:
    """What one provider showed."""

    runs: tuple[Run, ...] = ()
    outputs: tuple[OutputEvidence, ...] = ()
    findings: tuple[Finding, ...] = ()
    placements: tuple[SitePlacement, ...] = ()
    notes: tuple[str, ...] = ()

    def plus(self, other: PairEvidence) -> PairEvidence:
        """Both together."""
        return PairEvidence(
            self.runs + other.runs,
            self.outputs + other.outputs,
            tuple(dict.fromkeys(self.findings + other.findings)),
            self.placements + other.placements,
            self.notes + other.notes,
        )


@dataclass(frozen=True)
class Pair:
    """What is to be run, and how it is judged. `exact`: on the CPU with optimisation off, values have to be equal."""

    before: Subject
    after: Subject
    provider: str
    feeds: tuple[Feed, ...]
    tolerance: Tolerance
    exact: bool = False
    sites: tuple[SiteProbe, ...] = ()
    memory_budget: int = DEFAULT_MEMORY_BUDGET

    @property
    def elsewhere(self) -> bool:
        """Whether nodes could run on another provider than the one asked for: a session always has the CPU, too."""
        return self.provider != "cpu"


class Held:
    """A session that its user takes over, so that nobody else keeps the model in memory."""

    def __init__(self, session: Session | RunFailure | None = None) -> None:
        self._session = session

    def take(self) -> Session | RunFailure | None:
        """The session, which is not held any longer."""
        session, self._session = self._session, None
        return session


@dataclass(frozen=True)
class _Side:
    """What one model gave in one session: results by set of inputs, and where its nodes ran."""

    results: tuple[Reference, ...]
    counts: Counts = ()
    where: Whereabouts | None = None
    unstable: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Against:
    """What `after` is compared with: `before` by set of inputs, the noise level by tensor path, the tolerance."""

    before: _Side
    noise: Mapping[str, float]
    tolerance: Tolerance


def run_pair(pair: Pair, held: Held | None = None, progress: Callable[[float], None] | None = None) -> PairEvidence:
    """Run everything on one provider. `held` may hold the primary session of `before`, loaded already.

    One session is alive at a time, and results within the memory budget. `progress` is called with the fraction done.
    Raises ProviderError where a session does not get the provider, or a site of `after` did not run on it; UsageError
    where an output does not fit the budget; UnloadableError where `after` is no valid model or has an unknown op.
    """
    report = progress or (lambda _fraction: None)
    session = (held or Held()).take() or open_primary(pair.before, pair.provider)
    first = _result(session, pair.feeds[0], None)
    batches = _batches(pair, first)
    plain = _primary(pair, batches[0], session, first)
    del session, first
    evidence = _batch_evidence(pair, batches[0], plain, lambda done: report(done / len(batches)))
    for number, batch in enumerate(batches[1:], 1):
        plain = _primary(pair, batch, open_primary(pair.before, pair.provider), None)
        evidence = evidence.plus(_batch_evidence(pair, batch, plain, lambda _done: None))
        report((number + 1) / len(batches))
    return evidence


def open_primary(subject: Subject, provider: str) -> Session | RunFailure:
    """The session of the primary run: optimisation off, and elsewhere than on the CPU every node can be looked up."""
    return open_session(subject, provider, optimise=False, name_nodes=provider != "cpu")


def _batches(pair: Pair, first: Result) -> tuple[Batch, ...]:
    if isinstance(first, RunFailure):
        return (Batch(pair.feeds),)
    return plan_batches(pair.feeds, {name: byte_count(value) for name, value in first.items()}, pair.memory_budget)


def _primary(pair: Pair, batch: Batch, session: Session | RunFailure, first: Result | None) -> _Side:
    """`before` with optimisation off; `first` is what it gave on the first inputs, where that is known."""
    values = (first if batch.outputs is None else None) or _result(session, batch.feeds[0], batch.outputs)
    results = [_sized(values), *(_sized(_result(session, feed, batch.outputs)) for feed in batch.feeds[1:])]
    again = {at: _result(session, batch.feeds[at], batch.outputs) for at in repeated(batch.feeds)}
    unstable = [name for at, result in again.items() for name in _unstable(results[at], result, pair.provider)]
    where = whereabouts(session, pair.before, batch.feeds[0].values) if pair.elsewhere else None
    return _Side(tuple(results), _counts(session, where), where, tuple(dict.fromkeys(unstable)))


def _batch_evidence(pair: Pair, batch: Batch, plain: _Side, report: Callable[[float], None]) -> PairEvidence:
    report(0.3)
    optimised = _optimised(pair, batch)
    report(0.5)
    noise = noise_floor(_switched(pair, batch, plain, optimised))
    noise.update(dict.fromkeys(plain.unstable, math.inf))
    off = _compared(pair, batch, _Against(plain, noise, _tolerance(pair)), optimise=False)
    report(0.75)
    on = _compared(pair, batch, _Against(optimised, noise, pair.tolerance), optimise=True)
    report(1.0)
    found = off.plus(on)
    return replace(found, outputs=tuple(_doubted(item, plain.unstable) for item in found.outputs))


def _doubted(item: OutputEvidence, unstable: Collection[str]) -> OutputEvidence:
    """An output that the unchanged model does not repeat shows nothing by being equal, either."""
    if item.outcome == "different" or item.name not in unstable:
        return item
    text = "differs between two runs of the unchanged model on the same inputs, so it cannot tell"
    return replace(item, outcome="inconclusive", judged_by="", reason=text)


def _tolerance(pair: Pair) -> Tolerance:
    """Of the runs with optimisation off."""
    return EXACT if pair.exact and pair.provider == "cpu" else pair.tolerance


def _optimised(pair: Pair, batch: Batch) -> _Side:
    session = open_session(pair.before, pair.provider, optimise=True)
    results = tuple(_sized(_result(session, feed, batch.outputs)) for feed in batch.feeds)
    return _Side(results, _counts(session, None))


def _result(session: Session | RunFailure, feed: Feed, outputs: Sequence[str] | None) -> Result:
    return session if isinstance(session, RunFailure) else run_session(session, feed.values, outputs)


def _sized(result: Result) -> Reference:
    return result if isinstance(result, RunFailure) else {name: sized(name, value) for name, value in result.items()}


def _counts(session: Session | RunFailure, where: Whereabouts | None) -> Counts:
    if where is not None:
        return where.placement.counts
    return () if isinstance(session, RunFailure) else session.placement or ()


def _unstable(first: Reference, second: Result, provider: str) -> tuple[str, ...]:
    """The tensors in which one model on one set of inputs is not equivalent to itself."""
    if isinstance(first, RunFailure) or isinstance(second, RunFailure):
        return ()
    run = Run("repeated", provider, False)
    items = [
        item
        for name, tensors in first.items()
        for item in compare_sized(name, run, tensors, second[name], tolerance=Tolerance(), noise={})
    ]
    return tuple(item.name for item in items if item.outcome != "equivalent")


def _switched(pair: Pair, batch: Batch, plain: _Side, optimised: _Side) -> Iterable[tuple[Reference, Reference]]:
    """The results of one model with optimisation off and on: of `before`, or where that can no longer be switched off
    in it, of `after`, which says how far rounding alone moves what both compute.
    """
    if not is_optimised_ahead(pair.before.model) or is_optimised_ahead(pair.after.model):
        return zip(plain.results, optimised.results, strict=True)
    sessions = [open_session(pair.after, pair.provider, optimise=optimise) for optimise in (False, True)]
    off, on = ([_sized(_result(one, feed, batch.outputs)) for feed in batch.feeds] for one in sessions)
    return zip(off, on, strict=True)


def _compared(pair: Pair, batch: Batch, against: _Against, *, optimise: bool) -> PairEvidence:
    """`after` on every set of inputs, one result held at a time, against what `before` gave."""
    elsewhere = pair.elsewhere and not optimise
    opened = open_session(pair.after, pair.provider, optimise=optimise, name_nodes=elsewhere)
    if not all(isinstance(before, RunFailure) and before.stage == "load" for before in against.before.results):
        demand_valid(pair.after, pair.provider, opened)
    where = whereabouts(opened, pair.after, batch.feeds[0].values) if elsewhere else None
    placed = _placed(pair, against.before.where, where) if batch.is_first and not optimise else PairEvidence()
    for feed, before in zip(batch.feeds, against.before.results, strict=True):
        run = Run(
            feed.label,
            pair.provider,
            optimise,
            before=str(before) if isinstance(before, RunFailure) else "ran",
            placement=_counts(opened, where),
            placement_before=against.before.counts,
        )
        placed = placed.plus(_one(run, before, _result(opened, feed, batch.outputs), against))
    return placed


def _placed(pair: Pair, before: Whereabouts | None, after: Whereabouts | None) -> PairEvidence:
    """Where the sites ran. On the CPU alone a session has nothing else to run on."""
    notes = _fallen_back(pair.provider, after) if pair.elsewhere else ()
    if not pair.sites:
        return PairEvidence(notes=notes)
    views = pair.before.view, pair.after.view
    if not pair.elsewhere:
        return PairEvidence(placements=place_sites_on_cpu(views, pair.sites))
    if before is None or after is None:
        return PairEvidence(notes=notes)
    placements = place_sites(views, (before, after), pair.sites, pair.provider)
    _demand_sites(placements, pair.provider)
    unclear = (Finding("inconclusive", f"{item.site}: {item.unclear}") for item in placements if item.unclear)
    return PairEvidence(placements=placements, findings=tuple(unclear), notes=notes)


def _demand_sites(placements: Sequence[SitePlacement], provider: str) -> None:
    fallen = [item for item in placements if item.fell_back]
    if fallen:
        shown = "; ".join(map(str, fallen[:_SHOWN]))
        more = f" and {len(fallen) - _SHOWN} more" if len(fallen) > _SHOWN else ""
        raise ProviderError(
            f"provider {provider} did not run every site of the model (nodes by provider: {shown}{more})"
        )


def _fallen_back(provider: str, where: Whereabouts | None) -> tuple[str, ...]:
    others = {} if where is None else {name: where.placement.ops(name) for name, _ in where.placement.counts}
    others.pop(provider, None)
    counts = {name: ", ".join(f"{op} {count}" for op, count in ops.items()) for name, ops in others.items()}
    return tuple(
        f"{provider}: {counted(sum(others[name].values()), 'node')} ran on {name}: {text}"
        for name, text in counts.items()
    )


def _one(run: Run, before: Reference, after: Result, against: _Against) -> PairEvidence:
    if isinstance(before, RunFailure) or isinstance(after, RunFailure):
        run = replace(run, after=str(after) if isinstance(after, RunFailure) else "ran")
        return PairEvidence((run,), (), (_failed(run, before, after),))
    outputs = (
        compare_sized(name, run, tensors, after[name], tolerance=against.tolerance, noise=against.noise)
        for name, tensors in before.items()
    )
    return PairEvidence((run,), tuple(item for items in outputs for item in items))


def _failed(run: Run, before: Reference, after: Result) -> Finding:
    """Load failures are the same for all inputs, so their reason names none; equal findings are listed once."""
    failures = [result for result in (before, after) if isinstance(result, RunFailure)]
    where = f"{run.provider}, optimisation {'on' if run.optimise else 'off'}"
    if all(failure.stage == "run" for failure in failures):
        where = str(run)
    if not isinstance(before, RunFailure):
        telling = isinstance(after, RunFailure) and after.is_of_model
        return Finding("different" if telling else "inconclusive", f"{RAN_BEFORE}{after} ({where})")
    if not isinstance(after, RunFailure):
        return Finding("inconclusive", f"before {before}, so there is nothing to compare with ({where})")
    return Finding("inconclusive", f"neither model runs: before {before}; after {after} ({where})")

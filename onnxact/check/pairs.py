"""(before, after, provider, inputs) -> every run of both, optimisation off and on, and what their outputs show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from onnxact.check.compare import compare, noise_levels
from onnxact.check.inputs import Feed
from onnxact.check.session import Outputs, RunFailure, Session, open_session, run_session
from onnxact.check.subject import Subject
from onnxact.check.verdict import Outcome, OutputEvidence, Run, Tolerance

Result = Outputs | RunFailure


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


@dataclass(frozen=True)
class Pair:
    """What is to be run, and how it is judged. `exact`: on the CPU with optimisation off, values have to be equal."""

    before: Subject
    after: Subject
    provider: str
    feeds: tuple[Feed, ...]
    tolerance: Tolerance
    exact: bool = False


@dataclass(frozen=True)
class _Reference:
    """What `before` gave on each set of inputs, by optimisation, and its noise floor by tensor path."""

    results: Mapping[bool, tuple[Result, ...]]
    noise: Mapping[str, float]
    unstable: tuple[str, ...]


@dataclass(frozen=True)
class _Judge:
    """How outputs are judged: the tolerance, and the noise level by tensor path."""

    tolerance: Tolerance
    noise: Mapping[str, float]


def run_pair(
    pair: Pair, opened: Session | RunFailure | None = None, progress: Callable[[float], None] | None = None
) -> PairEvidence:
    """Run everything on one provider. `opened` is `before` with optimisation off, if it is loaded already.

    `progress` is called with the fraction done. Raises ProviderError where a session does not get the provider.
    """
    report = progress or (lambda _fraction: None)
    reference = _reference(pair, opened)
    report(0.5)
    plain = _compared(pair, reference, optimise=False)
    report(0.75)
    optimised = _compared(pair, reference, optimise=True)
    report(1.0)
    text = "differs between two runs of the unchanged model on the same inputs"
    unstable = [Finding("inconclusive", f"output {path} {text} ({pair.provider})") for path in reference.unstable]
    return PairEvidence(
        plain.runs + optimised.runs,
        plain.outputs + optimised.outputs,
        (*unstable, *dict.fromkeys(plain.findings + optimised.findings)),
    )


def _reference(pair: Pair, opened: Session | RunFailure | None) -> _Reference:
    session = open_session(pair.before, pair.provider, optimise=False) if opened is None else opened
    plain = _results(session, pair.feeds)
    repeated = _results(session, pair.feeds[:1])
    del session, opened
    optimised = _results(open_session(pair.before, pair.provider, optimise=True), pair.feeds)
    unstable = _unstable(plain[0], repeated[0], pair.provider)
    noise = _noise([*zip(plain, repeated, strict=False), *zip(plain, optimised, strict=True)])
    return _Reference({False: plain, True: optimised}, {**noise, **dict.fromkeys(unstable, math.inf)}, unstable)


def _results(session: Session | RunFailure, feeds: Sequence[Feed]) -> tuple[Result, ...]:
    if isinstance(session, RunFailure):
        return (session,) * len(feeds)
    return tuple(run_session(session, feed.values) for feed in feeds)


def _unstable(first: Result, second: Result, provider: str) -> tuple[str, ...]:
    """The tensors in which one model on one set of inputs is not equivalent to itself."""
    if isinstance(first, RunFailure) or isinstance(second, RunFailure):
        return ()
    run = Run("repeated", provider, False)
    items = [
        item
        for name in first
        for item in compare(name, run, first[name], second[name], tolerance=Tolerance(), noise={})
    ]
    return tuple(item.name for item in items if item.outcome != "equivalent")


def _noise(pairs: Iterable[tuple[Result, Result]]) -> dict[str, float]:
    """Tensor path -> the largest noise level over all pairs of results."""
    found: dict[str, float] = {}
    for first, second in pairs:
        if isinstance(first, RunFailure) or isinstance(second, RunFailure):
            continue
        for name in first:
            for path, level in noise_levels(name, first[name], second[name]).items():
                found[path] = max(level, found.get(path, 0.0))
    return found


def _compared(pair: Pair, reference: _Reference, *, optimise: bool) -> PairEvidence:
    """`after` on every set of inputs, one result held at a time, against what `before` gave."""
    session = open_session(pair.after, pair.provider, optimise=optimise)
    exact = pair.exact and pair.provider == "cpu" and not optimise
    judge = _Judge(Tolerance(0.0, 0.0) if exact else pair.tolerance, reference.noise)
    parts = [
        _one(Run(feed.label, pair.provider, optimise, _status(before)), feed, session, before, judge)
        for feed, before in zip(pair.feeds, reference.results[optimise], strict=True)
    ]
    return PairEvidence(
        tuple(run for part in parts for run in part.runs),
        tuple(item for part in parts for item in part.outputs),
        tuple(finding for part in parts for finding in part.findings),
    )


def _one(run: Run, feed: Feed, session: Session | RunFailure, before: Result, judge: _Judge) -> PairEvidence:
    after = session if isinstance(session, RunFailure) else run_session(session, feed.values)
    placed = () if isinstance(session, RunFailure) else session.placement or ()
    run = replace(run, after=_status(after), placement=placed)
    if isinstance(before, RunFailure) or isinstance(after, RunFailure):
        return PairEvidence((run,), (), (_failed(run, before, after),))
    outputs = (
        compare(name, run, before[name], after[name], tolerance=judge.tolerance, noise=judge.noise) for name in before
    )
    return PairEvidence((run,), tuple(item for items in outputs for item in items))


def _status(result: Result) -> str:
    return str(result) if isinstance(result, RunFailure) else "ran"


def _failed(run: Run, before: Result, after: Result) -> Finding:
    """Load failures are the same for all inputs, so their reason names none; equal findings are listed once."""
    failures = [result for result in (before, after) if isinstance(result, RunFailure)]
    where = f"{run.provider}, optimisation {'on' if run.optimise else 'off'}"
    if all(failure.stage == "run" for failure in failures):
        where = str(run)
    if not isinstance(before, RunFailure):
        return Finding("different", f"ran before, {after} ({where})")
    if not isinstance(after, RunFailure):
        return Finding("inconclusive", f"before {before}, so there is nothing to compare with ({where})")
    return Finding("inconclusive", f"neither model runs: before {before}; after {after} ({where})")

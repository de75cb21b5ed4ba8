"""(before on ONNX Runtime, after on a backend, inputs) -> what their outputs show.

The reference is ONNX Runtime's CPU provider with optimisation off. The noise floor is how far the reference itself
moves when it is run again, or with optimisation on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from onnxact.check.batches import Batch, byte_count, plan_batches
from onnxact.check.compare import Leaf, compare_sized, noise_levels, sized
from onnxact.check.inputs import Feed
from onnxact.check.pairs import Finding, Held, Pair, PairEvidence, open_primary
from onnxact.check.runners.backend import Backend, Opened
from onnxact.check.session import Outputs, RunFailure, Session, open_session, run_session
from onnxact.check.subject import Subject
from onnxact.check.tolerance import Tolerance
from onnxact.check.verdict import OutputEvidence, Run

Reference = Mapping[str, tuple[Leaf, ...]] | RunFailure


@dataclass(frozen=True)
class _Expected:
    """What `before` gave, by set of inputs, and its noise level by tensor path."""

    results: tuple[Reference, ...]
    noise: Mapping[str, float]


def run_on_backend(pair: Pair, backend: Backend, held: Held, progress: Callable[[float], None]) -> PairEvidence:
    """Run `before` on ONNX Runtime and `after` on the backend. `held` may hold the session of `before`.

    One model is loaded at a time, and results stay within the memory budget. Raises ProviderError where the backend
    does not start, UsageError where an output does not fit the budget.
    """
    first = held.take() or open_primary(pair.before, "cpu")
    batches = _batches(pair, first)
    session: Session | RunFailure | None = first
    del first
    found = PairEvidence(notes=(f"before ran on ONNX Runtime's CPU provider, after on {backend.title}",))
    for number, batch in enumerate(batches, 1):
        expected = _expected(pair, batch, session or open_primary(pair.before, "cpu"))
        session = None
        found = found.plus(_compared(pair, backend, batch, expected))
        progress(number / len(batches))
    return replace(found, findings=tuple(dict.fromkeys(found.findings)))


def compared_on_both(subject: Subject, backend: Backend, feed: Feed) -> tuple[OutputEvidence, ...] | RunFailure:
    """One model on ONNX Runtime and on the backend, by the default tolerance; or why one of the two does not run it."""
    session = open_primary(subject, "cpu")
    expected = _result(session, feed, None)
    actual = _result(backend.open(subject), feed, None)
    for result in (actual, expected):
        if isinstance(result, RunFailure):
            return result
    run = Run(feed.label, backend.name, False, is_backend=True)
    return tuple(_judged(run, _sized(expected), actual, Tolerance(), {}))


def _batches(pair: Pair, session: Session | RunFailure) -> tuple[Batch, ...]:
    first = _result(session, pair.feeds[0], None)
    if isinstance(first, RunFailure):
        return (Batch(pair.feeds),)
    return plan_batches(pair.feeds, {name: byte_count(value) for name, value in first.items()}, pair.memory_budget)


def _expected(pair: Pair, batch: Batch, session: Session | RunFailure) -> _Expected:
    results = tuple(_sized(_result(session, feed, batch.outputs)) for feed in batch.feeds)
    noise: dict[str, float] = {}
    _add_noise(noise, results[0], _result(session, batch.feeds[0], batch.outputs))
    del session
    optimised = open_session(pair.before, "cpu", optimise=True)
    for feed, before in zip(batch.feeds, results, strict=True):
        _add_noise(noise, before, _result(optimised, feed, batch.outputs))
    return _Expected(results, noise)


def _add_noise(noise: dict[str, float], first: Reference, second: Outputs | RunFailure) -> None:
    again = _sized(second)
    if isinstance(first, RunFailure) or isinstance(again, RunFailure):
        return
    for name, tensors in first.items():
        for path, level in noise_levels(tensors, again[name]).items():
            noise[path] = max(level, noise.get(path, 0.0))


def _compared(pair: Pair, backend: Backend, batch: Batch, expected: _Expected) -> PairEvidence:
    opened, found = backend.open(pair.after), PairEvidence()
    for feed, before in zip(batch.feeds, expected.results, strict=True):
        run = Run(feed.label, backend.name, False, is_backend=True)
        after = _result(opened, feed, batch.outputs)
        if isinstance(before, RunFailure) or isinstance(after, RunFailure):
            found = found.plus(_failed(run, backend, before, after))
        else:
            outputs = tuple(_judged(run, before, after, pair.tolerance, expected.noise))
            found = found.plus(PairEvidence((run,), outputs))
    return found


def _judged(
    run: Run, before: Reference, after: Outputs | RunFailure, tolerance: Tolerance, noise: Mapping[str, float]
) -> Iterator[OutputEvidence]:
    if isinstance(before, RunFailure) or isinstance(after, RunFailure):
        return
    for name, tensors in before.items():
        yield from compare_sized(name, run, tensors, after[name], tolerance=tolerance, noise=noise)


def _failed(run: Run, backend: Backend, before: Reference, after: Outputs | RunFailure) -> PairEvidence:
    """A model that the backend refuses is not what it was: there it computes nothing."""
    texts = [str(item) if isinstance(item, RunFailure) else "ran" for item in (before, after)]
    run = replace(run, before=texts[0], after=texts[1])
    if isinstance(before, RunFailure):
        text = f"before {before} on ONNX Runtime, so there is nothing to compare with"
        return PairEvidence((run,), findings=(Finding("inconclusive", text),))
    telling = isinstance(after, RunFailure) and after.is_of_model
    text = f"{backend.title} refuses the model after: it {after}"
    return PairEvidence((run,), findings=(Finding("different" if telling else "inconclusive", text),))


def _result(opened: Session | Opened | RunFailure, feed: Feed, outputs: tuple[str, ...] | None) -> Outputs | RunFailure:
    """Of a backend's outputs, which it gives all at once, those that are asked for."""
    if isinstance(opened, RunFailure):
        return opened
    if isinstance(opened, Session):
        return run_session(opened, feed.values, outputs)
    found = opened.run(feed.values)
    return found if isinstance(found, RunFailure) or outputs is None else {name: found[name] for name in outputs}


def _sized(result: Outputs | RunFailure) -> Reference:
    return result if isinstance(result, RunFailure) else {name: sized(name, value) for name, value in result.items()}

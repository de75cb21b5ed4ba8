"""(what PyTorch gives, the file on ONNX Runtime) -> the evidence of every output in every run.

The noise floor is how far the unchanged model moves: the module without oneDNN's kernels, or, in half precision, with
its arithmetic in float32; the file when ONNX Runtime's optimisation is switched. It is measured only where an output
is outside the tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnxact.check.compare import compare_sized, noise_levels, sized
from onnxact.check.inputs import Feed
from onnxact.check.pairs import Finding, PairEvidence
from onnxact.check.session import RunFailure, Session, open_session, run_session
from onnxact.check.subject import Subject
from onnxact.check.tolerance import Tolerance
from onnxact.check.verdict import Run
from onnxact.export.eager import Eager
from onnxact.export.failures import said

Values = Mapping[str, Any] | RunFailure
_UNSTABLE = "the module itself gives other outputs when it is run again on the same inputs: it draws random numbers"
_AT_RANDOM = f"{_UNSTABLE} in evaluation mode, as F.dropout without training=self.training does"
_AS_EXPORTED = f"{_UNSTABLE}, as dropout does in a program that was exported without module.eval()"


class Expected:
    """What PyTorch gives, by set of inputs; worked out when asked for, and kept as far as the budget of bytes goes."""

    def __init__(self, eager: Eager, budget: int) -> None:
        self._eager = eager
        self._budget = budget
        self._values: dict[str, Values] = {}
        self._noise: dict[str, dict[str, float]] = {}

    def on(self, feed: Feed) -> Values:
        """Return the outputs on one set of inputs, or why there are none."""
        known = self._values.get(feed.label)
        if known is not None:
            return known
        found = run_eager(self._eager, feed)
        size = 0 if isinstance(found, RunFailure) else sum(value.nbytes for value in found.values())
        if size <= self._budget:
            self._budget -= size
            self._values[feed.label] = found
        return found

    @property
    def why_unstable(self) -> str:
        """What makes a module give other outputs."""
        return _AS_EXPORTED if self._eager.is_program else _AT_RANDOM

    def unstable(self, feed: Feed) -> tuple[str, ...]:
        """Return the tensors in which the module is not equivalent to itself when it is run again."""
        first, second = self.on(feed), run_eager(self._eager, feed)
        if isinstance(first, RunFailure) or isinstance(second, RunFailure):
            return ()
        run = Run("repeated", "PyTorch", False)
        items = (
            item
            for name, value in first.items()
            for item in compare_sized(name, run, sized(name, value), second[name], tolerance=Tolerance(), noise={})
        )
        return tuple(item.name for item in items if item.outcome != "equivalent")

    def noise(self, feed: Feed) -> dict[str, float]:
        """Return how far the outputs move with other kernels, or in half precision with wider arithmetic, by path."""
        if feed.label not in self._noise:
            others = [run_eager(self._eager, feed, plain=True)]
            if self._eager.is_half:
                others.append(run_eager(self._eager, feed, wide=True))
            self._noise[feed.label] = _levels(self.on(feed), others)
        return self._noise[feed.label]


@dataclass(frozen=True)
class Comparison:
    """What PyTorch gives, the file that is held against it, and how strictly."""

    expected: Expected
    subject: Subject
    tolerance: Tolerance

    def on(self, provider: str, feeds: Sequence[Feed]) -> PairEvidence:
        """Return what one provider shows, optimisation off and on. Raises ProviderError where a session has it not."""
        unstable = self.expected.unstable(feeds[0])
        noise: dict[str, float] = dict.fromkeys(unstable, math.inf)
        found = PairEvidence(findings=(Finding("inconclusive", self.expected.why_unstable),) if unstable else ())
        for optimise in (False, True):
            found = found.plus(self._at(provider, feeds, noise, optimise=optimise))
        return found

    def _at(self, provider: str, feeds: Sequence[Feed], noise: dict[str, float], *, optimise: bool) -> PairEvidence:
        """Return what one level of optimisation shows; its session, which holds all weights, is gone afterwards."""
        found = PairEvidence()
        session = open_session(self.subject, provider, optimise=optimise)
        for feed in feeds:
            run = Run(feed.label, provider, optimise)
            found = found.plus(self._one(run, feed, _run(session, feed), noise))
        return found

    def _one(self, run: Run, feed: Feed, after: Values, noise: dict[str, float]) -> PairEvidence:
        """Return the evidence of one run; `noise` gets what had to be measured for it."""
        before = self.expected.on(feed)
        found = self._compared(run, before, after, noise)
        if any(item.outcome == "different" for item in found.outputs):
            _add(noise, self.expected.noise(feed))
            _add(noise, self._switched(run, feed))
            found = self._compared(run, before, after, noise)
        return found

    def _compared(self, run: Run, before: Values, after: Values, noise: Mapping[str, float]) -> PairEvidence:
        if isinstance(before, RunFailure) or isinstance(after, RunFailure):
            states = [str(item) if isinstance(item, RunFailure) else "ran" for item in (before, after)]
            run = replace(run, before=states[0], after=states[1])
            return PairEvidence((run,), (), (_failed(run, before, after),))
        outputs = (
            compare_sized(name, run, sized(name, value), after[name], tolerance=self.tolerance, noise=noise)
            for name, value in before.items()
        )
        return PairEvidence((run,), tuple(item for items in outputs for item in items))

    def _switched(self, run: Run, feed: Feed) -> dict[str, float]:
        """Return how far the file moves when optimisation is switched."""
        results = [_run(open_session(self.subject, run.provider, optimise=level), feed) for level in (False, True)]
        return _levels(results[0], results[1:])


def run_eager(eager: Eager, feed: Feed, *, plain: bool = False, wide: bool = False) -> Values:
    """Return what PyTorch gives, or why it gives nothing."""
    try:
        return eager.run(feed.values, plain=plain, wide=wide)
    except Exception as error:  # noqa: BLE001 - whatever the user's code raises is what is shown
        return RunFailure("run", f"in PyTorch: {said(error)}")


def _run(session: Session | RunFailure, feed: Feed) -> Values:
    return session if isinstance(session, RunFailure) else run_session(session, feed.values)


def _failed(run: Run, before: Values, after: Values) -> Finding:
    if isinstance(before, RunFailure):
        return Finding("inconclusive", f"the module {before}, so there is nothing to compare with ({run})")
    lacking = isinstance(after, RunFailure) and after.for_memory
    text = f"it ran in PyTorch, and the exported file {after} ({run})"
    return Finding("inconclusive" if lacking else "different", text)


def _levels(first: Values, others: Sequence[Values]) -> dict[str, float]:
    """Return tensor path -> the largest noise level between a result and others; see noise_levels."""
    found: dict[str, float] = {}
    for other in others:
        if isinstance(first, RunFailure) or isinstance(other, RunFailure):
            continue
        for name, value in first.items():
            _add(found, noise_levels(sized(name, value), sized(name, other[name])))
    return found


def _add(noise: dict[str, float], more: Mapping[str, float]) -> None:
    for path, level in more.items():
        noise[path] = max(level, noise.get(path, 0.0))

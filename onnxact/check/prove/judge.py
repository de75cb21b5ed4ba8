"""What forms made of a chunk of inputs -> tallies: which results keep the form's declared accuracy class.

exact    the bits of the op, or of the reference rounded once, but for the special values and signs of zero that the
         form's row declares;
bounded  at finite inputs inside `rounding.enclosure`, at the others as the reference or as declared; where the form is
         an approximation, the reference is no further from the enclosure than its row says. NaN or infinite where the
         reference is a number only where its row says that a step on the way overflows. A result with the bits of
         the reference rounded once keeps any class; only the others are held against the enclosure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from onnxact.activation.catalog import SPECIAL_INPUTS, Form
from onnxact.activation.expr import TRUE
from onnxact.activation.primitives import Array
from onnxact.activation.rounding import enclosure
from onnxact.check.prove import reference
from onnxact.check.prove.engine import Results
from onnxact.check.prove.model import Subject
from onnxact.check.prove.patterns import Space
from onnxact.check.prove.tally import Differences, Tally, count


@dataclass(frozen=True)
class Side:
    """A form as something to be compared: its row, the place of its output, and whether it is exact here."""

    row: Form
    output: int
    exact: bool

    def keeps(self, space: Space, x: Array, got: Array, wanted: Array) -> Array:
        """Tell where the result is the reference's, or what the row declares in its place."""
        same = (got == wanted) | (space.is_nan(got) & space.is_nan(wanted))
        if self.exact and self.row.exact is not TRUE:
            return np.asarray(same)  # the row's exceptions are for other parameters
        zero = space.is_zero(got) & space.is_zero(wanted) & self.row.signed_zero
        return np.asarray(same | zero | self._declared(space, x, got))

    def _declared(self, space: Space, x: Array, got: Array) -> Array:
        found = np.zeros(x.shape, bool)
        for name, instead in self.row.special.items():
            found |= _is(space, x, SPECIAL_INPUTS[name]) & _is(space, got, instead)
        return found


def _is(space: Space, patterns: Array, value: float) -> Array:
    return space.is_nan(patterns) if np.isnan(value) else np.asarray(patterns == space.patterns([value])[0])


class Chunk:
    """The inputs of one call with what came out; the reference is evaluated once for all forms, and if it is needed."""

    def __init__(self, subject: Subject, engine: Results, size: int) -> None:
        self.subject, self.engine, self.size = subject, engine, size

    @cached_property
    def space(self) -> Space:
        """The dtype's patterns."""
        return Space(self.subject.dtype)

    @property
    def tried(self) -> int:
        """Inputs times slopes."""
        return self.size * max(self.subject.lanes, 1)

    @cached_property
    def x(self) -> Array:
        """The patterns, [size]."""
        return self.engine.input()[: self.size]

    @cached_property
    def exact(self) -> Array:
        """The reference in wide precision, [lanes, size]."""
        return reference.exact(self.subject, self.space.numbers(self.x))

    @cached_property
    def rounded(self) -> Array:
        """The reference rounded once, as patterns, [lanes, size]."""
        return reference.patterns(self.space, self.exact)

    def results(self, side: Side) -> Array:
        """Return what a form made of the inputs, [lanes, size]."""
        return self.engine.output(side.output)[:, : self.size]

    def differences(self, got: Array, wanted: Array, exact: Array | None = None) -> Differences:
        """Return the inputs at which the bits differ; `exact` is what was wanted before rounding, if not the same.

        Two NaNs are only counted.
        """
        differs, nan = got != wanted, self.space.is_nan(got) & self.space.is_nan(wanted)
        unequal, payload = np.flatnonzero(differs & ~nan), int(np.count_nonzero(differs & nan))
        lane, column = np.divmod(unequal, got.shape[1])
        rounded = wanted.reshape(-1)[unequal]
        wide = reference.precision(self.subject)
        before = self.space.numbers(rounded).astype(wide) if exact is None else exact.reshape(-1)[unequal]
        return Differences(self.space, self.x[column], got.reshape(-1)[unequal], rounded, before, lane, payload)


def judge(chunk: Chunk, form: Side, op: Side | None) -> Tally:
    """Return the tally of a form against the op, or without one against the reference."""
    if op is not None and form.exact:
        return _exact_against_op(chunk, form, op)
    if op is not None:
        return _against_op(chunk, form, op) + _within_bound(chunk, form, Tally())
    if form.exact:
        return _exact_against_reference(chunk, form)
    return _within_bound(chunk, form, None)


def _exact_against_op(chunk: Chunk, form: Side, op: Side) -> Tally:
    found = chunk.differences(chunk.results(form), chunk.results(op))
    kept = _both_keep(chunk, found, form, op)
    return count(found, chunk.tried, kept, ~kept)


def _against_op(chunk: Chunk, form: Side, op: Side) -> Tally:
    found = chunk.differences(chunk.results(form), chunk.results(op))
    declared = _both_keep(chunk, found, form, op)
    return count(found, chunk.tried, declared, np.zeros(declared.shape, bool))


def _both_keep(chunk: Chunk, found: Differences, form: Side, op: Side) -> Array:
    """Tell where the difference between form and op is one that their rows declare."""
    if not found.x.size:
        return np.zeros(0, bool)
    wanted = _reference_at(chunk, found)
    form_keeps = form.keeps(chunk.space, found.x, found.got, wanted)
    return np.asarray(form_keeps & op.keeps(chunk.space, found.x, found.wanted, wanted))


def _reference_at(chunk: Chunk, found: Differences) -> Array:
    subject = _with_lane(chunk.subject, found.lane)
    exact = reference.exact(subject, chunk.space.numbers(found.x))
    return np.asarray(reference.patterns(chunk.space, exact)[0])


def _with_lane(subject: Subject, lane: Array) -> Subject:
    """Return the subject with one slope for each element, as if it were a number."""
    each = {n: v[lane, 0] if getattr(v, "ndim", 0) == 2 else v for n, v in subject.parameters.items()}
    return replace(subject, parameters=each)


def _exact_against_reference(chunk: Chunk, form: Side) -> Tally:
    if np.array_equal(chunk.results(form), chunk.rounded):
        return Tally(chunk.tried, chunk.tried)
    found = chunk.differences(chunk.results(form), chunk.rounded, chunk.exact)
    kept = form.keeps(chunk.space, found.x, found.got, found.wanted)
    return count(found, chunk.tried, kept, ~kept)


def _within_bound(chunk: Chunk, form: Side, counted: Tally | None) -> Tally:
    """Return the tally against the reference; only what breaks the bound where the rest is `counted` elsewhere."""
    if np.array_equal(chunk.results(form), chunk.rounded):
        return Tally(chunk.tried, chunk.tried) if counted is None else counted
    found = chunk.differences(chunk.results(form), chunk.rounded, chunk.exact)
    kept = form.keeps(chunk.space, found.x, found.got, found.wanted)
    finite = chunk.space.is_finite(found.x)
    inside = kept.copy()
    inside[finite] = _inside(chunk, form, found, finite)
    inside &= kept | ~found.zero_sign
    if not form.row.overflows:
        inside &= kept | ~found.overflowed
    tally = count(found, chunk.tried, kept, ~inside)
    return tally if counted is None else Tally(broken=tally.broken, examples=tally.examples)


def _inside(chunk: Chunk, form: Side, found: Differences, finite: Array) -> Array:
    """Tell which results at finite inputs lie in the enclosure; NaN where a step may overflow, and the form says so."""
    if not finite.any():
        return np.zeros(0, bool)
    low, high = limits(_with_lane(chunk.subject, found.lane[finite]), form.row, chunk.space.numbers(found.x[finite]))
    got = chunk.space.numbers(found.got[finite]).astype(np.float64)
    inside = (low <= got) & (got <= high)
    if form.row.overflows:
        inside |= np.isnan(got) & (np.isinf(low) | np.isinf(high))
    if form.row.error:
        exact, error = found.exact[finite], form.row.error
        inside &= (low - error <= exact) & (exact <= high + error)
    return np.asarray(inside)


def limits(subject: Subject, row: Form, x: Array) -> tuple[Any, Any]:
    """Return the ends of the form's enclosure at finite numbers, in float64."""
    with np.errstate(all="ignore"):
        found = enclosure(row.expr, x.astype(np.float64), subject.parameters, Space(subject.dtype).kind)
    return found.low, found.high

"""(x, y, form) -> which y the form may give at x, and whether this y is one of them.

    Max(x, 0.2 x) in float32  ->  at -1: within one rounding of -0.2; at -inf: -inf; at -0: a zero of either sign

- x finite: y in the hull of the form's enclosure and f(x), provided that f(x) is within the form's reach: the
  enclosure of a form of another function is elsewhere. Infinite only where the enclosure is, NaN only where it is
  everything (an overflow on the way).
- x NaN or infinite: what f gives, or what the form declares instead (`Form.special`).
- x = +0 or -0, for sites on their own: the zero of f(x) with its sign, unless the form declares `signed_zero`.
- Not on the CPU: results below the smallest normal number may be flushed to zero.
- In 16 bits, inside a model: whatever rounds to the x that was seen may have entered.
- A form that is none of the table: the default relative tolerance of outputs, and two roundings of x; or what the op
  itself may give, of which it may be another kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxact.activation.catalog import FALSE, SPECIAL_INPUTS, Form
from onnxact.activation.expr import Call, Expr, walk
from onnxact.activation.numeric import evaluate, fold, rounded
from onnxact.activation.rounding import enclosure, limits, unit_roundoff
from onnxact.check.compare import DEFAULT_RTOL
from onnxact.check.standard import Array, Standard, Values

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Points:
    """Elements of a site's input and output, one-dimensional, with the parameters that belong to each."""

    x: Array
    y: Array
    function: Values
    own: Values

    def repeated(self, count: int) -> Points:
        """The same points, several times."""
        function, own = (
            {name: np.tile(value, count) if np.ndim(value) else value for name, value in values.items()}
            for values in (self.function, self.own)
        )
        return Points(np.tile(self.x, count), np.tile(self.y, count), function, own)


@dataclass(frozen=True)
class Judged:
    """For every point: f(x), the distance allowed, the distance found, and whether y is outside.

    `declared`: in words, what the form gives at special inputs in place of f(x), where that was seen.
    """

    expected: Array
    allowed: Array
    distance: Array
    outside: Flags
    declared: tuple[str, ...] = ()


@np.errstate(all="ignore")
def judge_points(standard: Standard, points: Points) -> Judged:
    """Hold every point against what the form may give there."""
    x, y = points.x.astype(np.float64), points.y.astype(np.float64)
    wider = _may_be_wider(standard, points.x.dtype)
    entered, here = (_around(x, points.x.dtype), points.repeated(3)) if wider else (x, points)
    exactly = _reference(standard, here, entered)
    reached = _range(standard, here, entered, exactly)
    ends = (exactly, rounded(exactly, points.x.dtype).astype(np.float64), *reached)
    exactly, rounding, lowest, highest, foreign = (item.reshape(3 if wider else 1, x.size) for item in ends)
    expected, nearest, foreign, width = exactly[0], rounding[0], foreign[0], highest[0] - lowest[0]
    low = np.fmin.reduce([np.minimum(lowest[0], nearest), *np.fmin(lowest[1:], rounding[1:])])
    high = np.fmax.reduce([np.maximum(highest[0], nearest), *np.fmax(highest[1:], rounding[1:])])
    overflowed = np.isnan(y) & (low == -np.inf) & (high == np.inf)
    inside = (((low <= y) & (y <= high)) | overflowed) & ~foreign & ~np.isnan(expected)
    allowed = np.where(foreign, width, np.maximum(high - expected, expected - low))
    distance = np.where(same_value(y, expected), 0.0, np.abs(y - expected))
    inside &= np.isfinite(x) | wider
    if standard.exact:
        inside, allowed = np.zeros(x.shape, np.bool_), unit_roundoff(points.x.dtype) * np.abs(expected)
    outside = ~(same_value(y, nearest) | inside)
    said: dict[str, None] = {}
    for at, text in _declared(standard, points, expected, outside):
        outside = outside & ~at
        said[text] = None
    if standard.on_its_own:
        outside = outside | _undeclared_zeros(standard, points, expected, said)
    return Judged(expected, allowed, distance, outside, tuple(said))


@np.errstate(all="ignore")
def judge_exact(standard: Standard, points: Points) -> Judged:
    """Points known to be f(x) rounded once: none is outside. `allowed` is this rounding, not the form's bound."""
    dtype = points.x.dtype
    y = points.y.astype(np.float64)
    expected = _reference(standard, points, points.x.astype(np.float64))
    distance = np.where(same_value(y, expected), 0.0, np.abs(y - expected))
    allowed = unit_roundoff(dtype) * np.maximum(np.abs(expected), float(limits(dtype).smallest_normal))
    return Judged(expected, allowed, distance, np.zeros(y.shape, np.bool_))


def _reference(standard: Standard, points: Points, x: Array) -> Array:
    return np.broadcast_to(standard.reference(x, points.function).astype(np.float64), x.shape)


def _may_be_wider(standard: Standard, dtype: np.dtype[Any]) -> bool:
    """Whether the value that entered may have been float32 inside ONNX Runtime, which has few 16-bit kernels: it casts
    around each, and leaves out casts there and back (1.31, also with optimisation off).
    """
    return dtype.itemsize == 2 and not standard.on_its_own


def _around(x: Array, dtype: np.dtype[Any]) -> Array:
    """x, and the ends of what rounds to it: infinite ones come from beyond the largest number."""
    largest = float(limits(dtype).max)
    finite = np.where(np.isinf(x), np.sign(x) * largest, x)
    margin = unit_roundoff(dtype) * np.abs(finite) + float(limits(dtype).smallest_subnormal)
    return np.concatenate([x, finite - margin, finite + margin])


def same_value(left: Array, right: Array) -> Flags:
    """Where two arrays are equal, NaN being equal to NaN and -0 to +0."""
    return np.asarray((left == right) | (np.isnan(left) & np.isnan(right)))


def _range(standard: Standard, points: Points, at: Array, expected: Array) -> tuple[Array, Array, Flags]:
    """Lowest and highest y of the forms, and where f(x) is out of the reach of all of them.

    An exact form rounds nothing but what f rounds. Others fold constants of their own, each rounded once, so that f(x)
    may be off their enclosure by a roundoff of x or of f(x), whichever is larger (measured: at most 0.64 of it over
    the whole table in float16, bfloat16 and float32); and by what the form is off itself (`Form.error`).
    """
    dtype = points.x.dtype
    x = np.where(np.isfinite(at), at, 0.0)
    unit = unit_roundoff(dtype)
    flushed = _flushed(standard, dtype)
    if not standard.forms:
        reach = DEFAULT_RTOL[dtype.name] * np.abs(expected) + 2 * unit * np.abs(x) + flushed
        low, high = expected - reach, expected + reach
        if "op" in standard.activation.forms:
            kernel = enclosure(standard.activation.forms["op"].expr, x, points.function, dtype)
            low, high = np.fmin(low, kernel.low), np.fmax(high, kernel.high)
        return low, high, np.zeros(x.shape, np.bool_)
    low, high = np.full(x.shape, np.inf), np.full(x.shape, -np.inf)
    foreign = np.ones(x.shape, np.bool_)
    for form in standard.forms:
        found = enclosure(form.expr, x, points.own, dtype)
        slack = unit * np.abs(expected) + flushed
        slack = slack + form.error + (unit * np.abs(x) if form.exact is FALSE else 0.0)
        foreign &= ~((found.low - slack <= expected) & (expected <= found.high + slack))
        low, high = np.minimum(low, found.low), np.maximum(high, found.high)
    extra = 0.0 if standard.on_cpu else flushed
    return low - extra, high + extra, foreign


def _flushed(standard: Standard, dtype: np.dtype[Any]) -> float:
    """How far a result may be off because it is tiny; in float64 the reference itself may lose what is subnormal."""
    held = standard.on_cpu and dtype != np.float64
    return float(limits(dtype).smallest_subnormal if held else limits(dtype).smallest_normal)


def _declared(standard: Standard, points: Points, expected: Array, outside: Flags) -> Iterator[tuple[Flags, str]]:
    """Where the form gives something else at NaN or an infinity and says so."""
    if not (outside & ~np.isfinite(points.x.astype(np.float64))).any():
        return
    for form in standard.forms:
        for name in ("nan", "+inf", "-inf"):
            at_input = same_value(points.x, np.asarray(SPECIAL_INPUTS[name], points.x.dtype))
            for instead, why in _instead(standard, form, name, points):
                at = outside & at_input & same_value(points.y, instead)
                for place in np.flatnonzero(at)[:1]:
                    given, due = float(points.y[place]), float(expected[place])
                    yield at, f"{given:g} where f({name}) is {due:g}, {why}"


def _instead(standard: Standard, form: Form, name: str, points: Points) -> Iterator[tuple[Array, str]]:
    """What else a form may give at a special input: what it declares; with a part computed another way, `form[op=way]`,
    what it gives; where a Clip has no bound, the largest number, which is the bound then (ONNX Clip-13).
    """
    dtype = points.x.dtype
    if standard.own is not None and "[" in standard.own.form:
        yield evaluate(form.expr, points.x, points.own), "as its form has it"
    if name in form.special:
        yield np.asarray(form.special[name], dtype), "as its form declares"
    if name != "nan" and any(_lacks_bound(call, points.own) for call in walk(form.expr)):
        largest = np.asarray(limits(dtype).max if name == "+inf" else limits(dtype).min, dtype)
        yield largest, "since Clip without a bound stops at the largest number"


def _lacks_bound(call: Expr, own: Values) -> bool:
    if not isinstance(call, Call) or call.op != "Clip":
        return False
    return any(np.all(np.isinf(np.asarray(fold(bound, own), np.float64))) for bound in call.args[1:])


def _undeclared_zeros(standard: Standard, points: Points, expected: Array, said: dict[str, None]) -> Flags:
    """Where x is a zero and y the zero of the other sign, although no form that may stand there declares it."""
    zeros: Flags = (points.y == 0) & (expected == 0) & (np.signbit(points.y) != np.signbit(expected))
    if not zeros.any():
        return zeros
    if not standard.forms or any(form.signed_zero for form in standard.forms):
        said["a zero of the other sign than f(x), which its form declares" if standard.forms else _ZERO] = None
        return np.zeros(zeros.shape, np.bool_)
    return np.asarray(zeros & (points.x == 0))


_ZERO = "a zero of the other sign than f(x)"

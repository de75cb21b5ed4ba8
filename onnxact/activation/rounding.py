"""The interval in which a form's result lies at a point, whatever a conforming runtime does.

    x, form, parameters, dtype  ->  [low, high] with  low <= computed <= high

Interval arithmetic in float64: every op maps the interval of its operands and is then widened by its own rounding
(`Primitive.relative`, `.absolute`, `.scale`), plus a smallest subnormal where it may underflow
(sums cannot: a subnormal sum is exact). Exact zeros stay exact
(0 + b and 0 * b round nothing), so the bound of a piecewise form is that of the branch `x` is on. Valid for finite x
in float16, bfloat16 and float32; in float64 the endpoints themselves carry the rounding of the evaluation, for which
u is doubled. Source: Higham 2002, "Accuracy and Stability of Numerical Algorithms", sections 2.2 and 26.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, reduce
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from onnxact.activation.expr import Call, Expr, Variable, varies
from onnxact.activation.numeric import Values, fold, rounded
from onnxact.activation.primitives import PRIMITIVES, Array, Primitive


@dataclass(frozen=True)
class Interval:
    """Two float64 arrays (or two truth arrays: surely true, possibly true)."""

    low: Array
    high: Array


def limits(dtype: DTypeLike) -> Any:
    """Return what `numpy.finfo` returns, for bfloat16 too."""
    return _limits(np.dtype(dtype))


@cache
def _limits(dtype: np.dtype[Any]) -> Any:
    return ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]


def unit_roundoff(dtype: DTypeLike) -> float:
    """Return u, half the distance from 1 to the next number: 2^-24 for float32, 2^-11 for float16."""
    return float(limits(dtype).eps) / 2


def enclosure(expr: Expr, x: Array, parameters: Values, dtype: DTypeLike) -> Interval:
    """Return where `expr` computed in `dtype` may lie at each finite element of `x` (shape of x, float64)."""
    known: dict[Expr, Interval] = {}

    def interval(node: Expr) -> Any:
        if not varies(node):
            folded = fold(node, parameters)
            return folded if isinstance(folded, str) else _point(rounded(folded, dtype))
        if isinstance(node, Variable):
            return _point(x)
        if node not in known and isinstance(node, Call):
            operands = [interval(arg) for arg in node.args]
            if node.op in _WITH_ATTRIBUTES:
                operands[1:] = map(_attribute, node.args[1:], operands[1:])
            known[node] = _apply(PRIMITIVES[node.op], operands, np.dtype(dtype))
        return known[node]

    def _attribute(node: Expr, cast: Interval) -> Interval:
        """Attributes are float32: a runtime computes with that number, or casts it to the dtype first."""
        stated = rounded(fold(node, parameters), np.float32).astype(np.float64)
        return Interval(np.minimum(stated, cast.low), np.maximum(stated, cast.high))

    with np.errstate(all="ignore"):
        result: Interval = interval(expr)
    return result


def _point(value: Array) -> Interval:
    exact = np.asarray(value, np.float64)
    return Interval(exact, exact)


def _apply(op: Primitive, operands: list[Any], dtype: np.dtype[Any]) -> Interval:
    if op.name in _COMPARISONS:
        return _compare(op, *operands)
    if op.name == "Where":
        return _select(*operands)
    if op.name == "Cast":
        return Interval(operands[0].low.astype(np.float64), operands[0].high.astype(np.float64))
    return _widen(_image(op, operands), op, operands, dtype)


def _image(op: Primitive, operands: list[Any]) -> Interval:
    """Return the exact range of `op` over the box of its operands."""
    if op.trend == "up" or all(map(_is_point, operands)):
        low = op.meaning(*map(_low, operands))
        return Interval(low, low if all(map(_is_point, operands)) else op.meaning(*map(_high, operands)))
    if op.trend == "down":
        return Interval(op.meaning(*map(_high, operands)), op.meaning(*map(_low, operands)))
    corners = [op.meaning(*corner) for corner in product(*map(_ends, operands))]
    low, high = reduce(np.minimum, corners), reduce(np.maximum, corners)
    if op.name == "Abs":
        low = np.where(_straddles_zero(operands[0]), 0.0, low)
    if op.name in ("Div", "Reciprocal"):
        low, high = (np.where(_straddles_zero(operands[-1]), np.nan, end) for end in (low, high))
    return Interval(low, high)


def _is_point(operand: Any) -> bool:
    """Tell whether both ends are the same array, as they are of x and of constants."""
    return not isinstance(operand, Interval) or operand.low is operand.high


def _straddles_zero(operand: Interval) -> Any:
    return (operand.low < 0) & (operand.high > 0)


def _widen(image: Interval, op: Primitive, operands: list[Any], dtype: np.dtype[Any]) -> Interval:
    if not (op.relative or op.absolute):
        return image
    info = limits(dtype)
    unit = unit_roundoff(dtype) * (2 if dtype == np.float64 else 1)
    exact = _exact(op, operands)
    scale = op.scale(*map(_magnitude, operands))
    underflow = 0.0 if op.name in ("Add", "Sub") else float(info.smallest_subnormal)
    fixed = op.absolute * unit * scale + underflow * np.maximum(scale, 1)
    below = _margin(image.low, op.relative * unit, fixed, exact)
    above = below if image.high is image.low else _margin(image.high, op.relative * unit, fixed, exact)
    limit = float(info.max) * (1 + unit)
    low, high = image.low - below, image.high + above
    # A comparison with NaN is false: an end that is not known is no bound.
    return Interval(_kept(low, low >= -limit, -np.inf), _kept(high, high <= limit, np.inf))


def _margin(end: Array, relative: float, fixed: Any, exact: Any) -> Any:
    margin = np.abs(end) * relative + fixed
    return np.where(exact, 0.0, margin) if np.any(exact) else margin


def _kept(end: Any, known: Any, otherwise: float) -> Any:
    return end if np.all(known) else np.where(known, end, otherwise)


def _exact(op: Primitive, operands: list[Any]) -> Any:
    """Tell where an op rounds nothing: adding 0, multiplying by 0, 1 or -1, or x on the side where the result is x."""
    if op.name in ("Add", "Sub"):
        return _is(operands[0], 0) | _is(operands[1], 0)
    if op.name == "Mul":
        return _is_unit(operands[0]) | _is_unit(operands[1])
    if op.name in _IDENTITY_ABOVE_ZERO:
        return operands[0].low >= 0
    return np.False_


def _is_unit(operand: Interval) -> Any:
    """Tell where an operand is 0, 1 or -1."""
    size = np.abs(operand.low)
    found = (size == 0) | (size == 1)
    return found & (operand.high == operand.low) if np.any(found) else found


def _is(operand: Interval, value: float) -> Any:
    return (operand.low == value) & (operand.high == value)


def _low(operand: Any) -> Any:
    return operand.low if isinstance(operand, Interval) else operand


def _high(operand: Any) -> Any:
    return operand.high if isinstance(operand, Interval) else operand


def _magnitude(operand: Any) -> Any:
    return np.maximum(np.abs(operand.low), np.abs(operand.high)) if isinstance(operand, Interval) else operand


def _ends(operand: Any) -> tuple[Any, ...]:
    return (operand.low, operand.high) if isinstance(operand, Interval) else (operand,)


_WITH_ATTRIBUTES = {"LeakyRelu", "ThresholdedRelu", "Elu", "Celu", "Selu", "HardSigmoid", "Swish"}
_IDENTITY_ABOVE_ZERO = {"LeakyRelu", "PRelu", "Elu", "Celu"}
_COMPARISONS = {"Less", "LessOrEqual", "Greater", "GreaterOrEqual"}


def _compare(op: Primitive, left: Interval, right: Interval) -> Interval:
    first, second = (left, right) if op.name.startswith("Less") else (right, left)
    below = np.less if op.name in ("Less", "Greater") else np.less_equal
    return Interval(below(first.high, second.low), below(first.low, second.high))


def _select(condition: Interval, yes: Interval, no: Interval) -> Interval:
    low = np.where(condition.low, yes.low, np.where(condition.high, np.minimum(yes.low, no.low), no.low))
    high = np.where(condition.low, yes.high, np.where(condition.high, np.maximum(yes.high, no.high), no.high))
    return Interval(low, high)

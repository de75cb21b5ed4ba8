"""Constants -> parameters: which parameters fold to exactly the constants that a match found.

    (1 + alpha) / 2 = 0.505, (1 - alpha) / 2 = 0.495  ->  alpha, if one float32 number alone gives these bits

Constants are compared by value in the tensor's dtype: by their bits, but for the sign of a zero. Every constant of a
form is a monotone function of its one parameter, so the parameters that round to given bits are an interval, found by
bisection over the ordered float32 numbers; where it holds more than one number the constants do not determine the
parameter, and that is the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxact.activation.catalog import Activation, Form
from onnxact.activation.expr import Call, Expr, Literal, Parameter, parameters, size, text
from onnxact.activation.numeric import fold, holds, rounded
from onnxact.rewrite.site import Bound, Dynamic, Parameters, Reference, Tensor, known

_NEAR = 0.01
"""Relative distance under which a differing constant is worth reporting as a near miss."""


class Solved(NamedTuple):
    """The parameters, or why there are none. `near`: everything but the constants matched, and they almost did."""

    parameters: Parameters
    reason: str = ""
    near: bool = False


def solve(
    activation: Activation, form: Form, equations: tuple[tuple[Expr, Bound], ...], given: Mapping[str, Bound]
) -> Solved:
    """Return the parameters for which every equation holds; `given` ones are taken as they are, and checked too."""
    found: dict[str, Bound] = {**fixed(form.when), **given}
    for expr, bound in equations:
        if isinstance(expr, Parameter) and isinstance(bound, str):
            return Solved({}, f"its {expr.name} is an attribute of type {bound}, not a number")
        if isinstance(expr, Parameter) and expr.name not in given and not _bind(found, expr.name, bound, activation):
            return Solved({}, f"its constants give two values of {expr.name}")
    for name in dict.fromkeys(name for expr, _ in equations for name in parameters(expr)):
        if name not in found:
            number = _determine(name, [e for e in equations if parameters(e[0]) == (name,)])
            if number.reason:
                return number
            if isinstance(number.parameters[name], Tensor) and not _is_tensor(activation, name):
                return Solved({}, f"its constants give more than one {name}")
            found.update(number.parameters)
    complete = {param.name: found.get(param.name, param.default) for param in activation.params}
    return _verify(form, equations, complete)


def fixed(condition: Expr) -> dict[str, Bound]:
    """Return the parameters whose value a form's condition states: `beta = 1`."""
    if not isinstance(condition, Call):
        return {}
    if condition.op == "And":
        return {**fixed(condition.args[0]), **fixed(condition.args[1])}
    left, right = (*condition.args, None, None)[:2]
    if condition.op == "Equal" and isinstance(left, Parameter) and isinstance(right, Literal):
        return {left.name: right.value}
    return {}


def _bind(found: dict[str, Bound], name: str, bound: Bound, activation: Activation) -> bool:
    is_tensor = _is_tensor(activation, name)
    if isinstance(bound, Tensor) and not is_tensor and not _uniform(bound.value):
        return False
    if isinstance(bound, Tensor) and not is_tensor and bound.value.ndim:
        bound = Tensor("", bound.value.reshape(-1)[:1].reshape(()))  # Clip's bounds have no dimensions
    if name not in found:
        found[name] = bound
        return True
    other = found[name]
    if isinstance(bound, Tensor) and isinstance(other, Tensor):
        return bound.name == other.name or np.array_equal(bound.value, other.value)
    first, second = (_number(value) for value in (bound, other))
    return bound == other if first is None or second is None else first == second


def _is_tensor(activation: Activation, name: str) -> bool:
    return next(param.tensor for param in activation.params if param.name == name)


def _number(bound: Bound) -> float | None:
    if isinstance(bound, Tensor):
        return float(bound.value.reshape(-1)[0]) if bound.value.size and _uniform(bound.value) else None
    return bound if isinstance(bound, float) else None


def _uniform(value: NDArray[Any]) -> bool:
    return value.size > 0 and bool(np.all(value == value.reshape(-1)[0]))


def _determine(name: str, equations: list[tuple[Expr, Bound]]) -> Solved:
    """Return the one value of a parameter that folds to the constants in every equation."""
    low, high = np.asarray(-np.inf), np.asarray(np.inf)
    for expr, bound in equations:
        if not isinstance(bound, Tensor):
            return Solved({}, f"{text(expr)} is not a constant")
        first, last = _preimage(partial(_folded, expr, name), bound.value)
        low, high = np.maximum(low, first), np.minimum(high, last)
    if not np.all(low <= high):
        return Solved({}, f"no {name} gives its constants")
    if np.array_equal(low, high):
        value = low.astype(np.float64)
        return Solved({name: float(value.reshape(-1)[0]) if _uniform(value) else Tensor("", value)})
    where = np.unravel_index(np.argmax(high - low), low.shape)
    return Solved(
        {},
        f"its constants do not determine {name}: every float32 number from {low[where]} to {high[where]} gives them; "
        f"say which with --param {name}=...",
        near=True,
    )


def _folded(expr: Expr, name: str, number: Any) -> Any:
    return fold(expr, {name: number})


def _preimage(function: Callable[[Any], Any], constant: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the smallest and the largest float32 number that a monotone function takes to `constant` (elementwise)."""
    target = constant.astype(np.float64)
    limits = np.full(target.shape, 2**31 - 2**23 - 1, np.int64)

    def value(keys: NDArray[Any]) -> NDArray[Any]:
        return rounded(function(_from_ordered(keys).astype(np.float64)), constant.dtype).astype(np.float64)

    rising = np.all(value(-limits) <= value(limits))
    sign = 1 if rising else -1
    first = _first(lambda keys: sign * value(keys) >= sign * target, -limits, limits)
    last = _first(lambda keys: sign * value(keys) > sign * target, -limits, limits) - 1
    reached = value(first) == target
    return (
        np.where(reached, _from_ordered(first), np.inf).astype(np.float32),
        np.where(reached, _from_ordered(last), -np.inf).astype(np.float32),
    )


def _first(test: Callable[[NDArray[Any]], NDArray[Any]], low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """Return the first key at which a test that turns true once is true, or high + 1."""
    low, high = low.copy(), high + 1
    while np.any(low < high):
        middle = (low + high) // 2
        true = test(middle)
        low, high = np.where(true, low, np.minimum(middle + 1, high)), np.where(true, middle, high)
    return low


def _from_ordered(keys: NDArray[Any]) -> NDArray[Any]:
    """Return the float32 numbers with these positions in the order of all finite float32 numbers; 0 is at 0."""
    bits = np.where(keys >= 0, keys, -keys | 0x80000000).astype(np.uint32)
    return bits.view(np.float32) if bits.ndim else bits.reshape(1).view(np.float32).reshape(())


def _verify(form: Form, equations: tuple[tuple[Expr, Bound], ...], found: Parameters) -> Solved:
    values = known(found)
    misses = []
    for expr, bound in equations:
        if isinstance(expr, Parameter) and isinstance(bound, (Dynamic, Reference)):
            if found.get(expr.name) != bound:
                return Solved({}, f"{expr.name} is another value there")
            continue
        if values is None and parameters(expr):
            return Solved({}, f"{text(expr)} cannot be told: a parameter is not a constant")
        miss = _miss(expr, bound, values or {})
        if miss is not None:
            misses.append(miss)
    if misses:
        return Solved({}, "; ".join(miss.reason for miss in misses), near=all(miss.near for miss in misses))
    if values is not None and not holds(form.when, values):
        return Solved({}, f"the form holds only when {text(form.when)}")
    if values is None and parameters(form.when):
        return Solved({}, _untold(form, found), near=size(form.expr) > 1)
    return Solved(found)


def _untold(form: Form, found: Parameters) -> str:
    """Return why a condition cannot be told: which parameter is no constant."""
    open_ones = [name for name, bound in found.items() if isinstance(bound, (Dynamic, Reference))]
    reason = f"its {' and '.join(open_ones)} {'is' if len(open_ones) == 1 else 'are'} computed when the model runs"
    matters = set(open_ones) & set(parameters(form.when))
    return f"{reason}, and it is that only when {text(form.when)}" if matters else reason


class _Miss(NamedTuple):
    reason: str
    near: bool


def _miss(expr: Expr, bound: Bound, values: Mapping[str, Any]) -> _Miss | None:
    """Return how an operand differs from the value of its term, None where it is that value."""
    expected = fold(expr, values)
    if isinstance(expected, str) or isinstance(bound, str):
        return None if expected == bound else _Miss(f"{bound} is not {expected}", near=False)
    if isinstance(bound, (Dynamic, Reference)):
        return _Miss(f"{text(expr)} is not a constant there", near=False)
    if not isinstance(bound, Tensor):
        bound = Tensor("", np.asarray(bound, np.float32))
    wanted, actual = _in_dtype(expected, bound.value), bound.value
    if np.all(wanted == actual) and (actual.size or wanted.shape == actual.shape):
        return None
    wide, exact = np.asarray(actual, np.float64), np.asarray(wanted, np.float64)
    if np.any(np.isnan(wide)):
        return _Miss(f"its {text(expr)} is nan, which is not a number", near=False)
    with np.errstate(all="ignore"):
        near = bool(
            actual.size
            and np.all(np.abs(wide - exact) <= _NEAR * np.abs(exact))
            and np.all(np.isfinite(exact) & (exact != 0))
        )
    return _Miss(f"its constant {_shown(wide)} is not {text(expr)} = {_shown(exact)} in {actual.dtype}", near)


def _in_dtype(expected: Any, like: NDArray[Any]) -> NDArray[Any]:
    is_integer = np.issubdtype(like.dtype, np.integer)
    return np.asarray(expected, np.float64) if is_integer else rounded(expected, like.dtype)


def _shown(value: NDArray[Any]) -> str:
    return f"{float(value.reshape(-1)[0]):.9g}" if value.size else "(empty)"

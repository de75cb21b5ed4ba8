"""A site that was found in a model -> what it computes, where it changes its branch, which axis has slopes of its own.

leaky_relu (mul-max), alpha = 0.2  ->  Meaning("leaky_relu", "mul-max", (("alpha", 0.2),)), kinks (0,), no axis
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from onnxact.activation.catalog import ACTIVATIONS, Activation, Form
from onnxact.activation.expr import Call, Expr, Literal, Variable, parameters, term, varies, walk
from onnxact.activation.forms import find_form
from onnxact.activation.numeric import fold, holds
from onnxact.check.site_evidence import Computed, FromCaller, Meaning, ParameterValue, Slopes
from onnxact.check.standard import held_numbers, numbers
from onnxact.rewrite.site import Bound, Dynamic, Parameters, Reference, Tensor

_BENT_AT_ZERO = {"Relu", "Abs", "Sign", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu"}
_BENT_WHERE_EQUAL = {"Max", "Min", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"}


def meaning_of(activation: str, form: str, bound: Parameters, dtype: str | None, *, exact: bool = False) -> Meaning:
    """What a site computes. A tensor of one element is a number."""
    values = tuple((name, _value(value)) for name, value in bound.items())
    return Meaning(activation, form, values, dtype or "", exact)


def same_function(first: Meaning, second: Meaning) -> bool:
    """Whether two meanings are one activation with equal parameters, in whatever form."""
    if first.activation != second.activation or len(first.parameters) != len(second.parameters):
        return False
    others = dict(second.parameters)
    return all(_equal(value, others.get(name)) for name, value in first.parameters)


def keeps_bits(meaning: Meaning) -> bool:
    """Whether its form gives f(x) rounded once whatever x is: exact for these parameters, all of them held exactly."""
    if not meaning.dtype or not meaning.form:
        return False
    stated, held = numbers(meaning), held_numbers(meaning, meaning.dtype)
    if stated is None or held is None:
        return False
    kept = all(np.array_equal(np.asarray(stated[name]), np.asarray(held[name])) for name in stated)
    form = find_form(ACTIVATIONS[meaning.activation], meaning.form)
    return kept and holds(form.exact, held)


def kinks(*meanings: Meaning | None) -> tuple[float, ...]:
    """Every point where the function, or the way in which it is computed, changes its branch; in order."""
    known = [meaning for meaning in meanings if meaning is not None]
    found = {kink for item in known for kink in (_kinks_of if item.has_slopes else _kinks)(item)}
    return tuple(sorted(found))


def channel_axis(*meanings: Meaning | None) -> int | None:
    """The axis, counted from the end, along which the slopes differ; None for one slope."""
    for meaning in meanings:
        for _, value in meaning.parameters if meaning is not None else ():
            if isinstance(value, Slopes):
                wide = [axis for axis, size in enumerate(value.shape) if size > 1]
                return wide[0] - len(value.shape) if len(wide) == 1 else None
    return None


def _value(bound: Bound) -> ParameterValue:
    if isinstance(bound, Dynamic):
        return Computed(bound.name)
    if isinstance(bound, Reference):
        return FromCaller(bound.attribute)
    if not isinstance(bound, Tensor):
        return bound
    wide = np.asarray(bound.value, np.float64)
    return float(wide.reshape(())) if wide.size == 1 else Slopes.of(wide)


def _equal(first: ParameterValue, second: ParameterValue | None) -> bool:
    if isinstance(first, Slopes) and isinstance(second, Slopes):
        return bool(np.array_equal(np.squeeze(first.value), np.squeeze(second.value)))
    if isinstance(first, Slopes) and isinstance(second, float):
        return first.low == first.high == second
    return _equal(second, first) if isinstance(second, Slopes) and isinstance(first, float) else first == second


@lru_cache(maxsize=256)
def _kinks(meaning: Meaning) -> tuple[float, ...]:
    return tuple(_kinks_of(meaning))


def _kinks_of(meaning: Meaning) -> Iterator[float]:
    row = ACTIVATIONS[meaning.activation]
    values = {name: value for name, value in meaning.parameters if isinstance(value, float)}
    wanted = [*(term(kink) for kink in row.kinks), *(_bends(_form(row, meaning)) if meaning.form else ())]
    for kink in wanted:
        if all(name in values for name in parameters(kink)):
            at = float(np.asarray(fold(kink, values), np.float64))
            if np.isfinite(at):
                yield at


def _form(row: Activation, meaning: Meaning) -> Form:
    return find_form(row, meaning.form)


def _bends(form: Form) -> Iterator[Expr]:
    """Where ops of the form that work on x itself change their branch: Relu(-x) at 0, Max(x, low) at low."""
    for call in walk(form.expr):
        if not isinstance(call, Call) or not varies(call):
            continue
        if call.op in _BENT_AT_ZERO and _is_x(call.args[0]):
            yield Literal(0.0)
        elif call.op in _BENT_WHERE_EQUAL:
            fixed = [arg for arg in call.args if not varies(arg)]
            if not fixed:
                yield Literal(0.0)
            elif any(_is_x(arg) for arg in call.args):
                yield fixed[0]
        elif call.op == "Clip" and _is_x(call.args[0]):
            yield from call.args[1:]


def _is_x(expr: Expr) -> bool:
    return isinstance(expr, Variable) or (isinstance(expr, Call) and expr.op == "Neg" and _is_x(expr.args[0]))

"""Law: what a form computes lies in its enclosure, by NumPy in every dtype and by ONNX Runtime; and that is narrow."""

from __future__ import annotations

import numpy as np
import pytest

from onnxact.activation.expr import TRUE, Expr, x
from onnxact.activation.forms import find_activation, find_form
from onnxact.activation.numeric import FLOATS, Values, evaluate, rounded
from onnxact.activation.primitives import PRIMITIVES, Array, Reciprocal
from onnxact.activation.rounding import enclosure, limits, unit_roundoff
from tests.activation.cases import DTYPES, EVERY_INSTANCE, Instance, all_patterns, signed_log
from tests.activation.runtime import NoKernelError, run


def outside(expr: Expr, values: Array, points: Array, parameters: Values) -> Array:
    """Return the finite points at which a finite value lies outside the enclosure, with the interval beside it."""
    with np.errstate(over="ignore"):
        found = enclosure(expr, points.astype(np.float64), parameters, points.dtype)
    got = values.astype(np.float64)
    missed = np.isfinite(got) & ~((found.low <= got) & (got <= found.high))
    return np.asarray(np.stack([points.astype(np.float64), found.low, got, found.high])[:, missed].T[:5])


def points_of(dtype: str) -> Array:
    values = all_patterns(dtype, 4000) if dtype in ("float32", "float64") else all_patterns(dtype)[::7]
    with np.errstate(invalid="ignore"):
        return np.concatenate([values[np.isfinite(values)], signed_log(dtype)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("instance", EVERY_INSTANCE)
def test_what_numpy_computes_lies_in_the_enclosure(instance: Instance, dtype: str) -> None:
    points = points_of(dtype)
    computed = evaluate(instance.form.expr, points, instance.parameters)
    assert outside(instance.form.expr, computed, points, instance.parameters).size == 0


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("instance", [case for case in EVERY_INSTANCE if "-shape" not in str(case.id)])
def test_what_onnx_runtime_computes_lies_in_the_enclosure(instance: Instance, dtype: str) -> None:
    points = points_of(dtype)
    try:
        computed = run(instance.form.expr, points, instance.parameters)
    except NoKernelError as reason:
        pytest.skip(str(reason))
    assert outside(instance.form.expr, computed, points, instance.parameters).size == 0


DERIVED = {
    "softplus": ["stable[abs=relu]", "stable[abs=max,neg=mul]", "stable[relu=max]"],
    "mish": ["tanh-softplus[softplus=stable,tanh=sigmoid]"],
    "elu": ["relu-exp-min[min=neg-max]", "relu-sigmoid[sigmoid=exp]"],
    "swish": ["mul-sigmoid[sigmoid=tanh]", "mul-sigmoid[sigmoid=stable]"],
    "gelu": ["erf[div=reciprocal]", "polynomial[abs=relu]"],
    "hard_swish": ["hard-sigmoid[hard-sigmoid=relu-relu]"],
    "selu": ["elu[elu=relu-exp-neg]"],
}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("activation", "form"), [(key, form) for key, row in DERIVED.items() for form in row])
def test_derived_forms_lie_in_their_enclosure(activation: str, form: str, dtype: str) -> None:
    found = find_activation(activation)
    expr, points = find_form(found, form).expr, points_of(dtype)
    for computed in (evaluate(expr, points, found.defaults), run(expr, points, found.defaults)):
        assert outside(expr, computed, points, found.defaults).size == 0


PIECEWISE_LINEAR = {"relu", "relu6", "clip", "leaky_relu", "prelu", "thresholded_relu"}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    "instance", [case for case in EVERY_INSTANCE if str(case.id).partition("-")[0] in PIECEWISE_LINEAR]
)
def test_piecewise_linear_enclosures_are_narrow(instance: Instance, dtype: str) -> None:
    """Width <= 4 u |result| for exact forms; for sums that cancel, 12 u of the largest term.

    Attributes that the dtype cannot hold (LeakyRelu's slope in 16 bits) add 1 u. Both on either sign, away from
    subnormals and from a threshold, which a runtime may or may not round to the dtype.
    """
    if any(0 < abs(value) < float(limits(FLOATS[dtype]).smallest_normal) for value in instance.parameters.values()):
        pytest.skip("a subnormal parameter")
    points = signed_log(dtype)
    normal = np.abs(points.astype(np.float64)) * 1e-7 > float(np.finfo(np.float32).smallest_normal)
    points = points[normal if dtype != "float16" else np.abs(points) > 2.0**-9]
    found = enclosure(instance.form.expr, points.astype(np.float64), instance.parameters, points.dtype)
    values = evaluate(instance.form.expr, points, instance.parameters).astype(np.float64)
    unit = unit_roundoff(FLOATS[dtype])
    inside = np.isfinite(values) & (points != rounded(instance.parameters.get("alpha", np.nan), points.dtype))
    inside &= np.isfinite(found.low) & np.isfinite(found.high)
    largest = np.maximum(1 + sum(abs(v) for v in instance.parameters.values() if np.isfinite(v)), 6.0)
    terms = largest * np.maximum(np.abs(points.astype(np.float64)), 1)
    exact = instance.form.exact == TRUE or instance.name == "mul-max"
    allowed = 4 * unit * np.abs(values) if exact else 12 * unit * terms
    width = found.high - found.low
    wide = inside & (width > allowed + 4 * float(limits(points.dtype).smallest_subnormal))
    assert not wide.any(), np.stack([points, values, width])[:, wide].T[:5]
    assert inside.mean() > 0.9


@pytest.mark.parametrize("dtype", DTYPES)
def test_on_the_positive_side_a_slope_form_rounds_nothing(dtype: str) -> None:
    """Exact zeros stay exact, else relu(x) - a relu(-x) would be no better than the Abs form."""
    points = signed_log(dtype)
    points = points[points > 0].astype(np.float64)
    for name in ("op", "prelu", "mul-max", "where", "relu-min", "relu-neg", "relu-neg-add"):
        found = enclosure(find_form(find_activation("leaky_relu"), name).expr, points, {"alpha": 0.2}, FLOATS[dtype])
        np.testing.assert_array_equal(found.low, points)
        np.testing.assert_array_equal(found.high, points)


def test_a_denominator_that_may_be_zero_bounds_nothing() -> None:
    expr = Reciprocal((x + 1) - 1)
    found = enclosure(expr, np.array([1e-9, 1.0]), {}, np.float32)
    assert found.low[0] == -np.inf
    assert found.high[0] == np.inf
    assert np.all(np.isfinite([found.low[1], found.high[1]]))


def test_overflow_of_an_intermediate_bounds_nothing_it_should_not() -> None:
    """exp(11.2) is infinite in float16 and 73,130 in float32, in which a runtime may compute it."""
    found = enclosure(1 / (1 + find_activation("sigmoid").forms["exp"].expr), np.array([-11.2]), {}, np.float16)
    assert found.low[0] <= 1 / (1 + 1 / (1 + np.exp(11.2))) <= found.high[0]
    assert found.high[0] <= 1.01


def test_trends_are_what_they_say() -> None:
    """Monotone ops are monotone in every operand on a grid."""
    grid = np.linspace(-4, 4, 9)
    for name, primitive in PRIMITIVES.items():
        positive = name in {"Sqrt", "Log"}
        axes = [np.abs(grid) + 0.1 if positive else grid] * len(primitive.operands)
        if primitive.trend == "other" or name == "Clip":
            continue
        values = primitive.meaning(*np.meshgrid(*[np.sort(axis) for axis in axes], indexing="ij")).astype(np.float64)
        for axis in range(values.ndim):
            step = np.diff(values, axis=axis)
            assert np.all(step >= 0 if primitive.trend == "up" else step <= 0), name

"""Folding in double, rounding once, and evaluating in the dtype of the tensor."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxact.activation.expr import TRUE, Parameter, equals, x
from onnxact.activation.numeric import FLOATS, evaluate, fold, holds, rounded
from onnxact.activation.primitives import Exp, Max, Min, Relu, Uniform, Where
from tests.activation.cases import DTYPES

alpha = Parameter("alpha")
PRECISION = {
    "float16": (11, -24, 15),
    "bfloat16": (8, -133, 127),
    "float32": (24, -149, 127),
    "float64": (53, -1074, 1023),
}
"""dtype -> significant bits, exponents of the smallest subnormal and of the largest binade (IEEE 754, table 3.5)."""


def rounded_once(value: float, dtype: str) -> float:
    """Return `value` rounded to nearest even by integer arithmetic."""
    bits, smallest, largest = PRECISION[dtype]
    exact = Fraction(value)
    if exact == 0:
        return value
    exponent = max(_binade(abs(exact)) - bits + 1, smallest)
    units = exact / Fraction(2) ** exponent
    below = units.numerator // units.denominator
    rest = units - below
    nearest = below + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1))
    result = nearest * Fraction(2) ** exponent
    if abs(result) >= Fraction(2) ** (largest + 1):
        return float("inf") if result > 0 else float("-inf")
    return float(result) if result else float(np.copysign(0.0, value))


def _binade(value: Fraction) -> int:
    """Return e with 2^e <= value < 2^(e + 1)."""
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if Fraction(2) ** guess <= value else guess - 1


def near_ties() -> st.SearchStrategy[float]:
    """Doubles that lie on, or one double beside, the middle between two numbers of a narrow dtype."""
    middle = st.builds(
        lambda sign, units, half, exponent: float(np.ldexp(sign * (units + half), exponent)),
        st.sampled_from([-1, 1]),
        st.integers(0, 1 << 11),
        st.sampled_from([0.0, 0.25, 0.5, 0.5 + 2.0**-24, 0.5 - 2.0**-24, 0.5 + 2.0**-40]),
        st.integers(-140, 120),
    )
    return st.builds(
        lambda value, towards: float(np.nextafter(value, towards)) if towards else value,
        middle,
        st.sampled_from([0.0, -np.inf, np.inf]),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@given(value=st.one_of(near_ties(), st.floats(allow_nan=False, allow_infinity=False, width=64)))
def test_rounding_is_one_rounding_to_nearest_even(dtype: str, value: float) -> None:
    found = float(rounded(value, FLOATS[dtype]))
    expected = rounded_once(value, dtype)
    assert found == expected
    assert np.signbit(found) == np.signbit(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1 + 2.0**-8, 1.0),
        (1 + 3 * 2.0**-8, 1 + 2.0**-6),
        (1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-7),
        (1 + 2.0**-8 + 2.0**-32, 1 + 2.0**-7),
        (1 + 3 * 2.0**-8 - 2.0**-40, 1 + 2.0**-7),
        (3.4e38, float("inf")),
        (1e300, float("inf")),
        (-0.0, -0.0),
    ],
)
def test_float64_to_bfloat16_is_not_rounded_twice(value: float, expected: float) -> None:
    assert float(rounded(value, FLOATS["bfloat16"])) == expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_keeps_shape_and_special_values(dtype: str) -> None:
    values = np.array([[np.nan, np.inf], [-np.inf, -0.0]])
    found = rounded(values, FLOATS[dtype])
    assert (found.shape, found.dtype) == ((2, 2), FLOATS[dtype])
    np.testing.assert_array_equal(found.astype(np.float64), values)
    assert np.signbit(found[1, 1])
    assert rounded(1.0, FLOATS[dtype]).shape == ()


def test_fold_computes_in_double_and_once() -> None:
    assert fold((1 + alpha) / 3, {"alpha": 0.2}) == (1 + 0.2) / 3
    np.testing.assert_array_equal(fold(1 - alpha, {"alpha": np.array([0.1, 0.2])}), [0.9, 0.8])
    with pytest.raises(ValueError, match="no value of its own"):
        fold(x, {})


def test_conditions_hold_for_every_slope_or_not_at_all() -> None:
    assert holds(TRUE, {})
    assert holds(alpha <= 1, {"alpha": np.array([0.1, 1.0])})
    assert not holds(alpha <= 1, {"alpha": np.array([0.1, 1.1])})
    assert holds(Uniform(alpha), {"alpha": np.full((3, 1, 1), 0.25)})
    assert not holds(Uniform(alpha), {"alpha": np.array([0.25, 0.5])})
    assert not holds((alpha > 0) & equals(alpha, 1), {"alpha": 0.5})
    assert not holds(alpha > 0, {"alpha": np.nan})


@pytest.mark.parametrize("dtype", DTYPES)
def test_evaluate_rounds_constants_once_and_stays_in_the_dtype(dtype: str) -> None:
    points = np.array([-2.0, 3.0], FLOATS[dtype])
    found = evaluate(Max(x, alpha * x), points, {"alpha": 0.1})
    assert found.dtype == FLOATS[dtype]
    slope = rounded(0.1, FLOATS[dtype])
    np.testing.assert_array_equal(found.astype(np.float64), [float(points[0] * slope), 3.0])


def test_evaluate_broadcasts_slopes_and_overflows_in_silence() -> None:
    points = np.array([[-1.0], [2.0]], np.float32)
    found = evaluate(Where(x < 0, alpha * x, x), points, {"alpha": np.array([0.5, 2.0])})
    np.testing.assert_array_equal(found, [[-0.5, -2.0], [2.0, 2.0]])
    assert np.isinf(evaluate(Exp(x), np.array([100.0], np.float32), {}))[0]
    assert np.isnan(evaluate(Relu(x) - Relu(Min(x, x)), np.array([np.inf], np.float32), {}))[0]

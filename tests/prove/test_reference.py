"""The reference of a proof: exactly rounded where it says so, within its doubt elsewhere."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.check.prove import asked, reference
from onnxact.check.prove.model import Subject
from onnxact.check.prove.patterns import Space
from tests.activation.test_references import MEANING


def subject(name: str, dtype: str, **parameters: float) -> Subject:
    row = ACTIVATIONS[name]
    return Subject(row, asked.parameters_held(row, parameters, dtype), dtype, 20)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("alpha", [0.2, 1.7, -0.3, 1e-3])
def test_a_slope_is_rounded_once(dtype: str, alpha: float) -> None:
    """The exact product as a fraction is never nearer to a neighbour of what the reference gives."""
    space, held = Space(dtype), subject("leaky_relu", dtype, alpha=alpha)
    patterns = space.sample()
    patterns = patterns[space.is_finite(patterns)][:: 997 if space.width > 16 else 97]
    x = space.numbers(patterns)
    got = reference.patterns(space, reference.exact(held, x))[0]
    slope = Fraction(held.parameters["alpha"])
    checked = 0
    for value, result in zip(x.astype(np.float64).tolist(), got.tolist(), strict=True):
        true = Fraction(value) * slope if value < 0 else Fraction(value)
        near = np.array([result, max(result - 1, 0), result + 1], space.word)
        if not space.is_finite(near).all():
            continue
        distances = [abs(Fraction(float(n)) - true) for n in space.numbers(near)]
        assert distances[0] <= min(distances[1:])
        checked += 1
    assert checked > 200
    assert reference.doubt(held) == 0


SMOOTH = [name for name, row in ACTIVATIONS.items() if name in MEANING and not reference.rounds_once(row)]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("name", SMOOTH)
def test_the_others_are_within_their_doubt(name: str, dtype: str) -> None:
    held, space = subject(name, dtype), Space(dtype)
    x = space.numbers(space.patterns(np.concatenate([np.linspace(-14, 14, 81), np.geomspace(1e-4, 10, 20)])))
    got = reference.exact(held, x)[0]
    with mpmath.workdps(60):
        for value, result in zip(x.astype(float), got, strict=True):
            true = MEANING[name](mpmath.mpf(float(value)), *map(mpmath.mpf, held.parameters.values()))
            if abs(true) > space.smallest_normal:
                assert abs(mpmath.mpf(float(result)) / true - 1) < reference.DOUBT, value
    assert 0 < reference.doubt(held) < 1e-5


@pytest.mark.skipif(np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps, reason="longdouble is double here")
@pytest.mark.parametrize("name", ["elu", "selu", "softplus", "sigmoid", "tanh", "mish", "softsign"])
def test_float64_is_measured_in_longdouble(name: str) -> None:
    held, space = subject(name, "float64"), Space("float64")
    x = space.numbers(space.patterns(np.linspace(-30, 30, 101)))
    got = reference.exact(held, x)[0]
    assert got.dtype == np.longdouble
    with mpmath.workdps(60):
        for value, result in zip(x, got, strict=True):
            true = MEANING[name](mpmath.mpf(float(value)), *map(mpmath.mpf, held.parameters.values()))
            whole, rest = float(result), float(result - np.longdouble(float(result)))
            if true:
                assert abs((mpmath.mpf(whole) + mpmath.mpf(rest)) / true - 1) < 8 * float(np.finfo(np.longdouble).eps)


def test_slopes_of_a_tensor_have_a_row_each() -> None:
    row = ACTIVATIONS["prelu"]
    held = Subject(row, asked.parameters_held(row, {"slope": [0.5, 2.0]}, "float32"), "float32", 20)
    found = reference.exact(held, np.array([-1.0, 4.0], np.float32))
    np.testing.assert_array_equal(found, [[-0.5, 4], [-2, 4]])

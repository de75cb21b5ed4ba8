"""erf and erfc of arrays, against the C library and against mpmath."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

from onnxact.activation.error_function import erf, erfc

BOTH = [pytest.param(erf, math.erf, mpmath.erf, id="erf"), pytest.param(erfc, math.erfc, mpmath.erfc, id="erfc")]


def points() -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return every size, densely around the ends of the intervals, of both signs."""
    spread = np.geomspace(1e-300, 26, 4000)
    near = [np.nextafter(end, toward) for end in (0.46875, 4.0) for toward in (0.0, np.inf)]
    values = np.concatenate([spread, np.linspace(0, 26, 20_000), [0.46875, 4.0, *near]])
    return np.concatenate([values, -values])


@pytest.mark.parametrize(("ours", "library", "_precise"), BOTH)
def test_the_c_library_agrees(ours: Callable[..., Any], library: Callable[[float], float], _precise: object) -> None:
    at = points()
    wanted = np.array([library(float(z)) for z in at])
    normal = np.abs(wanted) > np.finfo(np.float64).smallest_normal
    np.testing.assert_allclose(ours(at)[normal], wanted[normal], rtol=2e-15)
    np.testing.assert_allclose(ours(at)[~normal], wanted[~normal], atol=1e-320)


@pytest.mark.parametrize(("ours", "_library", "precise"), BOTH)
def test_the_relative_error_is_at_most_1e_15(
    ours: Callable[..., Any], _library: object, precise: Callable[[Any], Any]
) -> None:
    at = points()[::29]
    with mpmath.workdps(40):
        wanted = [precise(mpmath.mpf(float(z))) for z in at]
        errors = [abs(mpmath.mpf(float(a)) / b - 1) for a, b in zip(ours(at), wanted, strict=True) if abs(b) > 1e-307]
    assert len(errors) > 1000
    assert max(errors) < 1e-15


def test_limits_and_signs() -> None:
    at = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e308, 30.0, -30.0])
    np.testing.assert_array_equal(erf(at), [np.nan, 1, -1, 0, 0, 1, 1, -1])
    np.testing.assert_array_equal(np.signbit(erf(at)[3:5]), [False, True])
    np.testing.assert_array_equal(erfc(at), [np.nan, 0, 2, 1, 1, 0, 0, 2])


def test_shape_is_kept_and_numbers_are_taken() -> None:
    assert erfc(np.zeros((2, 3))).shape == (2, 3)
    assert float(erf(0.5)) == pytest.approx(math.erf(0.5), rel=1e-15)
    assert float(erfc(np.float32(5))) == pytest.approx(math.erfc(5), rel=1e-15)

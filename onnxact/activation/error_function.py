"""erf and erfc of arrays in double: erf(z) = 2 / sqrt(pi) * integral of exp(-t^2) from 0 to z, erfc = 1 - erf.

NumPy has neither, and a loop over `math.erf` takes a hundred times as long. Rational approximations on three intervals
of |z| by Cody 1969, "Rational Chebyshev approximations for the error function", Math. Comp. 23, 631-637, tables II to
IV; the relative error is at most 1e-15 where the result is a normal number (`tests/activation/test_error_function.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_SMALL, _LARGE = 0.46875, 4.0
_UNDERFLOW = 27.3
"""From here on erfc is less than half the smallest subnormal number."""
_SQRT_PI = math.sqrt(math.pi)

# |z| <= 0.46875: erf(z) = z p(z^2) / q(z^2), highest power first.
_NEAR = (
    (1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
# 0.46875 <= |z| <= 4: erfc(|z|) = exp(-z^2) p(|z|) / q(|z|).
_MIDDLE = (
    (
        2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1,
        2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
        1.23033935479799725e3,
    ),
    (
        1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
        3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
    ),
)  # fmt: skip
# |z| >= 4: erfc(|z|) = exp(-z^2) / |z| (1 / sqrt(pi) - w p(w) / q(w)) with w = 1 / z^2.
_FAR = (
    (
        1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
        1.60837851487422766e-2, 6.58749161529837803e-4,
    ),
    (
        1.0, 2.56852019228982242, 1.87295284992346725, 5.27905102951428412e-1, 6.05183413124413191e-2,
        2.33520497626869185e-3,
    ),
)  # fmt: skip


def erf(z: Any) -> Array:
    """Return the error function of every element, in double."""
    return _by_interval(z, _erf_near, lambda at: np.copysign(1 - _tail(np.abs(at)), at))


def erfc(z: Any) -> Array:
    """Return the complementary error function of every element, in double; for large z without cancellation."""
    return _by_interval(z, lambda at: 1 - _erf_near(at), _erfc_beyond)


def _by_interval(z: Any, near: Callable[[Array], Array], beyond: Callable[[Array], Array]) -> Array:
    at = np.asarray(z, np.float64)
    inside = np.abs(at) <= _SMALL
    if inside.all():
        return near(at)
    if not inside.any():
        return beyond(at)
    found = np.empty_like(at)
    found[inside], found[~inside] = near(at[inside]), beyond(at[~inside])
    return found


def _erf_near(z: Array) -> Array:
    return z * _ratio(_NEAR, z * z)


def _erfc_beyond(z: Array) -> Array:
    tail = _tail(np.abs(z))
    return np.where(z < 0, 2 - tail, tail)


def _tail(z: Array) -> Array:
    """erfc(z) for z > 0.46875, or NaN."""
    far = z > _LARGE
    if not far.any():
        return _decay(z) * _ratio(_MIDDLE, z)
    if far.all():
        return _far(z)
    found = np.empty_like(z)
    found[far], found[~far] = _far(z[far]), _decay(z[~far]) * _ratio(_MIDDLE, z[~far])
    return found


def _far(z: Array) -> Array:
    bounded = np.where(z < _UNDERFLOW, z, 1.0)  # subnormal results take a hundred times as long
    w = 1 / (bounded * bounded)
    found = _decay(bounded) / bounded * (1 / _SQRT_PI - w * _ratio(_FAR, w))
    return np.where(z < _UNDERFLOW, found, 0.0)


def _decay(z: Array) -> Array:
    """exp(-z^2) with z^2 = h^2 + (z - h)(z + h), h in sixteenths, so that no rounding of the square is magnified."""
    head = np.trunc(z * 16) / 16
    return np.exp(-head * head) * np.exp(-(z - head) * (z + head))


def _ratio(pair: tuple[Sequence[float], Sequence[float]], z: Array) -> Array:
    numerator, denominator = (_polynomial(coefficients, z) for coefficients in pair)
    return numerator / denominator


def _polynomial(coefficients: Sequence[float], z: Array) -> Array:
    """Horner's rule, highest power first."""
    found = np.full_like(z, coefficients[0])
    for coefficient in coefficients[1:]:
        found *= z
        found += coefficient
    return found

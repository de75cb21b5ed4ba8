"""Tolerances: by output, and the least that would pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxact.check.tolerance import Tolerance, demand_outputs, least_atol, least_rtol, tolerance, undecided
from onnxact.errors import UsageError

Doubles = npt.NDArray[np.float64]

MAGNITUDES = st.floats(0, 1e12) | st.floats(0, 1e-300) | st.integers(0, 4).map(float)
PAIRS = st.lists(st.tuples(MAGNITUDES, MAGNITUDES), min_size=1, max_size=6)
RATES = st.sampled_from([0.0, 1e-12, 1e-3, 0.5, 3.0])


def sides(pairs: list[tuple[float, float]]) -> tuple[Doubles, Doubles]:
    distance, magnitude = (np.array(side, np.float64) for side in zip(*pairs, strict=True))
    return distance, magnitude


def passes(distance: Doubles, magnitude: Doubles, rtol: float, atol: float) -> bool:
    with np.errstate(all="ignore"):
        return bool(np.all(distance <= atol + rtol * magnitude))


@given(PAIRS, RATES)
def test_least_atol_passes_and_the_next_smaller_does_not(pairs: list[tuple[float, float]], rtol: float) -> None:
    distance, magnitude = sides(pairs)
    least = least_atol(distance, magnitude, rtol)
    assert passes(distance, magnitude, rtol, least)
    assert least == 0 or not passes(distance, magnitude, rtol, math.nextafter(least, 0))


@given(PAIRS, RATES)
def test_least_rtol_passes_and_the_next_smaller_does_not(pairs: list[tuple[float, float]], atol: float) -> None:
    distance, magnitude = sides(pairs)
    least = least_rtol(distance, magnitude, atol)
    if math.isinf(least):
        assert not passes(distance, magnitude, np.finfo(np.float64).max, atol)
    else:
        assert passes(distance, magnitude, least, atol)
        assert least == 0 or not passes(distance, magnitude, math.nextafter(least, 0), atol)


@given(PAIRS, RATES)
def test_undecided_elements_decide(pairs: list[tuple[float, float]], rate: float) -> None:
    distance, magnitude = sides(pairs)
    few = undecided(distance, magnitude, rate, rate)
    assert least_atol(distance, magnitude, rate) == least_atol(distance[few], magnitude[few], rate)
    assert least_rtol(distance, magnitude, rate) == least_rtol(distance[few], magnitude[few], rate)


def test_nothing_needs_nothing() -> None:
    empty = np.zeros(0)
    assert least_atol(empty, empty, 0.0) == least_rtol(empty, empty, 0.0) == 0
    assert math.isinf(least_rtol(np.ones(1), np.zeros(1), 0.5))


def test_tolerance_of_an_output() -> None:
    general = tolerance(1e-3, None)
    assert general.of("y") == Tolerance(1e-3, None)
    own = tolerance({"y": 1e-2, "": 1e-4}, {"z": 1.0})
    assert own.of("y") == Tolerance(1e-2, None)
    assert own.of("z") == Tolerance(1e-4, 1.0)
    assert own.of("other") == Tolerance(1e-4, None)
    assert tolerance({"y": 0.5}, None).of("z").is_default
    assert tolerance(None, None).is_default


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, {"y": -1.0}, {"": math.nan}])
def test_tolerances_that_make_no_sense(value: Any) -> None:
    with pytest.raises(UsageError, match="expected a finite number of at least 0"):
        tolerance(value, None)
    with pytest.raises(UsageError, match="expected a finite number of at least 0"):
        tolerance(None, value)


def test_unknown_output_lists_the_outputs() -> None:
    demand_outputs(tolerance({"y": 1.0}, {"z": 1.0}), ["y", "z"])
    with pytest.raises(UsageError, match=r"tolerance for w, v: .* its outputs: y, z"):
        demand_outputs(tolerance({"w": 1.0}, {"v": 1.0, "y": 1.0}), ["y", "z"])

"""distance: the numbers of a comparison, however many blocks it takes."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxact.check import distance as room
from onnxact.check.distance import Distance, distance, integer_distance, size_of, unequal

Array = npt.NDArray[Any]

DTYPES: list[Any] = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_definitions(dtype: Any) -> None:
    before = np.array([[1.0, 2.0], [4.0, 0.0]], dtype)
    after = np.array([[1.0, 2.5], [4.0, 0.25]], dtype)
    found = distance(before, after, rtol=0.1, atol=0.1)
    assert (found.differing, found.max_abs, found.max_rel) == (2, 0.5, 0.25)
    assert (found.outside, found.beyond, found.worst_at) == (2, 0.5, 1)
    assert (found.least_rtol, found.least_atol) == (np.inf, 0.5 - 0.1 * 2)
    assert distance(before, before.copy()) == Distance()


def test_signs_of_zero_and_payloads_of_nan() -> None:
    zeros = distance(np.array([0.0], np.float32), np.array([-0.0], np.float32))
    assert (zeros.differing, zeros.outside, zeros.least_atol) == (1, 0, 0.0)
    payloads = np.array([0x7FC00000, 0x7FC00001], np.uint32).view(np.float32)
    assert distance(payloads[:1], payloads[1:]).differing == 0


def test_special_values() -> None:
    before = np.array([1, np.nan, np.inf, np.nan, -np.inf, 3], np.float32)
    after = np.array([1, np.nan, np.inf, 2, np.inf, np.nan], np.float32)
    found = distance(before, after, 1e9, 1e9)
    assert (found.nan, found.nan_at, found.infinite, found.infinite_at) == (2, 3, 1, 4)
    assert (found.least_rtol, found.least_atol) == (np.inf, np.inf)
    assert distance(before[:3], after[:3]).differing == 0


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    before = rng.standard_normal((7, 211)).astype(np.float32)
    after = (before * (1 + rng.standard_normal(before.shape) * 1e-5)).astype(np.float32)
    after[2, 5], after[6, 200] = np.inf, np.nan
    whole, size = distance(before, after, 1e-6, 1e-7), size_of(after)
    monkeypatch.setattr(room, "_BLOCK", 10)
    monkeypatch.setattr(room, "_DOT", 7)
    assert distance(before, after, 1e-6, 1e-7) == whole
    assert size_of(after).finite == size.finite
    assert size_of(after).scale == pytest.approx(size.scale)
    clean = distance(before[:2], after[:2], 1e-6, 1e-7)
    monkeypatch.undo()
    assert distance(before[:2], after[:2], 1e-6, 1e-7) == clean


def test_size_counts_finite_elements() -> None:
    found = size_of(np.array([3.0, 4.0, np.inf, np.nan], np.float32))
    assert found.finite == 2
    assert found.scale == pytest.approx(np.sqrt(12.5))
    assert size_of(np.array([1, 2, 3])).finite == 3
    assert size_of(np.zeros((0, 3), np.float32)).finite == 0
    huge = size_of(np.full(4, 1e300))
    assert (huge.finite, huge.scale) == (4, np.inf)


@given(st.integers(-128, 127), st.integers(-128, 127))
def test_integers_are_apart_by_what_they_are(one: int, other: int) -> None:
    """Subtraction in int8 would overflow."""
    found = integer_distance(np.array([one, 0], np.int8), np.array([other, 0], np.int8), 0.0, 1.0)
    assert found.max_abs == abs(other - one)
    assert found.outside == (abs(other - one) > 1)
    assert found.least_atol == abs(other - one)


@pytest.mark.parametrize(
    ("before", "after", "where"),
    [
        (np.array(["a", "b"], object), np.array(["a", "c"], object), [1]),
        (np.array([True, False]), np.array([True, True]), [1]),
        (np.array([[1, 2], [3, 4]]), np.array([[1, 2], [0, 0]]), [2, 3]),
        (np.array([1 + 2j]), np.array([1 + 3j]), [0]),
        (np.ones(2, ml_dtypes.float8_e4m3fn), np.array([1, 2], ml_dtypes.float8_e4m3fn), [1]),
        (np.full(2, np.nan, ml_dtypes.float8_e4m3fn), np.full(2, np.nan, ml_dtypes.float8_e4m3fn), []),
    ],
)
def test_what_has_to_be_equal(before: Array, after: Array, where: list[int]) -> None:
    assert unequal(before, after).tolist() == where

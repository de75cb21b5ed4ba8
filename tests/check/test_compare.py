"""compare: bits, tolerance, noise floor, special values, structures."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxact.check.compare import DEFAULT_RTOL, NOISE_FACTOR, compare, leaves, noise_levels, sized
from onnxact.check.distance import UNIT_ROUNDOFF, distance
from onnxact.check.tolerance import Tolerance, tolerance
from onnxact.check.verdict import OutputEvidence, Run

Array = npt.NDArray[Any]

RUN = Run("seed 0", "cpu", False)
VALUES = np.array([1.0, -2.0, 0.5, -4.0])
DTYPES: list[Any] = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]


def judge(before: Any, after: Any, *, allowed: Tolerance | None = None, noise: float = 0.0) -> OutputEvidence:
    items = compare("y", RUN, before, after, tolerance=allowed or Tolerance(), noise={"y": noise})
    assert len(items) == 1
    return items[0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_defaults_per_dtype(dtype: Any) -> None:
    """At rtol * |x| + rtol * rms nothing differs yet; at four times that it does."""
    before = VALUES.astype(dtype)
    scale = float(np.sqrt(np.mean(np.square(VALUES))))
    rtol = DEFAULT_RTOL[before.dtype.name]
    for factor, outcome in ((0.0, "equivalent"), (0.9, "equivalent"), (4.0, "different")):
        after = (VALUES + factor * rtol * (np.abs(VALUES) + scale)).astype(dtype)
        found = judge(before, after)
        assert found.outcome == outcome
        assert found.rtol == rtol
        assert found.atol == pytest.approx(rtol * scale)


def test_numbers_are_the_definitions() -> None:
    before = np.array([[1.0, 2.0], [4.0, 0.0]], np.float32)
    after = np.array([[1.0, 2.5], [4.0, 0.25]], np.float32)
    found = judge(before, after)
    assert (found.differing, found.elements, found.shape) == (2, 4, (2, 2))
    assert (found.max_abs, found.max_rel, found.max_u) == (0.5, 0.25, 0.25 * 2**24)
    assert found.scale == pytest.approx(np.sqrt(21 / 4))
    assert (found.worst_index, found.worst_before, found.worst_after) == ((0, 1), 2.0, 2.5)


def test_unit_roundoffs_are_half_the_spacing_at_one() -> None:
    """1 + u rounds to even, which is 1; a little more does not."""
    for dtype in DTYPES:
        unit = UNIT_ROUNDOFF[np.dtype(dtype).name]
        one, above = (np.array(value, np.float64).astype(dtype) for value in (1 + unit, 1 + 1.5 * unit))
        assert (float(one), float(above)) == (1.0, 1 + 2 * unit)


def test_zero_signs_and_nan_payloads() -> None:
    zeros = judge(np.array([0.0], np.float32), np.array([-0.0], np.float32), allowed=Tolerance(0.0, 0.0))
    assert (zeros.outcome, zeros.differing, zeros.max_abs) == ("equivalent", 1, 0.0)
    payloads = np.array([0x7FC00000, 0x7FC00001], np.uint32).view(np.float32)
    nan = judge(payloads[:1], payloads[1:])
    assert (nan.outcome, nan.differing, nan.finite) == ("equivalent", 0, 0)


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ([1.0, np.nan], [1.0, 2.0], "NaN on one side only"),
        ([1.0, 2.0], [1.0, np.nan], "NaN on one side only"),
        ([1.0, np.inf], [1.0, 3e38], "infinite on one side"),
        ([1.0, np.inf], [1.0, -np.inf], "infinite on one side"),
    ],
)
def test_special_values_have_to_meet(before: list[float], after: list[float], text: str) -> None:
    found = judge(np.array(before, np.float32), np.array(after, np.float32), allowed=Tolerance(1e9, 1e9))
    assert (found.outcome, found.worst_index) == ("different", (1,))
    assert text in found.reason
    same = judge(np.array(before, np.float32), np.array(before, np.float32))
    assert same.outcome == "equivalent"


def test_noise_floor_accepts_refuses_and_cannot_tell() -> None:
    before = VALUES.astype(np.float32)
    after = (VALUES * (1 + 1e-4)).astype(np.float32)
    assert judge(before, after).outcome == "different"
    assert judge(before, after, noise=1e-4).judged_by == "noise floor"
    assert judge(before, after, noise=1e-4 / NOISE_FACTOR / 4).outcome == "different"
    assert judge(before, after, noise=0.1).outcome == "inconclusive"
    assert judge(before, after, noise=1e-4, allowed=Tolerance(1e-6)).outcome == "different"
    assert judge(before, before, noise=np.inf).outcome == "equivalent"


def test_noise_of_exact_types_is_inconclusive() -> None:
    before, after = np.array([1, 2]), np.array([1, 3])
    assert judge(before, after).outcome == "different"
    assert judge(before, after, noise=1.0).outcome == "inconclusive"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (np.array([1, 2], np.uint8), np.array([1, 3], np.uint8)),
        (np.array([True, False]), np.array([True, True])),
        (np.array(["a", "b"], object), np.array(["a", "c"], object)),
        (np.array([1 + 2j]), np.array([1 + 3j])),
    ],
)
def test_exact_types(before: Array, after: Array) -> None:
    found = judge(before, after, allowed=Tolerance(10.0, 10.0))
    assert (found.outcome, found.differing) == ("different", 1)
    assert judge(before, before.copy()).outcome == "equivalent"


def test_dtype_shape_and_structure() -> None:
    one = np.ones(2, np.float32)
    assert "float32 before, float64 after" in judge(one, one.astype(np.float64)).reason
    assert "shape [2] before, [2, 1] after" in judge(one, one.reshape(2, 1)).reason
    assert "one tensor before, 2 tensors" in judge(one, [one, one]).reason
    assert "filled optional" in judge(one, None).reason
    assert judge(None, None).outcome == "equivalent"


def test_sequences_and_maps_are_walked() -> None:
    one, two = np.ones(2, np.float32), np.full(2, 2.0, np.float32)
    before, after = [{"cat": 0.5, 3: one}, two], [{"cat": 0.5, 3: two}, two]
    found = compare("y", RUN, before, after, tolerance=Tolerance(), noise={})
    assert [item.name for item in found] == ["y[0]['cat']", "y[0][3]", "y[1]"]
    assert [item.outcome for item in found] == ["equivalent", "different", "equivalent"]
    assert [path for path, _ in leaves("y", [])] == []


def levels(first: Any, second: Any) -> dict[str, float]:
    return noise_levels(sized("y", first), sized("y", second))


def test_noise_levels() -> None:
    one = np.ones(4, np.float32)
    assert levels(one, one * np.float32(1.5)) == {"y": 0.5}
    assert levels(one, one) == {"y": 0.0}
    assert levels(one, one[:2]) == {"y": np.inf}
    assert levels(np.zeros(1, np.float32), np.ones(1, np.float32)) == {"y": np.inf}
    assert levels(np.array([1, 2]), np.array([3, 4])) == {"y": 2.0}
    assert levels(one, np.array([1, 1, 1, np.nan], np.float32)) == {"y": np.inf}
    odd = np.array([1, np.nan, np.inf, 2], np.float32)
    assert levels(odd, odd + np.float32(1)) == {"y": pytest.approx(1 / np.sqrt(2.5))}
    assert levels([one, None], [one, None]) == {"y[0]": 0.0, "y[1]": 0.0}


def test_what_was_applied_is_said() -> None:
    one = np.ones(4, np.float32)
    assert judge(one, one).tolerance == "default"
    assert judge(one, one, allowed=Tolerance(1e-3)).tolerance == "given"
    assert judge(one, one, allowed=Tolerance(0.0, 0.0)).tolerance == "exact"
    assert judge(np.ones(4, np.int32), np.ones(4, np.int32), allowed=Tolerance(1e-3)).tolerance == "exact"


def test_least_tolerances_pass_and_smaller_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    before = rng.standard_normal(500).astype(np.float32)
    after = (before + rng.standard_normal(500) * 1e-4).astype(np.float32)
    found = judge(before, after, allowed=Tolerance(1e-5, 1e-6))
    assert found.outcome == "different"
    assert found.outside > 1
    for rtol, atol in ((1e-5, found.least_atol), (found.least_rtol, 1e-6)):
        assert judge(before, after, allowed=Tolerance(rtol, atol)).outcome == "equivalent"
    below = np.nextafter(found.least_atol, 0), np.nextafter(found.least_rtol, 0)
    for rtol, atol in ((1e-5, below[0]), (below[1], 1e-6)):
        assert judge(before, after, allowed=Tolerance(float(rtol), float(atol))).outcome == "different"


def test_no_tolerance_helps_what_is_different_in_kind() -> None:
    for other in (np.ones(3, np.float32), np.ones(4), np.array([1, 1, 1, np.nan], np.float32)):
        found = judge(np.ones(4, np.float32), other)
        assert (found.outcome, found.least_rtol, found.least_atol) == ("different", np.inf, np.inf)


def test_integers_of_a_named_output_may_be_apart() -> None:
    """A quantised output that is off by one, where the caller says so for this output."""
    before, after = np.array([7, 255], np.uint8), np.array([8, 254], np.uint8)
    named = judge(before, after, allowed=tolerance(None, {"y": 1.0}))
    assert (named.outcome, named.judged_by, named.max_abs, named.least_atol) == ("equivalent", "tolerance", 1.0, 1.0)
    assert judge(before, after, allowed=tolerance(None, {"y": 0.5})).outcome == "different"
    assert judge(before, after, allowed=tolerance(None, 1.0)).outcome == "different"
    assert judge(np.array([True]), np.array([False]), allowed=tolerance(None, {"y": 1.0})).outcome == "different"


FLOATS = st.lists(st.floats(width=32), min_size=1, max_size=8)


@given(FLOATS)
def test_everything_equals_its_copy(values: list[float]) -> None:
    array = np.array(values, np.float32)
    found = judge(array, array.copy(), allowed=Tolerance(0.0, 0.0))
    assert (found.outcome, found.differing) == ("equivalent", 0)


@given(st.lists(st.tuples(st.floats(width=32), st.floats(width=32)), min_size=1, max_size=8))
def test_verdict_is_numpys(pairs: list[tuple[float, float]]) -> None:
    """With a tolerance of the caller's, the outcome is what numpy.allclose says in double."""
    before, after = (np.array(side, np.float32) for side in zip(*pairs, strict=True))
    found = judge(before, after, allowed=Tolerance(1e-3, 1e-5))
    with np.errstate(all="ignore"):
        close = np.allclose(after.astype(np.float64), before.astype(np.float64), 1e-3, 1e-5, equal_nan=True)
    assert (found.outcome == "equivalent") == close
    assert found.differing == distance(before, after).differing

"""tally: elements on each side of every kink, by kind and by channel; what was missed, and what the graph rules out."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from onnxact.check import SiteProbe
from onnxact.check.interval import ANY, NOT_NEGATIVE, Interval
from onnxact.check.tally import (
    kink_counts,
    missed_branches,
    missing,
    reached_at_zero,
    ruled_out,
    sides_reached,
    sign_counts,
    tally,
)

SITE = SiteProbe("", "", "x", "y", (0.0, 6.0))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16])
def test_each_side_of_every_kink_is_counted(dtype: Any) -> None:
    array = np.array([-2, -0.0, 0, 3, 7, np.nan, np.inf, -np.inf], dtype)
    counted = tally(SITE, array)
    assert counted.below.tolist() == [[2], [5]]
    assert counted.at.tolist() == [[2], [0]]
    assert counted.above.tolist() == [[3], [2]]
    assert (counted.elements, counted.nan, counted.infinite) == (8, 1, 2)
    signs, channels = sign_counts(counted)
    assert (signs.negative, signs.zero, signs.positive, signs.nan, signs.infinite) == (2, 2, 3, 1, 2)
    assert channels == ()


def test_a_kink_is_what_the_dtype_holds() -> None:
    """0.1 is no float16 number: the nearest one is at the kink, not above or below."""
    held = np.float16(0.1)
    counted = tally(SiteProbe("", "", "x", "y", (0.1,)), np.array([held, np.nextafter(held, np.float16(1))]))
    assert (counted.below[0, 0], counted.at[0, 0], counted.above[0, 0]) == (0, 1, 1)


def test_by_channel() -> None:
    array = np.array([[[-1, -1], [1, 2], [0, 5]]], np.float32)
    for axis in (1, -2):
        counted = tally(SiteProbe("", "", "x", "y", (0.0,), axis), array)
        assert counted.below.tolist() == [[2, 0, 0]]
        assert counted.above.tolist() == [[0, 2, 1]]
        total, channels = sign_counts(counted)
        assert (total.negative, total.zero, total.positive) == (2, 1, 3)
        assert [(c.negative, c.zero, c.positive) for c in channels] == [(2, 0, 0), (0, 0, 2), (0, 1, 1)]
        assert kink_counts(SiteProbe("", "", "x", "y", (0.0,), axis), counted)[0].channels_never_below == (1, 2)
    assert tally(SiteProbe("", "", "x", "y", (0.0,), 5), array).below.tolist() == [[2]]


def test_counts_of_several_inputs_add_up() -> None:
    first, second = (tally(SITE, np.array(values, np.float32)) for values in ([-1, 1], [7, np.nan]))
    both = first.plus(second)
    assert both.below.tolist() == [[1], [2]]
    assert (both.elements, both.nan) == (4, 1)
    assert (sides_reached(first), sides_reached(both)) == (3, 4)


def test_missing_names_sides_and_channels() -> None:
    ones = tally(SITE, np.ones(3, np.float32))
    assert missing(SITE, ones, ANY) == ("no value below 0 entered it", "no value above 6 entered it")
    assert missing(SITE, ones, NOT_NEGATIVE) == ("no value above 6 entered it",)
    assert missed_branches(SITE, ones, ANY) == 2
    assert missing(SITE, None, ANY) == ("no value entered it",)
    assert missing(SITE, tally(SITE, np.full(2, np.nan, np.float32)), ANY) == ("no value entered it",)
    smooth = SiteProbe("", "", "x", "y", ())
    assert missing(smooth, tally(smooth, np.ones(1, np.float32)), ANY) == ()
    channels = SiteProbe("", "", "x", "y", (0.0,), 0)
    counted = tally(channels, np.array([[-1.0, 1.0]] + [[1.0, 1.0]] * 10, np.float32))
    assert missing(channels, counted, ANY) == (
        "no value below 0 entered 10 of 11 channels (1, 2, 3, 4, 5, 6, 7, 8, ...)",
    )
    assert reached_at_zero(channels, counted, ANY)


def test_what_the_graph_rules_out() -> None:
    assert "nothing can be below 0" in ruled_out(SITE, NOT_NEGATIVE)
    assert "nothing can be below 0 or above 6" in ruled_out(SITE, Interval(0, 6))
    assert ruled_out(SITE, ANY) == ""

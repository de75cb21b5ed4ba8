"""The conditions of target files: what holds, what is pinned, and what is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxact.rewrite.target.condition import Condition
from onnxact.rewrite.target.layout import LAYOUTS, accepted, lay_out


@pytest.mark.parametrize(
    ("text", "values", "holds"),
    [
        ("alpha == 0.1", {"alpha": float(np.float32(0.1))}, True),
        ("alpha == 0.1", {"alpha": 0.1}, True),
        ("alpha != 1", {"alpha": 1.0}, False),
        ("min <= 0 and max > 0", {"min": -1.0, "max": 6.0}, True),
        ("min <= 0 and max > 0", {"min": -1.0, "max": 0.0}, False),
        ("(min == 0 and max == inf) or (min == -1 and max == 1)", {"min": -1.0, "max": 1.0}, True),
        ("0 < alpha <= 1", {"alpha": 1.5}, False),
        ("slope > 0", {"slope": np.array([0.1, 0.2])}, True),
        ("slope > 0", {"slope": np.array([0.1, -0.2])}, False),
        ("approximate == 'tanh'", {"approximate": "tanh"}, True),
        ("Y <= 64 and Y % 1 == 0", {"Y": 2.0}, True),
        ("Y <= 64 and Y % 1 == 0", {"Y": 0.5}, False),
        ("Y % 1 == 0", {"Y": np.array([2.0, 2.5])}, False),
        ("axis > 1", {"axis": "one"}, False),
        ("axis != 1", {"axis": "one"}, True),
        ("approximate == 'tanh'", {"approximate": "none"}, False),
    ],
)
def test_what_holds(text: str, values: dict[str, Any], holds: bool) -> None:
    assert Condition(text).holds(values) is holds


def test_the_names_and_the_one_number() -> None:
    assert Condition("min <= 0 and max < inf").names == {"min", "max"}
    assert Condition("alpha == 0.25").pinned("alpha") == 0.25
    assert Condition("alpha == 0.25 and min > 0").pinned("alpha") == 0.25
    assert Condition("0.25 == alpha").pinned("alpha") == 0.25
    assert Condition("alpha == -0.5").pinned("alpha") == -0.5
    assert str(Condition("Y <= 64 and Y % 1 == 0")) == "Y <= 64 and Y is a whole number"
    for text in (
        "alpha != 0.25",
        "alpha == 0.25 or alpha == 0.5",
        "alpha == beta",
        "beta == 1",
        "0.25 == alpha == beta",
    ):
        assert Condition(text).pinned("alpha") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alpha",
        "alpha = 1",
        "alpha + 1 == 2",
        "f(1) == 1",
        "not alpha == 1",
        "a == [1]",
        "a % b == 0",
        "a % 'x' == 0",
        "-'x' == a",
        "a == True",
    ],
)
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(ValueError, match=r"no condition|no comparison|neither an operand"):
        Condition(text)


@pytest.mark.parametrize("text", ["alpha < 'x'", "alpha == 'x'", "approximate == 1", "approximate < 'tanh'"])
def test_texts_are_no_numbers(text: str) -> None:
    assert Condition(text).misused({"approximate"})
    assert not Condition("approximate == 'tanh' and alpha < 1").misused({"approximate"})


X = (2, 3, 4, 5)
SLOPES = np.array([1, 2, 3], np.float32)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_laid_out_is_accepted_and_broadcasts_to_the_same(layout: str) -> None:
    for value in (np.float32(2), np.full(1, 2, np.float32), SLOPES.reshape(3, 1, 1), np.ones((3, 4, 5), np.float32)):
        for shape in (X, X[1:], (2, 3), (3,), (), None, (2, "N", 4, None), (1, 8, 0, 0)):
            laid = lay_out(value, shape, layout)
            if laid is None:
                continue
            assert accepted(laid, shape, [layout]), (value.shape, shape)
            if shape is not None and all(isinstance(size, int) for size in shape) and value.size == 1:
                assert np.all(laid == 2)
            if shape == X:
                np.testing.assert_array_equal(np.broadcast_to(laid, X), np.broadcast_to(value, X))


def test_layouts_of_slopes_for_each_channel() -> None:
    slope = SLOPES.reshape(3, 1, 1)
    shapes = {layout: getattr(lay_out(slope, X, layout), "shape", None) for layout in LAYOUTS}
    assert shapes == {
        "one": None, "full": X, "C11": (3, 1, 1), "1C11": (1, 3, 1, 1), "C": None, "last": (3, 1, 5),
        "dimensioned": (3, 1, 1),
    }  # fmt: skip
    assert getattr(lay_out(slope.reshape(1, 3, 1, 1), X, "C11"), "shape", None) == (3, 1, 1)
    assert lay_out(slope, ("N", 3, 4, 5), "full") is None
    assert getattr(lay_out(slope, ("N", 3, "H", "W"), "1C11"), "shape", None) == (1, 3, 1, 1)
    assert getattr(lay_out(SLOPES, (2, 3), "C"), "shape", None) == (3,)

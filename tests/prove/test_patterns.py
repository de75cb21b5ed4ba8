"""Bit patterns of a dtype: all, a sample, the special ones."""

from __future__ import annotations

import numpy as np
import pytest

from onnxact.activation.numeric import FLOATS
from onnxact.check.prove.patterns import Space

SPACES = [pytest.param(Space(dtype), id=dtype) for dtype in FLOATS]


@pytest.mark.parametrize("space", SPACES)
def test_the_special_patterns_are_what_they_are_called(space: Space) -> None:
    special = space.special()
    numbers = dict(zip(special, space.numbers(np.array(list(special.values()), space.word)).astype(float), strict=True))
    assert np.isnan(numbers.pop("nan"))
    assert (numbers.pop("+inf"), numbers.pop("-inf")) == (np.inf, -np.inf)
    assert np.signbit(numbers.pop("-0"))
    assert (numbers.pop("+0"), numbers["smallest normal"]) == (0, space.smallest_normal)
    assert numbers["largest subnormal"] < numbers["smallest normal"]
    assert numbers["smallest subnormal"] == space.smallest_normal * 2.0**-space.mantissa
    assert all(numbers[f"-{name}"] == -value for name, value in numbers.items() if not name.startswith("-"))
    assert space.is_finite(space.patterns([numbers["largest"]])).all()


@pytest.mark.parametrize("space", SPACES)
def test_kinks_come_with_their_neighbours(space: Space) -> None:
    found = list(space.special([-3.0]).items())[-3:]
    assert [name for name, _ in found] == ["kink -3", "-3 toward 0", "-3 away from 0"]
    values = space.numbers(np.array([pattern for _, pattern in found], space.word)).astype(float)
    assert values[0] == -3
    assert values[1] == -3 + 4 * space.unit
    assert values[2] == -3 - 4 * space.unit
    assert space.special([0.0, np.inf, np.nan]) == space.special()


@pytest.mark.parametrize("space", SPACES)
def test_a_sample_has_every_sign_and_exponent(space: Space) -> None:
    patterns = space.sample()
    heads = np.unique(patterns >> space.word.type(space.mantissa))
    assert heads.size == space.total >> space.mantissa
    assert set(space.special().values()) <= set(patterns.tolist())
    np.testing.assert_array_equal(patterns, space.sample())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_sample_of_16_bits_is_everything(dtype: str) -> None:
    np.testing.assert_array_equal(Space(dtype).sample(), np.arange(1 << 16))


@pytest.mark.parametrize("space", SPACES)
def test_kinds_of_patterns(space: Space) -> None:
    patterns = space.patterns([0.0, -0.0, 1.5, np.inf, -np.inf, np.nan])
    np.testing.assert_array_equal(space.is_zero(patterns), [1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(space.is_finite(patterns), [1, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(space.is_nan(patterns), [0, 0, 0, 0, 0, 1])
    signalling = np.array([space.infinity + 1, space.infinity + 1 | space.sign], space.word)
    assert space.is_nan(signalling).all()


def test_neighbours_are_steps_of_the_integer() -> None:
    space = Space("float32")
    at = np.array([0x3F800000, 0x3F800001], np.uint32)
    low, high = space.numbers(at)
    assert high == np.nextafter(low, np.float32(2))

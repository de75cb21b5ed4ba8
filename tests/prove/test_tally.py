"""Counting differences and measuring them in u."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from onnxact.check.prove.patterns import Space
from onnxact.check.prove.tally import Differences, Tally, count

SPACE = Space("float32")
U = 2.0**-24


def differences(space: Space, got: list[float], exact: list[float]) -> Differences:
    """Return what is found where a form gives `got` and the exact value is `exact`."""
    wide = np.asarray(exact, np.float64)
    x = np.arange(len(got), dtype=space.word)
    return Differences(
        space, x, space.patterns(got), space.patterns(wide), wide, np.zeros(len(got), np.intp), payload=0
    )


def tally(space: Space, got: list[float], exact: list[float]) -> Tally:
    none = np.zeros(len(got), bool)
    return count(differences(space, got, exact), len(got), none, none)


@pytest.mark.parametrize(
    ("got", "exact", "error", "near_one"),
    [
        (1 + 2 * U, 1.0, 2, 2),
        (1 + 2 * U, 1 + U, 1 / (1 + U), 1 / (1 + U)),
        (2 + 4 * U, 2.0, 2, 2),
        (2 - 2 * U, 2.0, 1, 1),
        (0.5 + U, 0.5, 2, 1),
        (2.0**-149, 0.0, 2, 2.0**-125),
        (0.0, 1.5 * 2.0**-149, 3, 1.5 * 2.0**-125),
        (2.0**-149, 2.0**-150, 1, 2.0**-126),
        (0.0, 2.0**-100, 2.0**24, 2.0**-76),
        (-1.0, 1.0, 2.0**25, 2.0**25),
    ],
)
def test_errors_are_in_u_of_the_exact_value(got: float, exact: float, error: float, near_one: float) -> None:
    found = tally(SPACE, [got], [exact])
    assert found.worst is not None
    assert found.worst_near_one is not None
    assert found.worst.error == pytest.approx(error, rel=1e-12)
    assert found.worst_near_one.error == pytest.approx(near_one, rel=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_rounding_once_is_at_most_one_u(dtype: str) -> None:
    """Also where the result is subnormal: there the distance of neighbours is the smallest normal number times 2 u."""
    space = Space(dtype)
    exact = np.random.default_rng(0).uniform(1, 2, 500) * np.exp2(np.arange(500) % 30 - 15.0)
    exact = np.concatenate([exact, exact * space.smallest_normal * 2.0 ** -(space.mantissa // 2)])
    rounded = space.numbers(space.patterns(exact)).astype(float).tolist()
    found = tally(space, rounded, exact.tolist())
    assert found.worst is not None
    assert found.worst.error <= 1


def test_subnormal_doubles_are_measured() -> None:
    found = tally(Space("float64"), [2 * 5e-324], [5e-324])
    assert found.worst is not None
    assert found.worst.error == pytest.approx(2, rel=1e-9)


def test_every_difference_is_of_one_kind() -> None:
    inf, nan = math.inf, math.nan
    got = [0.0, 1.0, inf, nan, -inf, 3.0]
    exact = [-0.0, 2.0, 5.0, 1.0, inf, nan]
    found = tally(SPACE, got, exact)
    assert (found.tried, found.equal, found.zero_sign, found.numbers, found.special) == (6, 0, 1, 1, 4)
    assert found.worst is not None
    assert found.worst.x == 1


def test_tallies_add_up_in_any_order() -> None:
    rng = np.random.default_rng(1)
    parts = [tally(SPACE, rng.normal(size=9).tolist(), rng.normal(size=9).tolist()) for _ in range(3)]
    forward, backward = parts[0] + parts[1] + parts[2], parts[2] + (parts[1] + parts[0])
    assert forward == backward
    assert forward.numbers == sum(part.numbers for part in parts)
    assert forward.worst is not None
    assert forward.worst.error == max(part.worst.error for part in parts if part.worst)
    assert forward + Tally() == forward


def test_examples_are_the_first_that_are_broken() -> None:
    found = differences(SPACE, [1.0] * 8, [2.0] * 8)
    broken = np.arange(8) >= 2
    counted = count(found, 8, ~broken, broken)
    assert (counted.broken, counted.declared) == (6, 2)
    assert [example.x for example in counted.examples] == [2, 3, 4, 5, 6]


def test_only_counts_where_both_are_nan() -> None:
    found: Any = differences(SPACE, [], [])
    counted = count(
        Differences(SPACE, found.x, found.got, found.wanted, found.exact, found.lane, payload=7), 10, *2 * [found.x]
    )
    assert (counted.equal, counted.payload, counted.worst) == (3, 7, None)

"""Results and what they are held against, as bit patterns -> how many agree, and how far apart the others are.

The distance is measured in u, half the distance from 1 to the next number, of the value wanted:

    |got - wanted| / (u max(|wanted|, smallest normal))        `worst`
    |got - wanted| / (u max(|wanted|, 1))                      `worst_near_one`

so that a value rounded once is at most 1 u from the exact one, subnormal numbers included.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from onnxact.activation.primitives import Array
from onnxact.check.prove.patterns import Space

KEPT = 5
"""How many examples are kept of what should not be."""


class Example(NamedTuple):
    """One input with what came out and what was wanted, as patterns, and the distance in u (NaN where it is none).

    `lane`: which slope of a tensor.
    """

    x: int
    got: int
    wanted: int
    error: float
    lane: int = 0


@dataclass(frozen=True)
class Tally:
    """Counts over inputs. `equal` + `payload` + `zero_sign` + `numbers` + `special` = `tried`.

    payload: both NaN, of another payload or sign. zero_sign: zeros of different sign. numbers: both finite and not
    equal. special: NaN or infinite on one side only, or infinities of different sign; `overflowed` of them at finite
    inputs, where a number was wanted. `declared` of these, and of the zeros, are said in the catalogue; `broken` of all
    differences break the form's class.
    """

    tried: int = 0
    equal: int = 0
    payload: int = 0
    zero_sign: int = 0
    numbers: int = 0
    special: int = 0
    declared: int = 0
    broken: int = 0
    overflowed: int = 0
    worst: Example | None = None
    worst_near_one: Example | None = None
    examples: tuple[Example, ...] = ()

    def __add__(self, other: Tally) -> Tally:
        counts = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        return Tally(
            **counts,
            worst=_larger(self.worst, other.worst),
            worst_near_one=_larger(self.worst_near_one, other.worst_near_one),
            examples=tuple(sorted({*self.examples, *other.examples})[:KEPT]),
        )


_COUNTS = tuple(f.name for f in fields(Tally) if f.type == "int")


def _larger(left: Example | None, right: Example | None) -> Example | None:
    """Return the one with the larger error; of equal ones that with the smaller pattern, so that order is no matter."""
    found = [example for example in (left, right) if example is not None]
    return min(found, key=lambda example: (-example.error, example.x, example.lane), default=None)


@dataclass(frozen=True)
class Differences:
    """The inputs at which two results have not the same bits and are not both NaN; one element for each.

    `exact`: the wanted value before it was rounded, in at least double precision. `payload`: how many more inputs there
    are at which both are NaN.
    """

    space: Space
    x: Array
    got: Array
    wanted: Array
    exact: Array
    lane: Array
    payload: int

    @property
    def zero_sign(self) -> Array:
        """Both zero."""
        return np.asarray(self.space.is_zero(self.got) & self.space.is_zero(self.wanted))

    @property
    def overflowed(self) -> Array:
        """NaN or infinite, at a finite input and where a number was wanted."""
        space = self.space
        return np.asarray(space.is_finite(self.x) & space.is_finite(self.wanted) & ~space.is_finite(self.got))

    @property
    def finite(self) -> Array:
        """Both numbers."""
        return np.asarray(self.space.is_finite(self.got) & self.space.is_finite(self.wanted))

    def distance(self) -> Array:
        """Return |got - wanted| in the precision of `exact`."""
        got = self.space.numbers(self.got).astype(self.exact.dtype)
        with np.errstate(all="ignore"):
            return np.asarray(np.abs(got - self.exact))

    def example(self, index: int, error: float) -> Example:
        """Return one of the inputs."""
        x, got, wanted, lane = (int(values[index]) for values in (self.x, self.got, self.wanted, self.lane))
        return Example(x, got, wanted, error, lane)


def count(found: Differences, tried: int, declared: Array, broken: Array) -> Tally:
    """Return the tally of `tried` results that differ as `found` says; `declared` and `broken` are masks over it."""
    if not found.x.size:
        return Tally(tried, tried - found.payload, found.payload)
    zero_sign, finite = found.zero_sign, found.finite
    numbers = finite & ~zero_sign
    relative, near_one = _errors(found)
    examples = [found.example(int(i), _plain(relative[i], finite[i])) for i in np.flatnonzero(broken)[:KEPT]]
    return Tally(
        tried=tried,
        equal=tried - found.payload - found.x.size,
        payload=found.payload,
        zero_sign=_number(zero_sign),
        numbers=_number(numbers),
        special=_number(~finite),
        declared=_number(declared),
        broken=_number(broken),
        overflowed=_number(found.overflowed),
        worst=_worst(found, relative, numbers),
        worst_near_one=_worst(found, near_one, numbers),
        examples=tuple(examples),
    )


def _errors(found: Differences) -> tuple[Array, Array]:
    """Return the distances in u of the wanted value, and of at least 1."""
    distance, size, unit = found.distance(), np.abs(found.exact), found.space.unit
    with np.errstate(all="ignore"):
        relative = distance / np.maximum(size, found.space.smallest_normal) / unit
        return relative, distance / np.maximum(size, 1) / unit


def _worst(found: Differences, errors: Array, among: Array) -> Example | None:
    if not among.any():
        return None
    errors = np.where(among, errors, -1)
    index = int(np.argmax(errors))
    return found.example(index, float(errors[index]))


def _plain(error: Any, measured: Any) -> float:
    return float(error) if measured else float("nan")


def _number(mask: Array) -> int:
    return int(np.count_nonzero(mask))

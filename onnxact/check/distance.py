"""(array, array of the same dtype and shape) -> how far apart they are, in one pass over blocks of bounded size.

[1, 2, nan], [1, 2.5, nan]  ->  1 element differs, by 0.5 or 0.25 of |before|; NaN meets NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxact.activation.numeric import dtype_name
from onnxact.check.tolerance import Doubles, least_atol, least_rtol, undecided

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

UNIT_ROUNDOFF: Mapping[str, float] = {"float32": 2**-24, "float64": 2**-53, "float16": 2**-11, "bfloat16": 2**-8}
# Elements at a time: few enough for the temporaries to stay in the processor's cache.
_BLOCK = 1 << 16
# Short enough for BLAS to stay on one thread.
_DOT = 1 << 13


@dataclass(frozen=True)
class Size:
    """An array by itself: its finite elements (all, for what is not floating) and their root mean square."""

    finite: int
    scale: float = 0.0


@dataclass(frozen=True)
class Distance:
    """How far `after` is from `before`. Places are flat indices.

    `differing`: elements whose bits differ, two NaNs not counted. `nan`, `infinite`: elements where NaN, or an
    infinity, does not meet the same; `nan_at`, `infinite_at` the first of them. The rest is over elements that are
    finite on both sides: the largest |after - before|, and that over |before|; `outside` of the tolerance, by how many
    elements and the largest |after - before| among them; the one furthest outside. `least_atol` is the smallest that
    would pass at the rtol given, `least_rtol` the smallest at the atol given (see tolerance); infinite where no
    tolerance would.
    """

    differing: int = 0
    nan: int = 0
    nan_at: int = 0
    infinite: int = 0
    infinite_at: int = 0
    max_abs: float = 0.0
    max_rel: float = 0.0
    outside: int = 0
    beyond: float = 0.0
    worst_at: int = 0
    least_atol: float = 0.0
    least_rtol: float = 0.0


def is_floating(array: Array) -> bool:
    """Whether it is of a floating type that is compared by distance; other arrays have to be equal."""
    return dtype_name(array.dtype) in UNIT_ROUNDOFF


def size_of(array: Array) -> Size:
    """Count and measure the finite elements."""
    if not is_floating(array):
        return Size(array.size)
    flat = array.reshape(-1)
    total = _sum_of_squares(flat)
    if np.isfinite(total):
        return Size(flat.size, float(np.sqrt(total / flat.size)) if flat.size else 0.0)
    finite = flat[np.isfinite(flat)]
    with np.errstate(over="ignore"):
        return Size(finite.size, float(np.sqrt(_sum_of_squares(finite) / finite.size)) if finite.size else 0.0)


def distance(before: Array, after: Array, rtol: float = 0.0, atol: float = 0.0) -> Distance:
    """Compare two floating arrays of one dtype and shape under NumPy's rule, in double."""
    tally = _Tally(rtol, atol)
    for start, different, first, second in _differing_blocks(before, after):
        tally.add(start, different, first.astype(np.float64), second.astype(np.float64))
    return tally.result()


def furthest(before: Array, after: Array) -> float:
    """The largest |after - before|; infinite where NaN or an infinity does not meet the same."""
    found = 0.0
    for _, _, first, second in _differing_blocks(before, after):
        apart = _apart(first.astype(np.float64), second.astype(np.float64))
        found = max(found, float(np.fmax.reduce(apart)))
        if np.isnan(found) or not np.isfinite(apart).all():
            tally = distance(first, second)
            if tally.nan or tally.infinite:
                return np.inf
            found = max(0.0 if np.isnan(found) else found, tally.max_abs)
    return found


def unequal(before: Array, after: Array) -> Array:
    """Flat indices of the elements that are not equal, for arrays that are not floating."""
    if before.dtype.kind == "V" and before.dtype.names is None:
        before, after = (side.reshape(-1).view(f"u{before.dtype.itemsize}") for side in (before, after))
    return np.flatnonzero(np.asarray(before != after))


def integer_distance(before: Array, after: Array, rtol: float, atol: float) -> Distance:
    """The same for integers, under a tolerance that a caller set for just this output."""
    first, second = before.reshape(-1), after.reshape(-1)
    apart = np.where(first > second, first - second, second - first).view(f"u{before.dtype.itemsize}")
    tally = _Tally(rtol, atol)
    if before.size:
        tally.add_finite(0, first != second, apart.astype(np.float64), np.abs(first.astype(np.float64)))
    return tally.result()


def _sum_of_squares(flat: Array) -> float:
    """In double; infinite or NaN where an element is, or where it overflows."""
    total = 0.0
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, _DOT):
            block = flat[start : start + _DOT].astype(np.float64)
            total += float(np.dot(block, block))
    return total


def _differing_blocks(before: Array, after: Array) -> Iterator[tuple[int, Mask, Array, Array]]:
    """(first flat index, where the bits differ, elements before, elements after) of the blocks in which some do."""
    bits = f"u{before.dtype.itemsize}"
    first, second = np.ascontiguousarray(before).reshape(-1), np.ascontiguousarray(after).reshape(-1)
    first_bits, second_bits = first.view(bits), second.view(bits)
    for start in range(0, first.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        different = first_bits[block] != second_bits[block]
        if different.any():
            yield start, different, first[block], second[block]


class _Tally:
    """A Distance while it is gathered, block by block."""

    def __init__(self, rtol: float, atol: float) -> None:
        self.rtol, self.atol = rtol, atol
        self.differing = self.nan = self.infinite = self.outside = 0
        self.nan_at = self.infinite_at = self.worst_at = 0
        self.max_abs = self.max_rel = self.beyond = 0.0
        self.excess = -np.inf
        # What is kept needs at least these.
        self.surely_atol, self.surely_rtol = -np.inf, 0.0
        self.deciding: list[tuple[Doubles, Doubles]] = []

    def add(self, start: int, different: Mask, first: Doubles, second: Doubles) -> None:
        """A block from flat index `start` on, in some elements of which, `different`, the bits differ."""
        apart = _apart(first, second)
        if np.isfinite(apart).all():
            self.add_finite(start, different, apart, np.abs(first, out=first))
            return
        both = np.isfinite(first) & np.isfinite(second)
        missing = np.isnan(first), np.isnan(second)
        same = missing[0] & missing[1]
        self.nan, self.nan_at = self._more(self.nan, self.nan_at, start, missing[0] != missing[1])
        odd = ~both & ~missing[0] & ~missing[1] & (first != second)
        self.infinite, self.infinite_at = self._more(self.infinite, self.infinite_at, start, odd)
        self.differing += int(np.count_nonzero(different & ~same & ~both))
        apart[~both] = 0.0
        self.add_finite(start, different & both, apart, np.where(both, np.abs(first), 0.0))

    def add_finite(self, start: int, different: Mask, apart: Doubles, magnitude: Doubles) -> None:
        """A block by |after - before| and |before|; what does not differ is 0 apart."""
        count = int(np.count_nonzero(different))
        if not count:
            return
        self.differing += count
        with np.errstate(all="ignore"):
            self.max_abs = max(self.max_abs, _largest(apart))
            self.max_rel = max(self.max_rel, _largest(apart / magnitude))
            excess = magnitude * self.rtol
            excess += self.atol
            outside = apart > excess
            np.subtract(apart, excess, out=excess)
        self._place(start, different, excess)
        self.outside += int(np.count_nonzero(outside))
        if outside.any():
            self.beyond = max(self.beyond, float(apart[outside].max()))
        self._keep(apart, magnitude, excess)

    def result(self) -> Distance:
        """The whole."""
        least = (np.inf, np.inf) if self.nan or self.infinite else self._least()
        return Distance(
            differing=self.differing,
            nan=self.nan,
            nan_at=self.nan_at,
            infinite=self.infinite,
            infinite_at=self.infinite_at,
            max_abs=self.max_abs,
            max_rel=self.max_rel,
            outside=self.outside,
            beyond=self.beyond,
            worst_at=self.worst_at,
            least_atol=least[0],
            least_rtol=least[1],
        )

    def _more(self, count: int, at: int, start: int, where: Mask) -> tuple[int, int]:
        more = int(np.count_nonzero(where))
        return count + more, start + int(np.argmax(where)) if more and not count else at

    def _place(self, start: int, different: Mask, excess: Doubles) -> None:
        """Remember the differing element that is furthest outside."""
        at = int(np.argmax(excess))
        if not different[at] or np.isnan(excess[at]):
            excess[~different | np.isnan(excess)] = -np.inf
            at = int(np.argmax(excess))
        if excess[at] > self.excess:
            self.excess, self.worst_at = float(excess[at]), start + at

    def _keep(self, apart: Doubles, magnitude: Doubles, excess: Doubles) -> None:
        """Keep the few elements that can decide the least tolerances; most blocks have none that beats what is kept."""
        room = 8 * float(np.spacing(max(float(apart.max()), self.atol)))
        with np.errstate(all="ignore"):
            able = apart + (room - self.atol) >= self.surely_rtol * magnitude
            if float(excess.max()) + self.atol + room >= self.surely_atol:
                able |= excess >= float(excess.max()) - 2 * room
            able &= apart > 0
            if not able.any():
                return
            few, sizes = apart[able], magnitude[able]
            deciding = undecided(few, sizes, self.rtol, self.atol)
            few, sizes = few[deciding], sizes[deciding]
            self.deciding.append((few, sizes))
            self.surely_atol = max(self.surely_atol, float((few - self.rtol * sizes).max()) - room)
            surely = (few - self.atol - room) / sizes
            self.surely_rtol = max(self.surely_rtol, float(np.fmax.reduce(surely, initial=0.0)))

    def _least(self) -> tuple[float, float]:
        if not self.deciding:
            return 0.0, 0.0
        apart, magnitude = (np.concatenate([pair[side] for pair in self.deciding]) for side in range(2))
        return least_atol(apart, magnitude, self.rtol), least_rtol(apart, magnitude, self.atol)


def _apart(first: Doubles, second: Doubles) -> Doubles:
    with np.errstate(all="ignore"):
        found = np.subtract(second, first)
        return np.abs(found, out=found)


def _largest(values: Doubles) -> float:
    top = float(np.fmax.reduce(values))
    if np.isfinite(top):
        return top
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else 0.0

"""(what entered a site, its kinks) -> how many elements were on each side, by channel where channels count.

x = [-2, 0, 3, nan], kink 0  ->  below 1, at 1, above 1; 1 negative, 1 zero, 1 positive, 1 NaN
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxact.activation.numeric import FLOATS, dtype_name, rounded
from onnxact.check.interval import Interval
from onnxact.check.site_evidence import KinkCount, SignCount, SiteProbe

Array = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]

_BLOCK, _ROW = 1 << 16, 1 << 13
_SIGNS = [2, 2, 3, 0, 1]
"""Where _counts has the negative ones, in place of the zeros, the positive, NaN and infinite ones."""


@dataclass(frozen=True)
class Tally:
    """Elements that entered a site.

    `below`, `at`, `above`: [kinks, channels]; `signs`: [5, channels], the negative, zero, positive, NaN and infinite
    ones. One channel where they do not matter. `shape` and `dtype` are those of the first array.
    """

    below: Counts
    at: Counts
    above: Counts
    signs: Counts
    elements: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def nan(self) -> int:
        """How many were NaN."""
        return int(self.signs[3].sum())

    @property
    def infinite(self) -> int:
        """How many were infinite."""
        return int(self.signs[4].sum())

    def plus(self, other: Tally) -> Tally:
        """Both together; they are of the same site, so of the same channels."""
        return Tally(
            self.below + other.below,
            self.at + other.at,
            self.above + other.above,
            self.signs + other.signs,
            self.elements + other.elements,
            self.shape,
            self.dtype,
        )


def tally(probe: SiteProbe, array: Array) -> Tally:
    """Count one array. A channel axis that the array does not have counts as one channel. Kinks are compared as the
    dtype holds them.
    """
    values = array.astype(np.float32) if array.dtype.itemsize == 2 and array.dtype.kind in "fV" else array
    channels = _by_channel(values, probe.channel_axis)
    edges, rows = _edges(probe.kinks, array.dtype)
    counts = _counts(channels, edges, floating=values.dtype.kind == "f")
    ordered = channels.shape[1] - counts[0]
    below, above = counts[rows], counts[rows + 1]
    signs = counts[_SIGNS]
    signs[1] = ordered - counts[2] - counts[3]
    return Tally(below, ordered - below - above, above, signs, values.size, array.shape, dtype_name(array.dtype))


def missing(probe: SiteProbe, counted: Tally | None, possible: Interval) -> tuple[str, ...]:
    """In words, the branches that nothing went through although the graph allows it; empty for a reached site."""
    if counted is None or counted.elements == counted.nan:
        return ("no value entered it",)
    found: list[str] = []
    for row, kink in enumerate(probe.kinks):
        if possible.low < kink:
            found += _missing_side(counted.below[row], f"below {kink:g}")
        if possible.high > kink:
            found += _missing_side(counted.above[row], f"above {kink:g}")
    return tuple(found)


def missed_branches(probe: SiteProbe, counted: Tally | None, possible: Interval) -> int:
    """How many branches of how many channels nothing went through although the graph allows it."""
    if counted is None:
        return 1 << 30
    below, above = (np.count_nonzero(side == 0, axis=1) for side in (counted.below, counted.above))
    kinks = np.array(probe.kinks)
    return int(below[kinks > possible.low].sum() + above[kinks < possible.high].sum())


def sides_reached(counted: Tally) -> int:
    """How many sides of kinks something went to, in whatever channel."""
    return sum(int(np.count_nonzero(side.any(axis=1))) for side in (counted.below, counted.above))


def reached_at_zero(probe: SiteProbe, counted: Tally, possible: Interval) -> bool:
    """Whether something, in any channel, went to each side of zero that the graph allows, where zero is a kink."""
    sides = zip(probe.kinks, counted.below, counted.above, strict=True)
    return all(
        (possible.low >= 0 or bool(below.any())) and (possible.high <= 0 or bool(above.any()))
        for kink, below, above in sides
        if kink == 0
    )


def ruled_out(probe: SiteProbe, possible: Interval) -> str:
    """The branches that the graph rules out, in words."""
    sides = [f"below {kink:g}" for kink in probe.kinks if possible.low >= kink]
    sides += [f"above {kink:g}" for kink in probe.kinks if possible.high <= kink]
    ends = f"[{possible.low:g}, {possible.high:g}]"
    return f"what feeds it lies in {ends}, so nothing can be {' or '.join(sides)}" if sides else ""


def kink_counts(probe: SiteProbe, counted: Tally) -> tuple[KinkCount, ...]:
    """The counts at every kink."""
    return tuple(_kink_count(row, kink, counted) for row, kink in enumerate(probe.kinks))


def sign_counts(counted: Tally) -> tuple[SignCount, tuple[SignCount, ...]]:
    """The counts by kind, of all elements and by channel where there are several."""
    total = SignCount(*counted.signs.sum(axis=1).tolist())
    several = counted.signs.shape[1] > 1
    return total, tuple(SignCount(*column) for column in counted.signs.T.tolist()) if several else ()


def _by_channel(values: Array, axis: int | None) -> Array:
    """[channels, the rest]; one channel for None or an axis that is not there."""
    if axis is None or not -values.ndim <= axis < values.ndim:
        return values.reshape(1, -1)
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)


def _counts(channels: Array, edges: Sequence[float], *, floating: bool) -> Counts:
    """How many elements of each channel are NaN, infinite, below and above every edge: [2 + 2 edges, channels].

    A block at a time, which is read from memory once.
    """
    found = np.zeros((2 + 2 * len(edges), len(channels)), np.int64)
    if len(channels) > 1 and channels.shape[1] < _ROW:
        rows = max(1, _BLOCK // max(1, channels.shape[1]))
        for start in range(0, len(channels), rows):
            found[:, start : start + rows] = _counted(channels[start : start + rows], edges, floating=floating)
        return found
    for number, row in enumerate(channels):
        for start in range(0, row.size, _BLOCK):
            found[:, number] += _counted(row[start : start + _BLOCK], edges, floating=floating)
    return found


def _counted(block: Array, edges: Sequence[float], *, floating: bool) -> list[Any]:
    """The same of one block, along its last axis."""
    axis = None if block.ndim == 1 else 1
    special = floating and not np.isfinite(block).all()
    tests = [np.isnan(block), np.isinf(block)] if special else []
    tests += [side(block, edge) for edge in edges for side in (np.less, np.greater)]
    counts = [np.count_nonzero(test, axis) for test in tests]
    return counts if special else [np.zeros(block.shape[:-1], np.int64)] * 2 + counts


@lru_cache(maxsize=256)
def _edges(kinks: tuple[float, ...], dtype: np.dtype[Any]) -> tuple[tuple[float, ...], Counts]:
    """0 and the kinks as the dtype holds them, each once; and where _counts says how many are below each kink."""
    held = [float(rounded(kink, dtype)) if dtype_name(dtype) in FLOATS else kink for kink in kinks]
    edges = list(dict.fromkeys([0.0, *held]))
    return tuple(edges), np.array([2 + 2 * edges.index(kink) for kink in held], np.int64)


def _missing_side(counts: Counts, side: str) -> list[str]:
    empty = np.flatnonzero(counts == 0)
    if not empty.size:
        return []
    if counts.size == 1:
        return [f"no value {side} entered it"]
    shown = ", ".join(str(channel) for channel in empty[:8]) + (", ..." if empty.size > 8 else "")
    return [f"no value {side} entered {empty.size} of {counts.size} channels ({shown})"]


def _kink_count(row: int, kink: float, counted: Tally) -> KinkCount:
    below, at, above = counted.below[row], counted.at[row], counted.above[row]
    several = below.size > 1
    return KinkCount(
        kink,
        int(below.sum()),
        int(at.sum()),
        int(above.sum()),
        below.size if several else 0,
        _empty(below) if several else (),
        _empty(above) if several else (),
    )


def _empty(counts: Counts) -> tuple[int, ...]:
    return tuple(int(channel) for channel in np.flatnonzero(counts == 0))

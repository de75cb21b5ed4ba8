"""(kinks, dtype) -> the inputs with which a site is tried on its own: special values, both sides of kinks, all sizes.

kink 0 in float32 -> nan, inf, -inf, 0, -0, 1.4e-45, ..., 3.4e38, then 4,096 distances from 0 to both sides, then ...
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxact.activation.numeric import FLOATS, rounded
from onnxact.activation.rounding import limits

Array = npt.NDArray[Any]

_DISTANCES = 4096
_MAGNITUDES = 2048


@lru_cache(maxsize=64)
def special_points(kinks: tuple[float, ...], dtype: str) -> Array:
    """NaN, both infinities, both zeros, both signs of the smallest and largest subnormal and normal number, and every
    kink with its two neighbours in the dtype.
    """
    kind, info = FLOATS[dtype], limits(FLOATS[dtype])
    smallest, normal, largest = (float(item) for item in (info.smallest_subnormal, info.smallest_normal, info.max))
    edges = [smallest, normal - smallest, normal, 1.0, largest]
    values = [np.nan, np.inf, -np.inf, 0.0, -0.0, *edges, *(-edge for edge in edges)]
    plain = np.array(values).astype(kind)
    around = [_around(kink, kind) for kink in kinks]
    return np.concatenate([plain, *around])


@lru_cache(maxsize=64)
def ordinary_points(kinks: tuple[float, ...], dtype: str) -> Array:
    """Distances from 1e-3 to 10 to both sides of every kink (of 0 where there is none), then magnitudes of both signs
    over the whole range of the dtype; mixed, so that any first part has something of all.
    """
    kind, info = FLOATS[dtype], limits(FLOATS[dtype])
    rng = np.random.default_rng(0)
    distance = 10.0 ** rng.uniform(-3, 1, _DISTANCES)
    sides = [kink + sign * distance for kink in (kinks or (0.0,)) for sign in (1, -1)]
    lowest, highest = np.log2(float(info.smallest_subnormal)), np.log2(float(info.max))
    magnitude = 2.0 ** rng.uniform(lowest, highest, _MAGNITUDES)
    values = np.concatenate([*sides, magnitude, -magnitude])
    return rounded(rng.permutation(values), kind)


@lru_cache(maxsize=64)
def constant_points(constants: tuple[float, ...], dtype: str) -> Array:
    """What nodes with these constants may compare x with, each with its two neighbours in the dtype, and the middles
    between consecutive ones: the constants with both signs, and what a sum or product of x with one has to be another.
    """
    kind = FLOATS[dtype]
    with np.errstate(all="ignore"):
        held = np.unique(rounded(np.array(constants), kind).astype(np.float64))
        one, other = held[:, None], held[None, :]
        reached = np.concatenate([item.ravel() for item in (one - other, one + other, one / other, one * other)])
    first = _finite(np.concatenate([held, -held]))
    around = np.concatenate([_around(float(at), kind) for at in (*first, *np.setdiff1d(_finite(reached), first))])
    return np.concatenate([around, rounded((first[1:] + first[:-1]) / 2, kind)])


def every_value(dtype: str) -> Array:
    """All 65,536 values of a 16-bit dtype."""
    return np.arange(1 << 16, dtype=np.uint16).view(FLOATS[dtype])


def _finite(values: Array) -> Array:
    return np.unique(values[np.isfinite(values)])


def _around(kink: float, kind: np.dtype[Any]) -> Array:
    """A kink as the dtype holds it, the next number below and the next above."""
    at = rounded(kink, kind)
    ends = np.array([-np.inf, np.inf]).astype(kind)
    return np.array([np.nextafter(at, ends[0]), at, np.nextafter(at, ends[1])], kind)

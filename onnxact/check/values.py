"""(a value before, the same value after) -> ValueEvidence: how far apart they are, against the bound of the type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxact.check.compare import default_tolerance, shown
from onnxact.check.diagnosis import ValueEvidence
from onnxact.check.distance import distance, is_floating, size_of, unequal

Array = npt.NDArray[Any]


def value_evidence(before: str, after: str, first: Any, second: Any, *, exact: bool = False) -> ValueEvidence:
    """Hold one value of both models against its bound."""
    found = ValueEvidence(before, after)
    if not isinstance(first, np.ndarray) or not isinstance(second, np.ndarray):
        return replace(found, problem="" if first is second else "no tensor")
    if first.dtype != second.dtype or first.shape != second.shape:
        kinds = [f"{array.dtype}{list(array.shape)}" for array in (first, second)]
        return replace(found, problem=f"{kinds[0]} before, {kinds[1]} after")
    found = replace(found, dtype=first.dtype.name, shape=first.shape, elements=first.size)
    if not is_floating(first):
        at = unequal(first, second)
        return _located(replace(found, differing=at.size, outside=at.size), first, second, at[:1].tolist())
    scale = size_of(first).scale
    rtol, atol = (0.0, 0.0) if exact else default_tolerance(first.dtype.name, scale)
    apart = distance(first, second, rtol, atol)
    worst = apart.nan_at if apart.nan else apart.infinite_at if apart.infinite else apart.worst_at
    found = replace(
        found,
        differing=apart.differing,
        outside=apart.outside + apart.nan + apart.infinite,
        nan=apart.nan,
        infinite=apart.infinite,
        max_abs=apart.max_abs,
        scale=scale,
        rtol=rtol,
        atol=atol,
    )
    return _located(found, first, second, [worst] if apart.differing else [])


def _located(found: ValueEvidence, first: Array, second: Array, at: Sequence[int]) -> ValueEvidence:
    if not at:
        return found
    index = tuple(int(item) for item in np.unravel_index(at[0], first.shape))
    return replace(found, worst_index=index, worst_before=shown(first[index]), worst_after=shown(second[index]))

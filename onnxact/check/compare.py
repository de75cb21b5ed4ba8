"""(output of before, output of after, tolerance, noise) -> OutputEvidence.

Bits first. Where they differ, floating values are held against NumPy's rule

    |after - before| <= atol + rtol * |before|

with, by default, rtol = 2^10 u and atol = rtol * scale, and against 4 times the noise floor; everything else has to be
equal. u is the unit roundoff of the dtype, scale the root mean square of the finite elements of `before`. NaN has to
meet NaN (payloads are not compared) and an infinity the same infinity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxact.check.verdict import OutputEvidence, Run, Tolerance

Array = npt.NDArray[Any]

UNIT_ROUNDOFF: Mapping[str, float] = {"float32": 2**-24, "float64": 2**-53, "float16": 2**-11, "bfloat16": 2**-8}


@dataclass(frozen=True)
class Difference:
    """Two arrays of one dtype and shape, element by element. See OutputEvidence for the fields' meaning."""

    differing: int
    finite: int
    scale: float
    max_abs: float = 0.0
    max_rel: float = 0.0


def leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """(path, array) for every tensor in a value: y; y[0], y[1] for a sequence; y['cat'] for a map; y for None."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(f"{name}[{key!r}]", item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from leaves(f"{name}[{index}]", item)
    else:
        yield name, None if value is None else np.asarray(value)

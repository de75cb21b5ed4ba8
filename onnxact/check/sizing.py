"""(graph before, graph after) -> sizes of dimensions at which the two may part: whole numbers of one of them only.

Slice(x, 0, 100) before, x after  ->  [100, 101]
"""

from __future__ import annotations

import math

from onnx import TensorProto

from onnxact.check.fingerprint import Indexed
from onnxact.check.weights import value_of

_FEW = 4
"""Elements of the largest constant that is looked at."""
_MOST = 6
_LARGEST = 1 << 10


def sizes_between(before: Indexed, after: Indexed) -> list[int]:
    """What fits such a number, and what is too large for it; the small ones first."""
    numbers = _whole(before) ^ _whole(after)
    return sorted({number + by for number in numbers for by in (0, 1)})[:_MOST]


def _whole(graph: Indexed) -> set[int]:
    found: set[int] = set()
    for tensor in (tensor for name, tensor in graph.constants.items() if name in graph.readers):
        if tensor.data_type in {TensorProto.INT32, TensorProto.INT64} and math.prod(tensor.dims) <= _FEW:
            values = value_of(tensor, graph.folder)
            found.update(() if values is None else map(int, values.ravel()))
    return {number for number in found if 1 < number < _LARGEST}

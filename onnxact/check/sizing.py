"""(graph before, graph after) -> sizes of dimensions at which the two may part: whole numbers of one of them only.

Slice(x, 0, 100) before, x after  ->  [100, 101, 102]
"""

from __future__ import annotations

import math

from onnx import TensorProto

from onnxact.check.fingerprint import Indexed, op_of
from onnxact.check.weights import value_of

_FEW = 4
"""Elements of the largest constant whose values are looked at."""
_MOST = 12
_LARGEST = 1 << 10
_TABLES = frozenset({"Gather", "Slice", "GatherElements", "GatherND"})


def sizes_between(before: Indexed, after: Indexed) -> list[int]:
    """What fits such a number, and what is too large for it; the small ones first."""
    numbers = (_whole(before) ^ _whole(after)) | (_lengths(before) ^ _lengths(after))
    return sorted({number + by for number in numbers for by in (0, 1, 2)})[:_MOST]


def _whole(graph: Indexed) -> set[int]:
    """The whole numbers among small constants."""
    found: set[int] = set()
    for tensor in (tensor for name, tensor in graph.constants.items() if name in graph.readers):
        if tensor.data_type in {TensorProto.INT32, TensorProto.INT64} and math.prod(tensor.dims) <= _FEW:
            values = value_of(tensor, graph.folder)
            found.update(() if values is None else map(int, values.ravel()))
    return {number for number in found if 1 < number < _LARGEST}


def _lengths(graph: Indexed) -> set[int]:
    """The lengths of constants from which something is taken: masks and tables that are made for a longest input."""
    read = {node.input[0] for node in graph.nodes if op_of(node) in _TABLES and node.input}
    dims = (dim for name in read & graph.constants.keys() for dim in graph.constants[name].dims)
    return {dim for dim in dims if 1 < dim < _LARGEST}

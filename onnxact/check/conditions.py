"""model -> what its conditions compare with, so that inputs can be moved to each side: If(ReduceMean(x) > 5) -> 5.

Only comparisons with a constant whose result decides an If or a Loop count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from onnxact.check.graph import all_graphs, constants, producers
from onnxact.check.ranges import COMPARISONS

_MOST = 8
"""How many constants are tried."""
_LARGEST_SIZE = 4096
"""The largest size that an open dimension is given because of a comparison."""
_DECIDES = {"If": 0, "Loop": 1}


@dataclass(frozen=True)
class Thresholds:
    """`shifts`: what to add to floating inputs of about 1. `sizes`: what to make open dimensions."""

    shifts: tuple[float, ...]
    sizes: tuple[int, ...]


def thresholds(model: ModelProto) -> Thresholds:
    """What the conditions of the main graph and its bodies compare with."""
    graphs = list(all_graphs(model.graph))
    made = producers([node for graph in graphs for node in graph.node])
    tensors = {name: tensor for graph in graphs for name, tensor in constants(graph).items()}
    starts = [
        node.input[_DECIDES[node.op_type]]
        for graph in graphs
        for node in graph.node
        if node.op_type in _DECIDES and len(node.input) > _DECIDES[node.op_type]
    ]
    numbers: dict[float, None] = {}
    sizes: dict[int, None] = {}
    for comparison, measured in _comparisons(starts, made):
        for number in _numbers(comparison, tensors):
            if measured:
                sizes.update(dict.fromkeys((int(number) + 1, int(number), int(number) - 1)))
            else:
                numbers[number] = None
    return Thresholds(
        tuple(shift for number in list(numbers)[:_MOST] for shift in _both_sides(number)),
        tuple(size for size in sizes if 0 < size <= _LARGEST_SIZE)[: 3 * _MOST],
    )


def _comparisons(starts: Sequence[str], made: Mapping[str, NodeProto]) -> Iterator[tuple[NodeProto, bool]]:
    """Every comparison above `starts`, and whether what it compares is the size of something."""
    for node in _above(starts, made):
        if node.op_type in COMPARISONS:
            yield node, any(other.op_type in {"Shape", "Size"} for other in _above(node.input, made))


def _above(names: Sequence[str], made: Mapping[str, NodeProto]) -> Iterator[NodeProto]:
    pending, seen = list(names), set(names)
    while pending:
        node = made.get(pending.pop())
        if node is not None:
            yield node
            fresh = [name for name in node.input if name and name not in seen]
            seen.update(fresh)
            pending += fresh


def _numbers(node: NodeProto, tensors: Mapping[str, TensorProto]) -> Iterator[float]:
    for name in node.input:
        tensor = tensors.get(name)
        if tensor is not None and tensor.data_location != TensorProto.EXTERNAL and math.prod(tensor.dims) == 1:
            number = float(numpy_helper.to_array(tensor).ravel()[0])
            if math.isfinite(number):
                yield number


def _both_sides(number: float) -> tuple[float, float, float]:
    """Well above, well below, and so that values around zero come to lie around `number`."""
    far = max(1.0, abs(number))
    return number + far, number - far, number

"""model -> what its conditions compare with, so that inputs can be moved to each side: If(ReduceMean(x) > 5) -> 5.

Only comparisons with a constant whose result decides an If or a Loop count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from onnxact.check.graph import all_graphs, constants, producers
from onnxact.check.ranges import COMPARISONS

_MOST = 8
"""How many constants are tried."""
_LARGEST_SIZE = 4096
"""The largest size that an open dimension is given because of a comparison."""
_DECIDES = {"If": 0, "Loop": 1}


@dataclass(frozen=True)
class Thresholds:
    """`numbers`: what values are compared with. `sizes`: what to make open dimensions."""

    numbers: tuple[float, ...]
    sizes: tuple[int, ...]

    @property
    def shifts(self) -> tuple[float, ...]:
        """What to add to floating inputs of about 1."""
        return tuple(shift for number in self.numbers for shift in _both_sides(number))

    @property
    def scales(self) -> tuple[float, ...]:
        """What to multiply floating inputs of about 1 with, so that they pass numbers above 1 in size."""
        large = [10 * abs(number) for number in self.numbers if abs(number) > 1]
        return tuple(scale for number in dict.fromkeys(large) for scale in (number, -number))


def thresholds(model: ModelProto, conditions: Sequence[str] | None = None) -> Thresholds:
    """What the conditions of these names compare with; None for all of the main graph and its bodies."""
    graphs = list(all_graphs(model.graph))
    nodes = [node for graph in graphs for node in graph.node] + [n for item in model.functions for n in item.node]
    tensors = {name: tensor for graph in graphs for name, tensor in constants(graph).items()}
    tensors.update(constants(GraphProto(node=[node for node in nodes if node.op_type == "Constant"])))
    numbers: dict[float, None] = {}
    sizes: dict[int, None] = {}
    starts = _deciding(nodes) if conditions is None else conditions
    for comparison, measured in _comparisons(starts, producers(nodes)):
        for number in _numbers(comparison, tensors):
            if measured:
                sizes.update(dict.fromkeys((int(number) + 1, int(number), int(number) - 1)))
            else:
                numbers[number] = None
    return Thresholds(tuple(numbers)[:_MOST], tuple(size for size in sizes if 0 < size <= _LARGEST_SIZE)[: 3 * _MOST])


def _deciding(nodes: Sequence[NodeProto]) -> list[str]:
    places = ((node, _DECIDES[node.op_type]) for node in nodes if node.op_type in _DECIDES)
    return [node.input[at] for node, at in places if len(node.input) > at]


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
            value = numpy_helper.to_array(tensor).ravel()[0]
            if not isinstance(value, str | bytes | complex) and math.isfinite(float(value)):
                yield float(value)


def _both_sides(number: float) -> tuple[float, float, float]:
    """Well above, well below, and so that values around zero come to lie around `number`."""
    far = max(1.0, abs(number))
    return number + far, number - far, number

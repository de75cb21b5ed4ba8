"""integer graph input -> the values that keep what reads it within its bounds.

The name is followed through ops that pass integers on (Cast, Reshape, Concat, ...), into bodies and local functions, to
what limits it: x into Gather(table [30522, 768], x) gives 0..30521.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from onnxact.check.graph import (
    all_graphs,
    constants,
    declared_shape,
    integer,
    local_function_nodes,
    subgraphs,
)

UNLIMITED = 1 << 31


@dataclass(frozen=True)
class Range:
    """Low and high, both included; `choices` are single values that the model compares the input with."""

    low: int = -UNLIMITED
    high: int = UNLIMITED
    choices: tuple[int, ...] = ()

    @property
    def limited(self) -> bool:
        """Whether anything bounds it."""
        return self.high < UNLIMITED

    def meet(self, other: Range) -> Range:
        """What both allow; where that is nothing, the lower bound alone."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Range(low, max(low, high), tuple(dict.fromkeys(self.choices + other.choices)))

    def shifted(self, amount: int) -> Range:
        """The range of x where x + amount has to lie in this one."""
        choices = tuple(choice - amount for choice in self.choices)
        low = self.low if self.low == -UNLIMITED else self.low - amount
        return Range(low, self.high - amount if self.limited else self.high, choices)


@dataclass(frozen=True)
class _Scope:
    """The main graph with its bodies, or a local function: who reads a name, and the sizes and values known of it."""

    model: ModelProto
    readers: Mapping[str, list[tuple[NodeProto, int]]]
    tensors: Mapping[str, TensorProto]
    shapes: Mapping[str, tuple[int | str, ...]]


_Rule = Callable[[_Scope, NodeProto], Range]

# Ops that hand on the integers of these inputs, unchanged, to all their outputs.
_PASSES: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("Identity", "Cast", "CastLike", "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Transpose"), (0,)),
    **dict.fromkeys(("Expand", "Slice", "Gather", "GatherElements", "GatherND", "Tile", "Split", "Pad"), (0,)),
    **dict.fromkeys(("ReverseSequence", "Clip", "CumSum", "ReduceMax", "ReduceMin"), (0,)),
    **dict.fromkeys(("Max", "Min", "Concat"), tuple(range(64))),
    "Where": (1, 2),
}


def integer_range(model: ModelProto, name: str) -> Range:
    """The values that the main-graph input `name` may take; unlimited where nothing that reads it says so."""
    shapes, tensors = _facts(model)
    nodes = [node for graph in all_graphs(model.graph) for node in graph.node]
    return _range(_Scope(model, _readers(nodes), tensors, shapes), name, 0)


def _facts(model: ModelProto) -> tuple[dict[str, tuple[int | str, ...]], dict[str, TensorProto]]:
    shapes: dict[str, tuple[int | str, ...]] = {}
    tensors: dict[str, TensorProto] = {}
    for graph in all_graphs(model.graph):
        for value in (*graph.input, *graph.value_info):
            shape = declared_shape(value.type.tensor_type)
            if shape is not None:
                shapes[value.name] = shape
        tensors.update(constants(graph))
    shapes.update({name: tuple(tensor.dims) for name, tensor in tensors.items()})
    for graph in all_graphs(model.graph):
        _add_same_shapes(graph, shapes)
    return shapes, tensors


def _add_same_shapes(graph: GraphProto, shapes: dict[str, tuple[int | str, ...]]) -> None:
    """A float16 table is often Cast, a quantized one dequantized, before it is gathered from."""
    for node in graph.node:
        if node.op_type in {"Cast", "Identity", "DequantizeLinear"} and node.input[0] in shapes:
            shapes.setdefault(node.output[0], shapes[node.input[0]])


def _readers(nodes: list[NodeProto]) -> dict[str, list[tuple[NodeProto, int]]]:
    found: dict[str, list[tuple[NodeProto, int]]] = {}
    for node in nodes:
        for position, name in enumerate(node.input):
            if name:
                found.setdefault(name, []).append((node, position))
    return found


def _range(scope: _Scope, name: str, depth: int) -> Range:
    """Follow `name` breadth first; `depth` is how many local functions this is inside."""
    result = Range()
    pending, seen = [(name, 0)], {name}
    while pending:
        current, offset = pending.pop()
        for node, position in scope.readers.get(current, ()):
            result = result.meet(_limit(scope, node, position, depth).shifted(offset))
            for onward, more in _onward(scope, node, position):
                if onward not in seen:
                    seen.add(onward)
                    pending.append((onward, offset + more))
    return result


def _limit(scope: _Scope, node: NodeProto, position: int, depth: int) -> Range:
    rule = _LIMITS.get((node.op_type, position))
    if rule is not None:
        return rule(scope, node)
    if node.op_type in {"Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"}:
        return _compared_with(scope, node.input[1 - position])
    return _inside_function(scope, node, position, depth)


def _inside_function(scope: _Scope, node: NodeProto, position: int, depth: int) -> Range:
    body = local_function_nodes(scope.model).get((node.domain, node.op_type)) if scope.model.functions else None
    if body is None or position >= len(body[0]) or depth > 8:
        return Range()
    formals, nodes = body
    shapes = {
        formal: scope.shapes[name] for formal, name in zip(formals, node.input, strict=False) if name in scope.shapes
    }
    inner = _Scope(scope.model, _readers(nodes), {}, shapes)
    return _range(inner, formals[position], depth + 1)


def _onward(scope: _Scope, node: NodeProto, position: int) -> Iterator[tuple[str, int]]:
    """The names that carry the same integers on, each with what was added to them."""
    if position in _PASSES.get(node.op_type, ()):
        yield from ((output, 0) for output in node.output if output)
    elif node.op_type in {"Add", "Sub"}:
        yield from _moved(scope, node, position)
    elif node.op_type in {"Loop", "Scan"}:
        bodies = [body.input[position].name for body in subgraphs(node) if position < len(body.input)]
        yield from ((name, 0) for name in bodies)


def _moved(scope: _Scope, node: NodeProto, position: int) -> Iterator[tuple[str, int]]:
    amount = _integers(scope, node.input[1 - position])
    if len(amount) == 1 and (node.op_type == "Add" or position == 0):
        yield node.output[0], amount[0] if node.op_type == "Add" else -amount[0]


def _integers(scope: _Scope, name: str) -> tuple[int, ...]:
    """The values of a constant of at most 16 integers; nothing where it is no such constant."""
    tensor = scope.tensors.get(name)
    if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
        return ()
    array = numpy_helper.to_array(tensor)
    return tuple(int(value) for value in array.ravel()) if array.dtype.kind in "iu" and array.size <= 16 else ()


def _compared_with(scope: _Scope, name: str) -> Range:
    return Range(choices=_integers(scope, name))


def _size(scope: _Scope, name: str, axis: int) -> int:
    """The size of one axis of a value, 2 where it is not known: that keeps indices at 0 and 1."""
    shape = scope.shapes.get(name, ())
    if not -len(shape) <= axis < len(shape):
        return 2
    size = shape[axis]
    return size if isinstance(size, int) else 2


def _index_of(position: int, default_axis: int = 0) -> _Rule:
    """An index into input `position`, along the node's `axis`."""
    return lambda scope, node: Range(
        0, max(_size(scope, node.input[position], integer(node, "axis", default_axis)) - 1, 0)
    )


def _coordinates(scope: _Scope, node: NodeProto) -> Range:
    """GatherND, ScatterND: any coordinate, so the smallest axis decides."""
    sizes = [size for size in scope.shapes.get(node.input[0], ()) if isinstance(size, int)]
    return Range(0, max(min(sizes, default=1) - 1, 0))


def _class(scope: _Scope, node: NodeProto) -> Range:
    """OneHot: 0..depth-1."""
    depth = _integers(scope, node.input[1])
    return Range(0, max(depth[0], 1) - 1 if len(depth) == 1 else 1)


def _row_of(position: int) -> _Rule:
    """EmbedLayerNormalization: a row of the table at input `position`."""
    return lambda scope, node: Range(0, _size(scope, node.input[position], 0) - 1)


def _sequence_length(axis: int, inside: str) -> _Rule:
    """1 up to the length of the sequence; `inside` is the attribute that may say along which axis it runs."""
    return lambda scope, node: Range(1, max(_size(scope, node.input[0], integer(node, inside, axis)), 1))


def _small(_scope: _Scope, _node: NodeProto) -> Range:
    """A count or divisor: 1 or 2."""
    return Range(1, 2)


_LIMITS: Mapping[tuple[str, int], _Rule] = {
    ("Gather", 1): _index_of(0),
    ("GatherElements", 1): _index_of(0),
    ("Scatter", 1): _index_of(0),
    ("ScatterElements", 1): _index_of(0),
    ("TensorScatter", 2): _index_of(0),
    ("ArrayFeatureExtractor", 1): _index_of(0, -1),
    ("GatherND", 1): _coordinates,
    ("ScatterND", 1): _coordinates,
    ("OneHot", 0): _class,
    ("OneHot", 1): _small,
    ("EmbedLayerNormalization", 0): _row_of(2),
    ("EmbedLayerNormalization", 1): _row_of(4),
    ("ReverseSequence", 1): _sequence_length(0, "time_axis"),
    **dict.fromkeys((("RNN", 4), ("GRU", 4), ("LSTM", 4)), _sequence_length(0, "")),
    **dict.fromkeys((("Reshape", 1), ("Expand", 1), ("Tile", 1), ("ConstantOfShape", 0), ("TopK", 1)), _small),
    **dict.fromkeys((("Range", 1), ("Range", 2), ("Loop", 0), ("Resize", 3), ("Div", 1), ("Mod", 1)), _small),
}


def with_default(found: Range, default: Range) -> Range:
    """`found`, or `default` with the choices of `found` where nothing limits it."""
    return found if found.limited else replace(default, choices=found.choices)

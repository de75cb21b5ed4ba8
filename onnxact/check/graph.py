"""What the check has to know of a ModelProto: nodes, producers, constants, inputs, types. Read-only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from onnxact.model.schema import may_hold_bodies, plain

UNDECLARED = "undeclared"
_CONSTANT_ATTRIBUTES = {
    "value_int": TensorProto.INT64,
    "value_ints": TensorProto.INT64,
    "value_float": TensorProto.FLOAT,
    "value_floats": TensorProto.FLOAT,
}


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The bodies that `node` holds, in attribute order; bodies inside those bodies are not listed."""
    if not plain(node.domain) and not may_hold_bodies(node.op_type):
        return
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def all_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """`graph` and every body below it, however deep."""
    pending = [graph]
    while pending:
        current = pending.pop()
        yield current
        pending.extend(body for node in current.node for body in subgraphs(node))


def producers(nodes: Sequence[NodeProto]) -> dict[str, NodeProto]:
    """Value name -> the node that computes it."""
    return {output: node for node in nodes for output in node.output if output}


def constants(graph: GraphProto) -> dict[str, TensorProto]:
    """Value name -> its tensor, for initializers and numeric Constant nodes."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        value = _constant(node) if node.op_type == "Constant" else None
        if value is not None:
            found[node.output[0]] = value
    return found


def _constant(node: NodeProto) -> TensorProto | None:
    value = attribute(node, "value")
    if value is not None:
        return value.t
    for name, elem_type in _CONSTANT_ATTRIBUTES.items():
        found = attribute(node, name)
        if found is not None:
            numbers = np.array(helper.get_attribute_value(found), helper.tensor_dtype_to_np_dtype(elem_type))
            return numpy_helper.from_array(numbers)
    return None


def attribute(node: NodeProto, name: str) -> AttributeProto | None:
    """The attribute `name` of `node`, None where it is left at its default."""
    return next((item for item in node.attribute if item.name == name), None)


def integer(node: NodeProto, name: str, default: int) -> int:
    """The integer attribute `name` of `node`, or `default`."""
    found = attribute(node, name)
    return default if found is None else found.i


def initializer_names(graph: GraphProto) -> set[str]:
    """Names that have a stored value, dense or sparse."""
    sparse = {tensor.values.name for tensor in graph.sparse_initializer}
    return {tensor.name for tensor in graph.initializer} | sparse


def required_inputs(graph: GraphProto) -> list[ValueInfoProto]:
    """The graph inputs that a caller has to feed: those without an initializer (IR 3 lists weights as inputs)."""
    stored = initializer_names(graph)
    return [value for value in graph.input if value.name not in stored]


def overridable_inputs(graph: GraphProto) -> list[str]:
    """The graph inputs that have a default value."""
    stored = initializer_names(graph)
    return [value.name for value in graph.input if value.name in stored]


def element_types(graph: GraphProto) -> dict[str, int]:
    """Value name -> TensorProto.DataType, as far as the graph says so."""
    declared = [*graph.input, *graph.value_info, *graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in declared if value.type.HasField("tensor_type")}
    types.update({name: tensor.data_type for name, tensor in constants(graph).items()})
    return types


def declared_shape(value: TypeProto.Tensor) -> tuple[int | str, ...] | None:
    """The dimensions as declared: a size, a symbol, or "" for unknown (also written -1). None without even a rank."""
    if not value.HasField("shape"):
        return None
    sized = ((dim.HasField("dim_value") and dim.dim_value >= 0, dim) for dim in value.shape.dim)
    return tuple(dim.dim_value if known else dim.dim_param for known, dim in sized)


def type_text(value: TypeProto) -> str:
    """A type as people write it: `float16`, `seq(float)`, `optional(int64)`, `map(int64, float)`."""
    if value.HasField("tensor_type"):
        return elem_type_text(value.tensor_type.elem_type)
    if value.HasField("sequence_type"):
        return f"seq({type_text(value.sequence_type.elem_type)})"
    if value.HasField("optional_type"):
        return f"optional({type_text(value.optional_type.elem_type)})"
    if value.HasField("map_type"):
        return f"map({elem_type_text(value.map_type.key_type)}, {type_text(value.map_type.value_type)})"
    return str(value.WhichOneof("value") or UNDECLARED)


def elem_type_text(elem_type: int) -> str:
    """TensorProto.DataType as people write it: `float16`, `int64`."""
    return str(TensorProto.DataType.Name(elem_type)).lower() if elem_type else UNDECLARED


def local_function_nodes(model: ModelProto) -> dict[tuple[str, str], tuple[list[str], list[NodeProto]]]:
    """(domain, name) of each local function -> its formal inputs and its nodes."""
    return {(item.domain, item.name): (list(item.input), list(item.node)) for item in model.functions}

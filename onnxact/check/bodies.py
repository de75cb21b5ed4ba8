"""(node before, node after) -> the first node that differs inside their bodies, in words; "" where none does.

If (c) { then: Relu }, If (c) { then: LeakyRelu }  ->  "in then_branch, node 'r' is Relu before, LeakyRelu after"
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from onnxact.check.fingerprint import attributes_of, op_of
from onnxact.check.graph import subgraphs


def first_difference(before: NodeProto, after: NodeProto) -> str:
    """Compare the bodies of two nodes in order, however deep."""
    return next(_differences(before, after), "")


def _differences(before: NodeProto, after: NodeProto) -> Iterator[str]:
    others = dict(_bodies(after))
    for name, body in _bodies(before):
        if name in others:
            yield from (f"in {name}, {text}" for text in _in_body(body, others[name]))


def _bodies(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from ((f"{attribute.name}[{at}]", graph) for at, graph in enumerate(attribute.graphs))


def _in_body(before: GraphProto, after: GraphProto) -> Iterator[str]:
    weights = {tensor.name: tensor for tensor in after.initializer}
    for tensor in before.initializer:
        if tensor.name in weights and _content(tensor) != _content(weights[tensor.name]):
            yield f"the initializer {tensor.name!r} has other values"
    for position, (one, other) in enumerate(zip(before.node, after.node, strict=False)):
        if one == other:
            continue
        where = f"node {one.name!r}" if one.name else f"node {position}"
        if op_of(one) != op_of(other):
            yield f"{where} is {op_of(one)} before, {op_of(other)} after"
        elif any(True for _ in subgraphs(one)):
            yield from _differences(one, other)
        elif attributes_of(one) != attributes_of(other):
            yield f"{where}, {op_of(one)}, has other attributes"
        elif list(one.input) != list(other.input):
            yield f"{where}, {op_of(one)}, reads {', '.join(one.input)} before, {', '.join(other.input)} after"
    if len(before.node) != len(after.node):
        yield f"there are {len(before.node)} nodes before, {len(after.node)} after"


def _content(tensor: TensorProto) -> bytes:
    plain = TensorProto()
    plain.CopyFrom(tensor)
    plain.ClearField("name")
    return plain.SerializeToString(deterministic=True)

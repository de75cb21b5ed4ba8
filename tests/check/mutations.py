"""Wrong rewrites: each takes a model that was rewritten right and spoils one thing, and says which site it is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxact.rewrite.site import Site

Spoil = Callable[[ModelProto, Site], ModelProto | None]


def copied(model: ModelProto) -> ModelProto:
    result = ModelProto()
    result.CopyFrom(model)
    return result


def maker(model: ModelProto, output: str) -> NodeProto:
    return next(node for node in model.graph.node if output in node.output)


def another_alpha(model: ModelProto, site: Site) -> ModelProto | None:
    """The attribute of one op, off by a thousandth."""
    result = copied(model)
    for attribute in maker(result, site.output).attribute:
        if attribute.name == "alpha":
            attribute.f += 1e-3
            return result
    return None


def forgotten(model: ModelProto, site: Site) -> ModelProto:
    """One site is still the Relu that it was."""
    result = copied(model)
    node = maker(result, site.output)
    node.op_type = "Relu"
    del node.attribute[:], node.input[1:]
    return result


def another_constant(model: ModelProto, site: Site) -> ModelProto | None:
    """The constant of one decomposed site, off by a thousandth."""
    result = copied(model)
    for node in _nodes_of(result, site):
        for position, name in enumerate(node.input):
            value = _constant(result, name)
            if value is not None and value.dtype.kind == "f" and value.size:
                result.graph.initializer.append(numpy_helper.from_array(value + value.dtype.type(1e-3), "spoilt"))
                node.input[position] = "spoilt"
                return _readable(result, "spoilt")
    return None


def one_channel(model: ModelProto, site: Site) -> ModelProto | None:
    """The slope of the last channel of one PRelu, off by a thousandth."""
    result = copied(model)
    node = maker(result, site.output)
    value = None if node.op_type != "PRelu" else _constant(result, node.input[1])
    if value is None or value.size < 2:
        return None
    slopes = value.copy()
    slopes.reshape(-1)[-1] += slopes.dtype.type(1e-3)
    result.graph.initializer.append(numpy_helper.from_array(slopes, "spoilt"))
    node.input[1] = "spoilt"
    return _readable(result, "spoilt")


def other_op(was: str, becomes: str) -> Spoil:
    """One node of a decomposed site is another op: Min for Max, Identity for Neg, Greater for Less."""

    def spoil(model: ModelProto, site: Site) -> ModelProto | None:
        result = copied(model)
        for node in _nodes_of(result, site):
            if node.op_type == was:
                node.op_type = becomes
                return result
        return None

    return spoil


def swapped_operands(model: ModelProto, site: Site) -> ModelProto | None:
    """y - x for x - y in one decomposed site."""
    result = copied(model)
    for node in _nodes_of(result, site):
        if node.op_type == "Sub":
            first, second = node.input
            node.input[0], node.input[1] = second, first
            return result
    return None


def removed(model: ModelProto, site: Site) -> ModelProto:
    """One site is gone: its output is its input."""
    result = copied(model)
    node = maker(result, site.output)
    node.op_type = "Identity"
    del node.attribute[:], node.input[1:]
    return result


def behind_a_branch(model: ModelProto, site: Site) -> ModelProto | None:
    """One site stands in a branch of an If that no input takes, with the site as it should be in the other."""
    result = copied(model)
    node = maker(result, site.output)
    if len(node.input) != 1:
        return None
    right, wrong = NodeProto(), NodeProto()
    right.CopyFrom(node)
    wrong.CopyFrom(node)
    wrong.op_type = "Abs"
    del wrong.attribute[:]
    branches: dict[str, Any] = {}
    for name, inner in (("then_branch", right), ("else_branch", wrong)):
        inner.output[0] = f"{name}_of_it"
        value = helper.make_tensor_value_info(inner.output[0], TensorProto.FLOAT, None)
        branches[name] = helper.make_graph([inner], name, [], [value])
    always = helper.make_node("Constant", [], ["always"], value=helper.make_tensor("", TensorProto.BOOL, [], [True]))
    at = list(result.graph.node).index(node)
    either = helper.make_node("If", ["always"], [site.output], name=node.name, **branches)
    del result.graph.node[at]
    result.graph.node.insert(at, either)
    result.graph.node.insert(0, always)
    return result


def one_weight(model: ModelProto, site: Site) -> ModelProto | None:
    """The largest weight of the first matrix has the other sign."""
    del site
    result = copied(model)
    for tensor in result.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1:
            value = numpy_helper.to_array(tensor).copy()
            value.reshape(-1)[np.argmax(np.abs(value))] *= -1
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
            return result
    return None


def dropped_output(model: ModelProto, site: Site) -> ModelProto | None:
    """The last of several outputs is lost."""
    del site
    result = copied(model)
    if len(result.graph.output) < 2:
        return None
    del result.graph.output[-1]
    return result


def swapped_outputs(model: ModelProto, site: Site) -> ModelProto | None:
    """The first two outputs stand in another order."""
    del site
    result = copied(model)
    if len(result.graph.output) < 2:
        return None
    first = result.graph.output[0]
    result.graph.output.append(first)
    del result.graph.output[0]
    return result


def _nodes_of(model: ModelProto, site: Site) -> list[NodeProto]:
    """The nodes from the input of the site to its output, the last first."""
    by_output = {output: node for node in model.graph.node for output in node.output}
    found: list[NodeProto] = []
    pending, seen = [site.output], {site.input}
    while pending:
        name = pending.pop(0)
        node = by_output.get(name)
        if name in seen or node is None or node.op_type == "Constant":
            continue
        seen.add(name)
        found.append(node)
        pending.extend(node.input)
    return found


def _constant(model: ModelProto, name: str) -> Any:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor)
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] == name and node.attribute[0].type == AttributeProto.TENSOR:
            return numpy_helper.to_array(node.attribute[0].t)
    return None


def _readable(model: ModelProto, name: str) -> ModelProto:
    """Below IR version 4 an initializer is an input too."""
    if model.ir_version < 4:
        tensor = next(item for item in model.graph.initializer if item.name == name)
        model.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
    return model

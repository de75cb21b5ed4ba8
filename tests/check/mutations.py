"""Wrong rewrites: each takes a model that was rewritten right and spoils one thing, and says which site it is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxact.activation.numeric import FLOATS
from onnxact.activation.rounding import limits
from onnxact.check.alone import ELEM_TYPES
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


def behind_a_branch(wrong: str = "Abs", *, limit: float = 20.0, turns: int = 0) -> Spoil:
    """One site stands in a branch of an If, with another op in the other one, for inputs that reach `limit`; with
    `turns`, all that in a Loop.
    """

    def spoil(model: ModelProto, site: Site) -> ModelProto | None:
        result = copied(model)
        node = maker(result, site.output)
        if len(node.input) != 1 or limit > largest(site) or (turns and opset(model) < _LOOPS_WITHOUT_CONDITION):
            return None
        right, same = _named(node, "of_then"), _named(node, "in_else")
        other = helper.make_node(wrong, ["in_else"], ["of_else"])
        branches: dict[str, Any] = {
            "then_branch": _body([right], "of_then", site),
            "else_branch": _body([same, other], "of_else", site),
        }
        either = helper.make_node("If", ["spoilt_is_low"], ["spoilt_chosen"], **branches)
        nodes = [*_peak(site, limit), either]
        _replace(result, node, _looped(nodes, "spoilt_chosen", turns, site) if turns else nodes)
        return result

    return spoil


def masked(limit: float = 20.0) -> Spoil:
    """What leaves one site is 0 where what enters it is above `limit`."""

    def spoil(model: ModelProto, site: Site) -> ModelProto | None:
        if opset(model) < _SELECTS or limit > largest(site):
            return None
        result = copied(model)
        node = maker(result, site.output)
        nodes = [
            _named(node, "spoilt_right"),
            _number("spoilt_limit", limit, site),
            _number("spoilt_zero", 0.0, site),
            helper.make_node("Greater", [site.input, "spoilt_limit"], ["spoilt_is_high"]),
            helper.make_node("Where", ["spoilt_is_high", "spoilt_zero", "spoilt_right"], ["spoilt_chosen"]),
        ]
        _replace(result, node, nodes)
        return result

    return spoil


_SELECTS = 9
"""The opset from which there is Where."""
_LOOPS_WITHOUT_CONDITION = 11
"""The opset from which Loop takes as few as two inputs."""


def largest(site: Site) -> float:
    """The largest number of a site's dtype."""
    return float(limits(FLOATS[site.dtype or "float32"]).max)


def opset(model: ModelProto) -> int:
    """The version of ONNX's own operator set."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def _named(node: NodeProto, output: str) -> NodeProto:
    """The node with another output."""
    result = NodeProto()
    result.CopyFrom(node)
    result.name, result.output[0] = "", output
    return result


def _peak(site: Site, limit: float) -> list[NodeProto]:
    """Whether everything that enters a site is below a limit."""
    return [
        helper.make_node("ReduceMax", [site.input], ["spoilt_peak"], keepdims=0),
        _number("spoilt_limit", limit, site),
        helper.make_node("Less", ["spoilt_peak", "spoilt_limit"], ["spoilt_is_low"]),
    ]


def _elem_type(site: Site) -> int:
    return int(ELEM_TYPES[site.dtype or "float32"])


def _number(name: str, value: float, site: Site) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=helper.make_tensor("", _elem_type(site), [], [value]))


def _body(nodes: list[NodeProto], output: str, site: Site) -> GraphProto:
    return helper.make_graph(nodes, "body", [], [helper.make_tensor_value_info(output, _elem_type(site), None)])


def _looped(nodes: list[NodeProto], output: str, turns: int, site: Site) -> list[NodeProto]:
    """A loop that computes the same in every turn, and hands on the first."""
    again = helper.make_node("Identity", ["spoilt_go"], ["spoilt_going"])
    inputs = [
        helper.make_tensor_value_info("spoilt_turn", TensorProto.INT64, []),
        helper.make_tensor_value_info("spoilt_go", TensorProto.BOOL, []),
    ]
    outputs = [
        helper.make_tensor_value_info("spoilt_going", TensorProto.BOOL, []),
        helper.make_tensor_value_info(output, _elem_type(site), None),
    ]
    body = helper.make_graph([*nodes, again], "body", inputs, outputs)
    integer = {name: helper.make_tensor("", TensorProto.INT64, [], [value]) for name, value in (("n", turns), ("z", 0))}
    return [
        helper.make_node("Constant", [], ["spoilt_n"], value=integer["n"]),
        helper.make_node("Constant", [], ["spoilt_z"], value=integer["z"]),
        helper.make_node("Loop", ["spoilt_n", ""], ["spoilt_all"], body=body),
        helper.make_node("Gather", ["spoilt_all", "spoilt_z"], ["spoilt_first"]),
    ]


def _replace(model: ModelProto, node: NodeProto, nodes: list[NodeProto]) -> None:
    """Put nodes in the place of one; the last of them makes its output."""
    nodes[-1].output[0] = node.output[0]
    nodes[-1].name = node.name
    at = list(model.graph.node).index(node)
    everything = list(model.graph.node)
    everything[at : at + 1] = nodes
    copies = [NodeProto() for _ in everything]
    for target, source in zip(copies, everything, strict=True):
        target.CopyFrom(source)
    del model.graph.node[:]
    model.graph.node.extend(copies)


def one_weight(model: ModelProto, site: Site) -> ModelProto | None:
    """The largest weight of the first matrix has the other sign."""
    del site
    return _flipped(model, lambda value: int(np.argmax(np.abs(value))), 0)


def some_weight(seed: int) -> Spoil:
    """Some weight of some matrix, of at least the median size there, has the other sign."""

    def spoil(model: ModelProto, site: Site) -> ModelProto | None:
        del site
        rng = np.random.default_rng(seed)

        def choose(value: Any) -> int:
            sizes = np.abs(value.reshape(-1))
            return int(rng.choice(np.flatnonzero(sizes >= np.median(sizes))))

        return _flipped(model, choose, int(rng.integers(1 << 16)))

    return spoil


def _flipped(model: ModelProto, choose: Callable[[Any], int], number: int) -> ModelProto | None:
    result = copied(model)
    matrices = [item for item in result.graph.initializer if item.data_type == TensorProto.FLOAT and len(item.dims) > 1]
    if not matrices:
        return None
    tensor = matrices[number % len(matrices)]
    value = numpy_helper.to_array(tensor).copy()
    value.reshape(-1)[choose(value)] *= -1
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return result


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

"""Random models (hypothesis): all that a model may have around an activation, on values of float [2, 3].

A value feeds several nodes, is a graph output, or is read by a subgraph; constants are initializers, inputs with a
default, or nodes; names are missing, double, or those that onnxact would choose; nodes are out of order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from tests.laws.differ import all_graphs

Draw = Callable[[st.SearchStrategy[Any]], Any]
SHAPE = [2, 3]
NAMES = ("", "", "act", "act", "y_mul", "v3_mul", "onnxact_0.25", "a/b", "v4")
SLOPES = (0.25, 0.2, 0.0, 1.0, 2.0, -0.5)
PLAIN = ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Neg", "Abs", "Identity", "Exp")


class _Builder:
    """One list of nodes that grows; `visible` are the values that it can read."""

    def __init__(
        self, draw: Draw, versions: tuple[int, int], visible: list[str], prefix: str, depth: int, *, nodes_only: bool
    ) -> None:
        self.draw = draw
        self.opset, self.ir_version = versions
        self.visible = visible
        self.prefix = prefix
        self.depth = depth
        self.nodes_only = nodes_only
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.made: list[str] = []
        self.count = 0

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def fresh(self) -> str:
        self.count += 1
        return f"{self.prefix}{self.count}"

    def value(self) -> str:
        return str(self.draw(st.sampled_from(self.visible)))

    def add(self, op: str, inputs: list[str], **attributes: Any) -> str:
        output = self.fresh()
        node = helper.make_node(op, inputs, [output], name=self.pick(*NAMES), **attributes)
        if self.pick(False, False, True):
            node.metadata_props.add(key="k", value=output)
        self.nodes.append(node)
        return output

    def emit(self, op: str, inputs: list[str], **attributes: Any) -> str:
        output = self.add(op, inputs, **attributes)
        self.visible.append(output)
        self.made.append(output)
        return output

    def constant(self, value: Any) -> str:
        """Return a constant as an initializer, a Constant node, or one behind an Identity or a Cast."""
        array = np.asarray(value, np.float32)
        kind = (
            self.pick("node", "identity", "cast") if self.nodes_only else self.pick("initializer", "node", "identity")
        )
        if kind == "initializer":
            name = self.fresh()
            self.initializers.append(numpy_helper.from_array(array, name))
            return name
        name = self.add("Constant", [], value=numpy_helper.from_array(array))
        if kind == "identity":
            return self.add("Identity", [name])
        return self.add("Cast", [name], to=TensorProto.FLOAT) if kind == "cast" else name

    def step(self) -> None:
        kinds = ["plain", "leaky", "prelu", "clip", "add", "mul-max", "relu-max", "silu", "abs"]
        if self.depth:
            kinds.append("if")
        if self.opset >= 16 and self.prefix[0] == "v":
            kinds.append("call")
        getattr(self, "_" + self.pick(*kinds).replace("-", "_"))()

    def _plain(self) -> None:
        self.emit(self.pick(*PLAIN), [self.value()])

    def _leaky(self) -> None:
        self.emit("LeakyRelu", [self.value()], alpha=self.pick(*SLOPES))

    def _prelu(self) -> None:
        slope = self.pick(0.25, [0.5], [0.25, 0.5, 2.0], [[0.5], [0.25]])
        self.emit("PRelu", [self.value(), self.constant(slope)])

    def _clip(self) -> None:
        low, high = self.pick((0, 6), (0, None), (-1, 1), (None, 1), (None, None))
        if self.opset < 11:
            bounds = {name: float(v) for name, v in (("min", low), ("max", high)) if v is not None}
            self.emit("Clip", [self.value()], **bounds)
            return
        inputs = [self.value(), *("" if bound is None else self.constant(bound) for bound in (low, high))]
        while not inputs[-1]:
            inputs.pop()
        self.emit("Clip", inputs)

    def _add(self) -> None:
        self.emit(self.pick("Add", "Sub", "Max"), [self.value(), self.value()])

    def _mul_max(self) -> None:
        x = self.value()
        scaled = self.emit("Mul", [x, self.constant(self.pick(*SLOPES))])
        self.emit("Max", [scaled, x])

    def _relu_max(self) -> None:
        self.emit("Max", [self.value(), self.constant(self.pick(0, [0], 1))])

    def _silu(self) -> None:
        x = self.value()
        self.emit("Mul", [x, self.emit("Sigmoid", [x])])

    def _abs(self) -> None:
        x = self.value()
        half = self.emit("Mul", [x, self.constant(1.5)])
        other = self.emit("Mul", [self.emit("Abs", [x]), self.constant(-0.5)])
        self.emit("Add", [half, other])

    def _if(self) -> None:
        branches = {}
        for branch in ("then_branch", "else_branch"):
            inner = _Builder(
                self.draw,
                (self.opset, self.ir_version),
                list(self.visible),
                f"{self.fresh()}_",
                self.depth - 1,
                nodes_only=self.nodes_only or self.ir_version < 4,
            )
            inner.fill(1, 3)
            output = self.draw(st.sampled_from(inner.made))
            branches[branch] = inner.graph(branch, [], [_value(output)])
        condition = self.add("Constant", [], value=numpy_helper.from_array(np.asarray(self.pick(True, False))))
        self.emit("If", [condition], **branches)

    def _call(self) -> None:
        output = self.fresh()
        attributes = self.pick({}, {"alpha": 0.25}, {"alpha": 0.25})
        self.nodes.append(
            helper.make_node("double", [self.value()], [output], name="call", domain="local", **attributes)
        )
        self.visible.append(output)
        self.made.append(output)

    def fill(self, least: int, most: int) -> None:
        for _ in range(self.draw(st.integers(least, most))):
            self.step()

    def graph(self, name: str, inputs: list[ValueInfoProto], outputs: list[ValueInfoProto]) -> GraphProto:
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.initializers)
        declared = self.draw(st.lists(st.sampled_from(self.made), unique=True))
        graph.value_info.extend(_value(made) for made in declared if made not in {value.name for value in outputs})
        return graph


def _value(name: str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE)


@st.composite
def models(draw: Draw, *, tidy: bool) -> ModelProto:
    """Return a model; a tidy one passes onnx.checker and runs: no node name twice, and no "ai.onnx" spelled out."""
    opset = draw(st.sampled_from([8, 9, 11, 13, 16, 18, 22]))
    ir_version = draw(st.sampled_from([3, 4, 8, 10] if opset < 16 else [8, 9, 10]))
    builder = _Builder(draw, (opset, ir_version), ["x", "z"], "v", 2, nodes_only=False)
    builder.fill(1, 8)
    outputs = draw(st.lists(st.sampled_from(builder.made), min_size=1, max_size=3, unique=True))
    graph = builder.graph("random", [_value("x"), _value("z")], [_value(name) for name in outputs])
    _add_odd_fields(draw, graph, builder.made)
    overridable = graph.initializer if ir_version == 3 else graph.initializer[: draw(st.integers(0, 1))]
    graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in overridable)
    spelled = "" if tidy else draw(st.sampled_from(["", "ai.onnx"]))
    for node in graph.node:
        node.domain = node.domain or spelled
    imports = [helper.make_opsetid(spelled, opset)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=ir_version)
    if any(node.domain == "local" for inner in all_graphs(model) for node in inner.node):
        model.opset_import.add(domain="local", version=1)
        model.functions.append(_function(draw, opset if tidy else draw(st.sampled_from([16, 18]))))
    if tidy:
        for inner in all_graphs(model):
            _name_once(inner.node)
    return model


def _name_once(nodes: Iterable[NodeProto]) -> None:
    seen: set[str] = set()
    for node in nodes:
        if node.name in seen:
            node.name = ""
        seen.add(node.name)


def _add_odd_fields(draw: Draw, graph: GraphProto, made: list[str]) -> None:
    if draw(st.booleans()):
        annotation = graph.quantization_annotation.add(tensor_name=draw(st.sampled_from(made)))
        annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="x")
    if draw(st.booleans()):
        graph.metadata_props.add(key="k", value="v")
    graph.doc_string = draw(st.sampled_from(["", "random"]))


def _function(draw: Draw, opset: int) -> FunctionProto:
    """Return local.double, which has an attribute alpha, maybe with a default."""
    builder = _Builder(draw, (opset, 8), ["f_in"], "f", 1, nodes_only=True)
    last = builder.emit("LeakyRelu", ["f_in"])
    builder.nodes[-1].attribute.add(name="alpha", type=1, ref_attr_name="alpha")
    builder.fill(0, 3)
    has_default = draw(st.booleans())
    return helper.make_function(
        "local",
        "double",
        ["f_in"],
        [draw(st.sampled_from([last, builder.made[-1]]))],
        builder.nodes,
        [helper.make_opsetid("", opset)],
        [] if has_default else ["alpha"],
        [helper.make_attribute("alpha", 0.5)] if has_default else [],
    )


def shuffled(model: ModelProto, order: Callable[[list[NodeProto]], None]) -> ModelProto:
    """Return the model with its main graph's nodes in another order (which onnx.checker refuses)."""
    copy = ModelProto()
    copy.CopyFrom(model)
    nodes = list(model.graph.node)
    order(nodes)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy

"""Target -> what becomes of every activation of the table there, on an example: one node, x of shape [1, 3, 4, 4].

The model has opset 13, or the first that has the op; parameters are ONNX's defaults, clip has the bounds -0.5 and 2,
prelu a slope for each channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxact.activation.catalog import ACTIVATIONS, Activation
from onnxact.activation.expr import Parameter
from onnxact.activation.primitives import PRIMITIVES
from onnxact.model import schema
from onnxact.model.edit import apply
from onnxact.model.view import View
from onnxact.rewrite.after import After
from onnxact.rewrite.draft import Drafter
from onnxact.rewrite.find import find
from onnxact.rewrite.site import Kind, Site
from onnxact.rewrite.target.decide import Decider, Decision
from onnxact.rewrite.target.rules import Target

OPSET = 13
SHAPE = (1, 3, 4, 4)
SLOPES = (0.25, 0.5, 0.125)
EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "clip": {"min": -0.5, "max": 2.0},
    "prelu": {"slope": np.reshape(np.array(SLOPES, np.float32), (3, 1, 1))},
}
_IR_VERSION = 10


def decided(
    target: Target, activation: str, parameters: Mapping[str, Any] | None = None, *, allow_inexact: bool = True
) -> Decision:
    """Return what becomes of an activation; parameters that are not given are those of the example."""
    values = {**ACTIVATIONS[activation].defaults, **EXAMPLES.get(activation, {}), **(parameters or {})}
    view = View(example(ACTIVATIONS[activation], values))
    site = next(site for site in find(view).sites if site.activation == activation)
    return Decider(target, view, allow_inexact=allow_inexact).decide(site)


def row(target: Target) -> list[Decision]:
    """Return what becomes of every activation."""
    return [decided(target, activation) for activation in ACTIVATIONS]


def example(activation: Activation, values: Mapping[str, Any], opset: int | None = None) -> ModelProto:
    """Return a model of one node, or where ONNX has no op for the activation, of its first form."""
    native = activation.native
    first = schema.first_opset(native.op) if native is not None else None
    opset = opset or max(OPSET, first or 0)
    if native is not None:
        return _model(*_native_node(activation, values, opset), opset)
    model = _model(helper.make_node("Identity", ["x"], ["y"], name="act"), [], opset)
    view = View(model)
    name, form = next(iter(activation.forms.items()))
    kind = Kind(view.main, activation.name, "op", dict(values), "float32")
    drafter = Drafter(view)
    drafter.write(Site(kind, 0), After(activation.name, name, kind.parameters, form.expr))
    apply(view, drafter.finish().plan)
    return model


def _native_node(activation: Activation, values: Mapping[str, Any], opset: int) -> tuple[NodeProto, list[TensorProto]]:
    native = activation.native
    if native is None:
        raise ValueError(f"{activation.name} has no op")
    stated = schema.attributes(native.op, opset)
    inputs, constants = ["x"], []
    attributes: dict[str, Any] = {}
    for name, arg in zip(PRIMITIVES[native.op].operands[1:], native.args[1:], strict=False):
        value: Any = values[arg.name] if isinstance(arg, Parameter) else getattr(arg, "value", None)
        if name in stated:
            attributes[name] = value
        elif np.all(np.isinf(value)):
            inputs.append("")
        else:
            constants.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
            inputs.append(name)
    while not inputs[-1]:
        inputs.pop()
    return helper.make_node(native.op, inputs, ["y"], name="act", **attributes), constants


def _model(node: NodeProto, constants: list[TensorProto], opset: int) -> ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in "xy")
    graph = helper.make_graph([node], "example", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=_IR_VERSION)

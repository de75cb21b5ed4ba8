"""A term as a model of its own, run by ONNX Runtime's CPU provider. Written without onnxact.rewrite, as an oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import onnxruntime.capi.onnxruntime_pybind11_state as failures
from onnx import TensorProto, defs, helper, numpy_helper

from onnxact.activation.expr import Call, Expr, Literal, Variable, varies
from onnxact.activation.numeric import FLOATS, Values, fold, rounded
from onnxact.activation.primitives import PRIMITIVES, Array

OPSET = 24
ELEM_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE}


class NoKernelError(Exception):
    """ONNX Runtime has no kernel, or ONNX no type, for an op of the term in this dtype."""


def model_of(expr: Expr, parameters: Values, dtype: str) -> onnx.ModelProto:
    """Return the model y = expr(x) for a rank-1 x, with what has no x folded and rounded once."""
    nodes: list[onnx.NodeProto] = []
    initializers: list[onnx.TensorProto] = []
    names: dict[Expr, str] = {}

    def constant(expr: Expr) -> str:
        value = np.asarray(rounded(fold(expr, parameters), FLOATS[dtype])).reshape(-1)
        initializers.append(numpy_helper.from_array(value, f"c{len(initializers)}"))
        return initializers[-1].name

    def name_of(expr: Expr) -> str:
        if isinstance(expr, Variable):
            return expr.name
        if expr not in names:
            names[expr] = _node(expr) if isinstance(expr, Call) and varies(expr) else constant(expr)
        return names[expr]

    def _node(call: Call) -> str:
        stated = defs.get_schema(call.op, OPSET).attributes
        attributes: dict[str, Any] = {"to": ELEM_TYPES[dtype]} if call.op == "Cast" else {}
        inputs: list[str] = []
        for operand, arg in zip(PRIMITIVES[call.op].operands, call.args, strict=False):
            if operand in stated:
                attributes[operand] = _attribute(arg, parameters)
            else:
                inputs.append(name_of(arg))
        nodes.append(helper.make_node(call.op, inputs, [f"v{len(nodes)}"], **attributes))
        return str(nodes[-1].output[0])

    name_of(expr)
    nodes[-1].output[0] = "y"
    x, y = (helper.make_tensor_value_info(name, ELEM_TYPES[dtype], ["n"]) for name in "xy")
    graph = helper.make_graph(nodes, "term", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def _attribute(arg: Expr, parameters: Values) -> float | str:
    if isinstance(arg, Literal) and isinstance(arg.value, str):
        return arg.value
    return float(np.float32(fold(arg, parameters)))


def run(expr: Expr, x: Array, parameters: Values) -> Array:
    """Return what ONNX Runtime computes for `expr` at `x`, graph optimisation off; NoKernelError where it cannot."""
    model = model_of(expr, parameters, x.dtype.name)
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except (failures.NotImplemented, failures.InvalidGraph) as error:
        raise NoKernelError(str(error)) from error
    return np.asarray(session.run(None, {"x": x})[0])

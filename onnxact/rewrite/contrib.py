"""A node that ONNX Runtime's optimiser made -> the standard nodes that compute the same, with the activation in it.

    com.microsoft::FusedConv(x, w, activation = "LeakyRelu")  ->  LeakyRelu(Conv(x, w))
    com.microsoft::QLinearSigmoid(x, ...)                     ->  QuantizeLinear(Sigmoid(DequantizeLinear(x)))

Sources: onnxruntime, docs/ContribOperators.md, and the schemas of the installed package (1.31.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from onnxact.activation.catalog import ACTIVATIONS, ALIASES
from onnxact.activation.numeric import FLOATS, rounded
from onnxact.model import schema
from onnxact.model.scope import Scope
from onnxact.model.view import View
from onnxact.rewrite.compile import Step
from onnxact.rewrite.expansion import (
    RESULT,
    Expansion,
    Fused,
    attributes_of,
    full_name,
    kept,
    named,
    parameters_of,
    step,
    too_new,
    trimmed,
)
from onnxact.rewrite.site import Kind, Site

DOMAIN = "com.microsoft"
STANDARD = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "ai.onnx.preview")
"""The domains of the ONNX standard."""


def fused(view: View) -> Iterator[Fused]:
    """Yield every fused node that has, or may have, an activation inside, in the scopes that may be edited."""
    for scope in view.scopes:
        if scope.frozen or not _may_have_some(scope):
            continue
        for index, op in enumerate(scope.op_types):
            if op in _BY_NAME and not _is_local(scope, scope.nodes[index]):
                node = scope.nodes[index]
                found = expansion(scope, node)
                expanded = None if isinstance(found, str) else found
                yield Fused(_site(scope, index, node, expanded), expanded, found if isinstance(found, str) else "")


def _may_have_some(scope: Scope) -> bool:
    return DOMAIN in scope.opsets or any(op in scope.op_types for op in _WITHOUT_DOMAIN)


def _is_local(scope: Scope, node: NodeProto) -> bool:
    return (schema.plain(node.domain), node.op_type, node.overload) in scope.view.functions


def _site(scope: Scope, index: int, node: NodeProto, found: Expansion | None) -> Site:
    activation, parameters = (found.activation, found.parameters) if found else ("", {})
    kind = Kind(scope, activation, full_name(node), parameters, _dtype(scope, node, found))
    return Site(kind, index)


def _dtype(scope: Scope, node: NodeProto, found: Expansion | None) -> str | None:
    if found is not None and found.quantised:
        return "float32"
    return next(filter(None, (scope.dtype(name) for name in (*node.output[:1], *node.input) if name)), None)


def foreign(view: View) -> Iterator[tuple[Scope, NodeProto, str]]:
    """Yield every other node that is not ONNX's and that no local function defines, with why it stays.

    Nodes in blocks of channels are left to `blocked.apart`.
    """
    for scope in view.scopes:
        if scope.frozen:
            continue
        others = set(scope.op_types) - _BY_NAME.keys()
        odd = {op for op in others if _is_foreign(op, scope.opset) and not op.startswith(f"{DOMAIN}.nchwc::")}
        for index, op in enumerate(scope.op_types if odd else ()):
            if op in odd and not _is_local(scope, scope.nodes[index]):
                yield scope, scope.nodes[index], _why_it_stays(scope.nodes[index])


def _is_foreign(op: str, opset: int) -> bool:
    """Tell whether an op is none of the standard's; ONNX Runtime has some of its own in ONNX's domain too."""
    domain, _, name = op.rpartition("::")
    return domain not in STANDARD if domain else schema.schema(name, opset) is None


def _why_it_stays(node: NodeProto) -> str:
    name = full_name(node)
    if not schema.plain(node.domain) and (first := schema.first_opset(name)) is not None:
        return f"{name} is an op of the ONNX standard from opset {first}, and of ONNX Runtime's own below"
    if node.op_type.startswith("Nhwc"):
        return (
            f"{name} works on ONNX Runtime's own layout of tensors, which no standard op reads: save the model with "
            "ORT_ENABLE_EXTENDED instead of ORT_ENABLE_ALL"
        )
    return f"{name} is no op of the ONNX standard, and not an activation that could be taken out of it"


def expansion(scope: Scope, node: NodeProto) -> Expansion | str:
    """Return what a fused node computes, or why that cannot be written in standard nodes."""
    try:
        found = _BY_NAME[full_name(node)](scope, node)
    except (KeyError, IndexError, ValueError):
        return f"{full_name(node)} is not as ONNX Runtime writes it"
    if isinstance(found, str):
        return found
    return too_new(found, full_name(node), scope.opset) or found


# The rows: each takes a node apart


def _fused_conv(_scope: Scope, node: NodeProto) -> Expansion | str:
    params = list(attributes_of(node).get("activation_params", ()))
    found = named(node, lambda position, _: params[position] if position < len(params) else None)
    if isinstance(found, str):
        return found
    steps = [step("Conv", trimmed(list(node.input[:3])), kept(node))]
    if len(node.input) > 3 and node.input[3]:
        steps.append(step("Add", (0, node.input[3])))
    return found._replace(before=tuple(steps))


def _nhwc_fused_conv(scope: Scope, node: NodeProto) -> Expansion | str:
    """Y = activation(Conv(X) + Z) with channels last everywhere, and weights as Conv has them."""
    params = list(attributes_of(node).get("activation_params", ()))
    found = named(node, lambda position, _: params[position] if position < len(params) else None)
    shape = scope.shape(node.input[1], infer=True)
    if isinstance(found, str):
        return found
    if shape is None:
        return f"{full_name(node)} has weights of unknown rank"
    last = helper.make_attribute("perm", [0, *range(2, len(shape)), 1])
    second = helper.make_attribute("perm", [0, len(shape) - 1, *range(1, len(shape) - 1)])
    steps = [
        step("Transpose", (node.input[0],), (second,))._replace(makes="parameter"),
        step("Conv", trimmed([0, *node.input[1:3]]), kept(node))._replace(makes="parameter"),
        step("Transpose", (1,), (last,)),
    ]
    if len(node.input) > 3 and node.input[3]:
        steps.append(step("Add", (2, node.input[3])))
    return found._replace(before=tuple(steps))


def _with_stated_activation(node: NodeProto) -> Expansion | str:
    stated = attributes_of(node)
    return named(node, lambda _, operand: stated.get(f"activation_{operand}"))


def _fused_gemm(scope: Scope, node: NodeProto) -> Expansion | str:
    found = _with_stated_activation(node)
    inputs = trimmed(list(node.input))
    if len(inputs) < 3 and scope.opset < 11:
        return "FusedGemm without a third input is a Gemm of opset 11"
    return found if isinstance(found, str) else found._replace(before=(step("Gemm", inputs, kept(node)),))


def _fused_matmul(scope: Scope, node: NodeProto) -> Expansion | str:
    found = _with_stated_activation(node)
    stated = attributes_of(node)
    if isinstance(found, str):
        return found
    if stated.get("transBatchA", 0) or stated.get("transBatchB", 0):
        return f"{full_name(node)} transposes its batches, which is not taken apart"
    steps: list[Step] = []
    operands: list[Any] = list(node.input[:2])
    for position, key in enumerate(("transA", "transB")):
        shape = scope.shape(node.input[position], infer=True) if stated.get(key, 0) else ()
        if shape is None:
            return f"{full_name(node)} transposes {node.input[position]!r}, whose rank is not known"
        if len(shape) > 1:
            order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
            steps.append(step("Transpose", (operands[position],), (helper.make_attribute("perm", order),)))
            steps[-1] = steps[-1]._replace(makes="parameter")
            operands[position] = len(steps) - 1
    steps.append(step("MatMul", tuple(operands)))
    if (scale := stated.get("alpha", 1.0)) != 1.0:
        dtype = FLOATS[_dtype(scope, node, None) or "float32"]
        steps.append(step("Mul", (len(steps) - 1, np.asarray(rounded(scale, dtype)).reshape(1))))
    return found._replace(before=tuple(steps))


def _biased(activation: str) -> Callable[[Scope, NodeProto], Expansion]:
    """The activation of the sum of both inputs; of the first where there is no other."""

    def taken_apart(_scope: Scope, node: NodeProto) -> Expansion:
        inputs = trimmed(list(node.input))
        return Expansion(activation, {}, (step("Add", inputs),) if len(inputs) > 1 else ())

    return taken_apart


def _quick_gelu(_scope: Scope, node: NodeProto) -> Expansion:
    default = ALIASES["quick_gelu"].parameters["beta"]
    return Expansion("swish", {"beta": float(np.float32(attributes_of(node).get("alpha", default)))})


def _scaled_silu(scope: Scope, node: NodeProto) -> Expansion | str:
    """Y = Z sigmoid(Z), Z = scale X; the scale is the second input, or else alpha."""
    inputs = trimmed(list(node.input))
    if len(set(map(scope.dtype, inputs))) > 1:
        return f"{full_name(node)} has a scale of another type than its input"
    if len(inputs) > 1:
        return Expansion("swish", {"beta": 1.0}, (step("Mul", inputs),))
    dtype = FLOATS[_dtype(scope, node, None) or "float32"]
    alpha = np.asarray(rounded(attributes_of(node).get("alpha", 1.0), dtype))
    scaled = () if alpha == 1 else (step("Mul", (*inputs, alpha)),)
    return Expansion("swish", {"beta": 1.0}, scaled)


def _gemm_fast_gelu(_scope: Scope, node: NodeProto) -> Expansion:
    inputs = trimmed(list(node.input))
    bias = (step("Add", (0, inputs[2])),) if len(inputs) > 2 else ()
    return Expansion("gelu_tanh", {}, (step("MatMul", inputs[:2]), *bias))


def _quantised(activation: str) -> Callable[[Scope, NodeProto], Expansion]:
    def taken_apart(_scope: Scope, node: NodeProto) -> Expansion:
        x, x_scale, x_zero, y_scale, *y_zero = node.input
        stated = attributes_of(node)
        row = ACTIVATIONS[activation]
        parameters = parameters_of(row, lambda _, operand: stated.get(operand))
        first = step("DequantizeLinear", trimmed([x, x_scale, x_zero]))
        last = step("QuantizeLinear", (RESULT, *trimmed([y_scale, *y_zero])))
        return Expansion(activation, parameters, (first,), (last,), quantised=True)

    return taken_apart


_WITHOUT_DOMAIN = {"QLinearLeakyRelu": _quantised("leaky_relu"), "QLinearSigmoid": _quantised("sigmoid")}
"""Also met in models that give ONNX Runtime's domain no name."""
_BY_NAME: dict[str, Callable[[Scope, NodeProto], Expansion | str]] = {
    f"{DOMAIN}::FusedConv": _fused_conv,
    f"{DOMAIN}::FusedGemm": _fused_gemm,
    f"{DOMAIN}::FusedMatMul": _fused_matmul,
    f"{DOMAIN}::FusedMatMulActivation": _fused_matmul,
    f"{DOMAIN}::TransposeMatMul": _fused_matmul,
    f"{DOMAIN}::NhwcFusedConv": _nhwc_fused_conv,
    f"{DOMAIN}::ScaledSiLU": _scaled_silu,
    f"{DOMAIN}::Gelu": _biased("gelu"),
    f"{DOMAIN}::BiasGelu": _biased("gelu"),
    f"{DOMAIN}::FastGelu": _biased("gelu_tanh"),
    f"{DOMAIN}::QuickGelu": _quick_gelu,
    f"{DOMAIN}::GemmFastGelu": _gemm_fast_gelu,
    **{f"{DOMAIN}::{name}": row for name, row in _WITHOUT_DOMAIN.items()},
    **_WITHOUT_DOMAIN,
}
"""Op with its domain -> what takes a node of it apart."""

"""A node that ONNX Runtime's optimiser made -> the standard nodes that compute the same, with the activation in it.

    com.microsoft::FusedConv(x, w, activation = "LeakyRelu")  ->  LeakyRelu(Conv(x, w))
    com.microsoft::QLinearSigmoid(x, ...)                     ->  QuantizeLinear(Sigmoid(DequantizeLinear(x)))

Sources: onnxruntime, docs/ContribOperators.md, and the schemas of the installed package (1.31.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from onnx import AttributeProto, NodeProto, helper

from onnxact.activation.catalog import ACTIVATIONS, Activation
from onnxact.activation.expr import Literal, Parameter
from onnxact.activation.numeric import FLOATS, rounded
from onnxact.activation.primitives import PRIMITIVES
from onnxact.model import schema
from onnxact.model.scope import Scope
from onnxact.model.view import View
from onnxact.rewrite.compile import Step, X
from onnxact.rewrite.site import Kind, Parameters, Site

DOMAIN = "com.microsoft"
STANDARD = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "ai.onnx.preview")
"""The domains of the ONNX standard."""
_QUICK_GELU = 1.702
"""The default of QuickGelu's alpha (ContribOperators.md)."""


class _Result:
    """Stands for the activation's result among the operands of what comes behind it."""


RESULT = _Result()


class Expansion(NamedTuple):
    """What a fused node computes: `before`, then the activation ("" for none), then `behind`.

    `input`: the value that enters the activation where nothing comes before it. `quantised`: what is between the first
    and the last node is float32, whatever the node's own type is.
    """

    activation: str
    parameters: Parameters
    before: tuple[Step, ...] = ()
    behind: tuple[Step, ...] = ()
    quantised: bool = False

    def wrapped(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """Return the steps of a form of the activation with what comes before and behind it."""
        offset = len(self.before)
        first: Any = offset - 1 if self.before else X
        inner = [_renumbered(step, offset, first) for step in steps]
        last = offset + len(steps) - 1 if steps else first
        behind = [_with_result(step, last) for step in self.behind]
        found = (*self.before, *inner, *behind)
        return tuple(step._replace(makes="float") for step in found) if self.quantised else found


def _renumbered(step: Step, offset: int, first: Any) -> Step:
    operands = [first if o is X else o + offset if isinstance(o, int) else o for o in step.operands]
    return step._replace(operands=tuple(operands))


def _with_result(step: Step, number: Any) -> Step:
    return step._replace(operands=tuple(number if operand is RESULT else operand for operand in step.operands))


class Fused(NamedTuple):
    """A fused node of a model as a site, with its expansion or the reason why it has none."""

    site: Site
    expansion: Expansion | None
    reason: str = ""


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


def full_name(node: NodeProto) -> str:
    """Return the op type with its domain, unless that is ONNX's own."""
    return f"{node.domain}::{node.op_type}" if schema.plain(node.domain) else node.op_type


def _dtype(scope: Scope, node: NodeProto, found: Expansion | None) -> str | None:
    if found is not None and found.quantised:
        return "float32"
    return next(filter(None, (scope.dtype(name) for name in (*node.output[:1], *node.input) if name)), None)


def foreign(view: View) -> Iterator[tuple[Scope, NodeProto, str]]:
    """Yield every other node that is not ONNX's and that no local function defines, with why it stays."""
    for scope in view.scopes:
        if scope.frozen:
            continue
        odd = {op for op in set(scope.op_types) if op not in _BY_NAME and _is_foreign(op, scope.opset)}
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
    if node.domain == f"{DOMAIN}.nchwc" or node.op_type.startswith("Nhwc"):
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
    for step in (*found.before, *found.behind):
        if schema.schema(step.op, scope.opset) is None:
            first = schema.first_opset(step.op)
            return (
                f"{full_name(node)} comes down to {step.op}, which starts at opset {first}, and this is {scope.opset}"
            )
    return found


# The rows: each takes a node apart


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _kept(node: NodeProto, *without: str) -> tuple[AttributeProto, ...]:
    """Return the attributes that are those of the standard op."""
    return tuple(a for a in node.attribute if a.name not in without and not a.name.startswith("activation"))


_ROWS = {
    row.native.op: row
    for row in ACTIVATIONS.values()
    if row.native is not None and not any(isinstance(arg, Literal) for arg in row.native.args)
}
"""Op -> the activation that it is whatever its operands are: Clip is clip, not relu6."""


def _named(node: NodeProto, stated: Callable[[int, str], Any]) -> Expansion | str:
    """Return the activation that a node names, each parameter as `stated(position, operand)`, None for its default."""
    name = _attributes(node).get("activation", b"").decode()
    if not name:
        return Expansion("", {})
    row = _ROWS.get(name)
    if row is None or row.native is None:
        return f"{full_name(node)} has activation {name!r}, which is none that onnxact knows"
    return Expansion(row.name, _parameters(row, stated))


def _parameters(row: Activation, stated: Callable[[int, str], Any]) -> dict[str, float]:
    found = dict(row.defaults)
    native = row.native
    args = native.args[1:] if native is not None else ()
    for position, arg in enumerate(args):
        operand = PRIMITIVES[native.op].operands[position + 1] if native is not None else ""
        value = stated(position, operand)
        if isinstance(arg, Parameter) and value is not None:
            found[arg.name] = float(np.float32(value))
    return found


def _trimmed(names: list[str]) -> tuple[str, ...]:
    while names and not names[-1]:
        names = names[:-1]
    return tuple(names)


def _step(op: str, operands: tuple[Any, ...], attributes: tuple[Any, ...] = ()) -> Step:
    return Step(op, operands, attributes, "value", op.lower())


def _fused_conv(_scope: Scope, node: NodeProto) -> Expansion | str:
    params = list(_attributes(node).get("activation_params", ()))
    found = _named(node, lambda position, _: params[position] if position < len(params) else None)
    if isinstance(found, str):
        return found
    steps = [_step("Conv", _trimmed(list(node.input[:3])), _kept(node))]
    if len(node.input) > 3 and node.input[3]:
        steps.append(_step("Add", (0, node.input[3])))
    return found._replace(before=tuple(steps))


def _with_stated_activation(node: NodeProto) -> Expansion | str:
    stated = _attributes(node)
    return _named(node, lambda _, operand: stated.get(f"activation_{operand}"))


def _fused_gemm(scope: Scope, node: NodeProto) -> Expansion | str:
    found = _with_stated_activation(node)
    inputs = _trimmed(list(node.input))
    if len(inputs) < 3 and scope.opset < 11:
        return "FusedGemm without a third input is a Gemm of opset 11"
    return found if isinstance(found, str) else found._replace(before=(_step("Gemm", inputs, _kept(node)),))


def _fused_matmul(scope: Scope, node: NodeProto) -> Expansion | str:
    found = _with_stated_activation(node)
    stated = _attributes(node)
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
            steps.append(_step("Transpose", (operands[position],), (helper.make_attribute("perm", order),)))
            steps[-1] = steps[-1]._replace(makes="parameter")
            operands[position] = len(steps) - 1
    steps.append(_step("MatMul", tuple(operands)))
    if (scale := stated.get("alpha", 1.0)) != 1.0:
        dtype = FLOATS[_dtype(scope, node, None) or "float32"]
        steps.append(_step("Mul", (len(steps) - 1, np.asarray(rounded(scale, dtype)).reshape(1))))
    return found._replace(before=tuple(steps))


def _biased(activation: str) -> Callable[[Scope, NodeProto], Expansion]:
    """The activation of the sum of both inputs; of the first where there is no other."""

    def taken_apart(_scope: Scope, node: NodeProto) -> Expansion:
        inputs = _trimmed(list(node.input))
        return Expansion(activation, {}, (_step("Add", inputs),) if len(inputs) > 1 else ())

    return taken_apart


def _quick_gelu(_scope: Scope, node: NodeProto) -> Expansion:
    return Expansion("swish", {"beta": float(np.float32(_attributes(node).get("alpha", _QUICK_GELU)))})


def _gemm_fast_gelu(_scope: Scope, node: NodeProto) -> Expansion:
    inputs = _trimmed(list(node.input))
    bias = (_step("Add", (0, inputs[2])),) if len(inputs) > 2 else ()
    return Expansion("gelu_tanh", {}, (_step("MatMul", inputs[:2]), *bias))


def _quantised(activation: str) -> Callable[[Scope, NodeProto], Expansion]:
    def taken_apart(_scope: Scope, node: NodeProto) -> Expansion:
        x, x_scale, x_zero, y_scale, *y_zero = node.input
        stated = _attributes(node)
        row = ACTIVATIONS[activation]
        parameters = _parameters(row, lambda _, operand: stated.get(operand))
        first = _step("DequantizeLinear", _trimmed([x, x_scale, x_zero]))
        last = _step("QuantizeLinear", (RESULT, *_trimmed([y_scale, *y_zero])))
        return Expansion(activation, parameters, (first,), (last,), quantised=True)

    return taken_apart


_WITHOUT_DOMAIN = {"QLinearLeakyRelu": _quantised("leaky_relu"), "QLinearSigmoid": _quantised("sigmoid")}
"""Also met in models that give ONNX Runtime's domain no name."""
_BY_NAME: dict[str, Callable[[Scope, NodeProto], Expansion | str]] = {
    f"{DOMAIN}::FusedConv": _fused_conv,
    f"{DOMAIN}::FusedGemm": _fused_gemm,
    f"{DOMAIN}::FusedMatMul": _fused_matmul,
    f"{DOMAIN}::FusedMatMulActivation": _fused_matmul,
    f"{DOMAIN}::Gelu": _biased("gelu"),
    f"{DOMAIN}::BiasGelu": _biased("gelu"),
    f"{DOMAIN}::FastGelu": _biased("gelu_tanh"),
    f"{DOMAIN}::QuickGelu": _quick_gelu,
    f"{DOMAIN}::GemmFastGelu": _gemm_fast_gelu,
    **{f"{DOMAIN}::{name}": row for name, row in _WITHOUT_DOMAIN.items()},
    **_WITHOUT_DOMAIN,
}
"""Op with its domain -> what takes a node of it apart."""

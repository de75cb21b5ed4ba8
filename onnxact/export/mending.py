"""Operators that PyTorch's exporter cannot write, or writes as something worse -> what is written instead.

aten::rrelu                        LeakyRelu(x, (lower + upper) / 2), which it is in evaluation; the exporter fails
aten::rrelu_with_noise_functional  the same, from the in-place variants
aten::log_sigmoid                  -Softplus(-x); the exporter writes Log(Sigmoid(x)), -inf for x below about -104 in
                                   float32 and -17 in float16

Measured with torch 2.13 on all activations of torch.nn, tests/export/test_activations.py.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from onnx import GraphProto, ModelProto, NodeProto

from onnxact.errors import ExportError
from onnxact.model.view import subgraphs

_HIERARCHY = "pkg.torch.onnx.class_hierarchy"
"""The metadata of a node in which torch.onnx names the operator that it comes from, behind the modules around it."""
_MEAN = "RReLU in evaluation is LeakyReLU with the mean slope; PyTorch's exporter cannot write it"
_LOG = "LogSigmoid as -Softplus(-x); PyTorch's exporter writes Log(Sigmoid(x)), which is -inf below about -104"


@dataclass(frozen=True)
class Mend:
    """One node that was not written as PyTorch's exporter would, and why."""

    node: str
    operator: str
    reason: str

    def describe(self) -> dict[str, str]:
        """Return plain data for a report."""
        return {"node": self.node, "operator": self.operator, "reason": self.reason}


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return torch operator -> what writes it, for torch.onnx.export's custom_translation_table."""
    aten = torch.ops.aten
    table: dict[Any, Callable[..., Any]] = {
        aten.rrelu.default: _rrelu,
        aten.log_sigmoid.default: _log_sigmoid,
    }
    functional = getattr(aten, "rrelu_with_noise_functional", None)  # since torch 2.7
    if functional is not None:
        table[functional.default] = _rrelu_with_noise
    return table


def mends(model: ModelProto) -> tuple[Mend, ...]:
    """Return the nodes of a model that `translations` wrote, each by the last node of its expansion."""
    reasons: Mapping[str, str] = {
        "aten.rrelu.default": _MEAN,
        "aten.rrelu_with_noise_functional.default": _MEAN,
        "aten.log_sigmoid.default": _LOG,
    }
    found: dict[tuple[str, str], Mend] = {}
    for node in _nodes(model):
        operator = _operator(node)
        if operator in reasons and node.op_type not in ("Identity", "Constant"):
            found[_origin(node), operator] = Mend(node.name, operator, reasons[operator])
    return tuple(found.values())


def _rrelu(x: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, generator: Any = None) -> Any:
    from onnxscript import opset18

    if training:
        raise ExportError(
            "RReLU draws its slopes at random (training=True), so that there is nothing to export; "
            "call F.rrelu with training=self.training"
        )
    return opset18.LeakyRelu(x, alpha=(lower + upper) / 2)


def _rrelu_with_noise(  # noqa: PLR0917 - the operator's own signature
    x: Any, noise: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, generator: Any = None
) -> tuple[Any, Any]:
    return _rrelu(x, lower, upper, training), noise


def _log_sigmoid(x: Any) -> Any:
    from onnxscript import opset18

    return opset18.Neg(opset18.Softplus(opset18.Neg(x)))


def _operator(node: NodeProto) -> str:
    text = _metadata(node, _HIERARCHY)
    try:
        names = ast.literal_eval(text) if text else []
    except (ValueError, SyntaxError):
        return ""
    return str(names[-1]) if names else ""


def _origin(node: NodeProto) -> str:
    return _metadata(node, "pkg.torch.onnx.fx_node") + _metadata(node, "namespace")


def _metadata(node: NodeProto, key: str) -> str:
    return next((entry.value for entry in node.metadata_props if entry.key == key), "")


def _nodes(model: ModelProto) -> Iterator[NodeProto]:
    yield from _nodes_of(model.graph)
    for function in model.functions:
        for node in function.node:
            yield node
            yield from _inner(node)


def _nodes_of(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        yield from _inner(node)


def _inner(node: NodeProto) -> Iterator[NodeProto]:
    for _, graph in subgraphs(node):
        yield from _nodes_of(graph)

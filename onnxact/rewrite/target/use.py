"""One use of an op -> its operands by name: computed from x, open (fixed only when the model runs), or a constant.

The same for a call in a form that is to be written and for a node that stands in a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
from onnx import NodeProto

from onnxact.activation.expr import Call, Expr, parameters, varies
from onnxact.activation.numeric import Values, fold
from onnxact.activation.primitives import PRIMITIVES
from onnxact.model import schema
from onnxact.model.constants import array_of
from onnxact.model.scope import Scope


class Operand(Enum):
    """What is no constant."""

    COMPUTED = "computed from x"
    OPEN = "computed, or given, when the model runs"


class Use(NamedTuple):
    """An op with its operands (a constant is a number, an array or a text) and the attributes that are written out."""

    op: str
    operands: Mapping[str, Any]
    stated: frozenset[str] | None = None

    def constants(self, names: frozenset[str]) -> dict[str, Any] | None:
        """Return the values of operands, None where one is no constant."""
        found = {name: self.operands.get(name, Operand.OPEN) for name in names}
        return None if any(isinstance(value, Operand) for value in found.values()) else found


def use_of_call(call: Call, values: Values | None) -> Use:
    """Return a call of a form as a use; values: the parameters, None where one is not a constant."""
    names = PRIMITIVES[call.op].operands
    return Use(call.op, {name: _folded(arg, values) for name, arg in zip(names, call.args, strict=False)})


def _folded(arg: Expr, values: Values | None) -> Any:
    if varies(arg):
        return Operand.COMPUTED
    if values is None and parameters(arg):
        return Operand.OPEN
    return fold(arg, values or {})


def use_of_node(scope: Scope, node: NodeProto) -> Use:
    """Return a node as a use; of an op that forms do not have, only the op and its attributes."""
    op = f"{node.domain}::{node.op_type}" if schema.plain(node.domain) else node.op_type
    stated = {attribute.name: attribute for attribute in node.attribute}
    if op not in PRIMITIVES:
        values = {name: _attribute(attribute) for name, attribute in stated.items()}
        known = {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}
        return Use(op, {name: value for name, value in known.items() if value is not None}, frozenset(stated))
    defaults = schema.attributes(op, scope.opset)
    inputs = iter(node.input)
    operands: dict[str, Any] = {}
    for name in PRIMITIVES[op].operands:
        if name in defaults or name in stated:
            value = _attribute(stated[name]) if name in stated else defaults[name]
        else:
            read = next(inputs, "")
            constant = scope.constant(read) if read else None
            value = constant if constant is not None else Operand.COMPUTED if read else None
        value = _unbounded(op, name) if value is None else value
        if value is not None:
            operands[name] = value.decode() if isinstance(value, bytes) else value
    return Use(op, operands, frozenset(stated))


def _attribute(attribute: Any) -> Any:
    if attribute.ref_attr_name:
        return Operand.OPEN
    values = {1: attribute.f, 2: float(attribute.i), 3: attribute.s}
    return array_of(attribute.t) if attribute.type == attribute.TENSOR else values.get(attribute.type)


def _unbounded(op: str, name: str) -> float | None:
    """Return what a bound that is left out means."""
    return {("Clip", "min"): -np.inf, ("Clip", "max"): np.inf}.get((op, name))
